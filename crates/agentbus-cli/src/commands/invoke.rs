//! `agentbus invoke`.

use agentbus::protocol::TraceParent;
use agentbus::{
    Bus, Context, Envelope, Error, ErrorPayload, FrameKind, Payload, StreamCall, limits,
};

use super::client::{Client, payload};
use crate::args::{Invoke, Space};
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Memory for what a target says before its last frame, while nobody knows whether that frame says
/// it all: as much as the program behind a target of single replies may print.
const HELD_BYTES_MAX: usize = 4 * 1024 * 1024;

pub(crate) async fn invoke(client: &Client, args: Invoke) -> Result<(), Failure> {
    let payload = payload(args.payload.as_deref())?;
    let bus = client.connect(&args.space).await?;
    let call = async {
        if args.stream {
            stream(&bus, &args, payload, &client.output).await
        } else {
            single(&bus, &args, payload, &client.output).await
        }
    };
    // Giving up here drops the call, which cancels the agent's work.
    let outcome = tokio::select! {
        outcome = call => outcome,
        signal = super::serve::stop_signal() => {
            Err(Failure::new(signal, "stopped before the reply; the work was cancelled"))
        }
    };
    bus.shutdown().await;
    outcome
}

/// The call of a target from a shell: in a trace of its own, and in the session that was asked for.
fn call<'b>(bus: &'b Bus, args: &Invoke, payload: Option<Payload>) -> StreamCall<'b> {
    let mut context = Context::default();
    let fields = context.edit();
    fields.traceparent = bus.begin_trace().map(TraceParent::text).unwrap_or_default();
    fields.session_id = args.session.as_deref().unwrap_or_default().into();
    bus.stream_payload(args.target.as_str(), payload)
        .context(context)
}

/// Prints the reply: the last frame or, if a target that streams says nothing in it, what it said
/// before.
async fn single(
    bus: &Bus,
    args: &Invoke,
    payload: Option<Payload>,
    output: &Output,
) -> Result<(), Failure> {
    let timeout = args.timeout.unwrap_or(limits::INVOKE_TIMEOUT);
    let call = call(bus, args, payload).timeout(timeout);
    let sent = call.no_idle_timeout().send().await;
    let mut frames = sent.map_err(|error| Failure::within(&args.space, error))?;
    let mut held = Held::default();
    while let Some(frame) = frames.next().await {
        let frame = said(frame, &args.space)?;
        match frame.event_type.frame_kind() {
            Some(FrameKind::Started) => {}
            Some(FrameKind::Delta) => held.keep(frame),
            _ => {
                if frame.payload.is_none() {
                    held.print(output)?;
                }
                return output.payload(&frame);
            }
        }
    }
    Err(Failure::unexpected(format!(
        "`{}` ended without a last frame",
        args.target
    )))
}

/// What was said before the last frame.
#[derive(Default)]
struct Held {
    frames: Vec<Envelope>,
    bytes: usize,
}

impl Held {
    fn keep(&mut self, frame: Envelope) {
        let Some(payload) = &frame.payload else {
            return;
        };
        // Most frames are a word, and what is around it is larger.
        self.bytes += size_of::<Envelope>() + payload.as_str().len();
        if self.bytes > HELD_BYTES_MAX {
            self.frames.clear();
        } else {
            self.frames.push(frame);
        }
    }

    fn print(&self, output: &Output) -> Result<(), Failure> {
        if self.bytes > HELD_BYTES_MAX {
            let message = "the target said more before its last frame than is kept, and nothing in that; \
                           call it with --stream";
            return Err(Failure::new(Exit::NotTaken, message));
        }
        self.frames
            .iter()
            .try_for_each(|frame| output.payload(frame))
    }
}

async fn stream(
    bus: &Bus,
    args: &Invoke,
    payload: Option<Payload>,
    output: &Output,
) -> Result<(), Failure> {
    let mut call = call(bus, args, payload);
    if let Some(timeout) = args.timeout {
        call = call.idle_timeout(timeout);
    }
    let sent = call.send().await;
    let mut frames = sent.map_err(|error| Failure::within(&args.space, error))?;
    while let Some(frame) = frames.next().await {
        let frame = said(frame, &args.space)?;
        if output.is_json() || frame.event_type.frame_kind() != Some(FrameKind::Started) {
            output.payload(&frame)?;
        }
    }
    Ok(())
}

/// A frame, unless it or the stream is an error.
fn said(frame: Result<Envelope, Error>, space: &Space) -> Result<Envelope, Failure> {
    let frame = frame.map_err(|error| Failure::within(space, error))?;
    match ErrorPayload::of(&frame) {
        Some(error) => Err(Error::Remote(error).into()),
        None => Ok(frame),
    }
}
