//! `agentbus invoke`.

use agentbus::protocol::TraceParent;
use agentbus::{Bus, Context, Envelope, Error, ErrorPayload, FrameKind, Payload};

use super::client::{Client, payload};
use crate::args::Invoke;
use crate::failure::Failure;
use crate::output::Output;

pub(crate) async fn invoke(client: &Client, args: Invoke) -> Result<(), Failure> {
    let payload = payload(args.payload.as_deref())?;
    let bus = client.connect().await?;
    let call = async {
        if args.stream {
            stream(&bus, &args, payload, &client.output).await
        } else {
            client.output.payload(&single(&bus, &args, payload).await?)
        }
    };
    // Giving up here drops the call, which cancels the agent's work.
    let outcome = tokio::select! {
        outcome = call => outcome,
        () = super::serve::asked_to_stop() => Ok(()),
    };
    bus.shutdown().await;
    outcome
}

/// The context of a call from a shell: a trace of its own, and the session that was asked for.
fn context(args: &Invoke, bus: &Bus) -> Context {
    let mut context = Context::default();
    let fields = context.edit();
    fields.traceparent = bus.begin_trace().map(TraceParent::text).unwrap_or_default();
    fields.session_id = args.session.as_deref().unwrap_or_default().into();
    context
}

async fn single(bus: &Bus, args: &Invoke, payload: Option<Payload>) -> Result<Envelope, Error> {
    let mut call = bus
        .invoke_payload(args.target.as_str(), payload)
        .context(context(args, bus));
    if let Some(timeout) = args.timeout {
        call = call.timeout(timeout);
    }
    call.send().await
}

async fn stream(
    bus: &Bus,
    args: &Invoke,
    payload: Option<Payload>,
    output: &Output,
) -> Result<(), Failure> {
    let mut call = bus
        .stream_payload(args.target.as_str(), payload)
        .context(context(args, bus));
    if let Some(timeout) = args.timeout {
        call = call.idle_timeout(timeout);
    }
    let mut frames = call.send().await?;
    while let Some(frame) = frames.next().await {
        let frame = frame?;
        if let Some(error) = ErrorPayload::of(&frame) {
            return Err(Error::Remote(error).into());
        }
        if output.is_json() || frame.event_type.frame_kind() != Some(FrameKind::Started) {
            output.payload(&frame)?;
        }
    }
    Ok(())
}
