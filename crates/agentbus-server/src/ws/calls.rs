//! Calls on a WebSocket: `invoke` and `stream`, made by the bus for the client.

use std::time::Duration;

use agentbus::{Bus, Context, Error, Payload, Text};
use agentbus_transport_ws::wire::{self, ClientFrame, ServerFrame};

use super::connection::{Connection, Ended, Out};
use super::publish::read_payload;

/// A call as the client asked for it.
struct Call {
    id: u64,
    target: String,
    payload: Option<Payload>,
    context: Context,
    timeout: Option<Duration>,
    idle_timeout: Option<Duration>,
    streams: bool,
}

impl Connection {
    pub(super) async fn call(&mut self, frame: ClientFrame) {
        let (ClientFrame::Invoke { id, .. } | ClientFrame::Stream { id, .. }) = frame else {
            return;
        };
        let call = self
            .check_room()
            .and_then(|()| self.check_open())
            .and_then(|()| read(frame, self.space.tenant()));
        let call = match call {
            Ok(call) if self.calls.contains_key(&id) => {
                let message = format!("the number {} is in use", call.id);
                return self
                    .out
                    .answer(id, Err(Error::invalid_request(message)))
                    .await;
            }
            Ok(call) => call,
            Err(error) => return self.out.answer(id, Err(error)).await,
        };
        let (bus, agent, out) = (self.app.bus.clone(), self.agent.clone(), self.out.clone());
        let task = self.tasks.spawn(async move {
            let outcome = if call.streams {
                stream(&bus, agent, call, &out).await
            } else {
                invoke(&bus, agent, call, &out).await
            };
            if let Err(error) = outcome {
                out.answer(id, Err(error)).await;
            }
            Ended::Call(id)
        });
        self.calls.insert(id, task);
    }
}

/// Reads a call, which goes into this tenant.
fn read(frame: ClientFrame, tenant: &str) -> Result<Call, Error> {
    let (streams, idle) = match &frame {
        ClientFrame::Stream {
            idle_timeout_ms, ..
        } => (true, *idle_timeout_ms),
        _ => (false, None),
    };
    let (ClientFrame::Invoke {
        id,
        target,
        payload,
        session_id,
        traceparent,
        timeout_ms,
    }
    | ClientFrame::Stream {
        id,
        target,
        payload,
        session_id,
        traceparent,
        timeout_ms,
        ..
    }) = frame
    else {
        return Err(Error::invalid_request("not a call"));
    };
    let mut context = Context::default();
    let fields = context.edit();
    fields.tenant_id = tenant.into();
    fields.session_id = session_id.unwrap_or_default().into();
    fields.traceparent = traceparent.unwrap_or_default().into();
    Ok(Call {
        id,
        target,
        payload: payload.map_or(Ok(None), |raw| read_payload(&raw))?,
        context,
        timeout: timeout_ms.map(Duration::from_millis),
        idle_timeout: idle.map(Duration::from_millis),
        streams,
    })
}

async fn invoke(bus: &Bus, agent: Text, call: Call, out: &Out) -> Result<(), Error> {
    let mut invoke = bus
        .invoke_payload(call.target, call.payload)
        .sender(agent)
        .context(call.context);
    if let Some(timeout) = call.timeout {
        invoke = invoke.timeout(timeout);
    }
    let reply = invoke.send().await?;
    let frame = ServerFrame::Reply {
        id: call.id,
        envelope: None,
    };
    out.send(wire::encode_with(&frame, &reply)).await;
    Ok(())
}

async fn stream(bus: &Bus, agent: Text, call: Call, out: &Out) -> Result<(), Error> {
    let mut stream = bus
        .stream_payload(call.target, call.payload)
        .sender(agent)
        .context(call.context);
    if let Some(timeout) = call.timeout {
        stream = stream.timeout(timeout);
    }
    if let Some(timeout) = call.idle_timeout {
        stream = stream.idle_timeout(timeout);
    }
    let mut frames = stream.send().await?;
    while let Some(frame) = frames.next().await {
        let head = ServerFrame::Frame {
            id: call.id,
            envelope: None,
        };
        out.send(wire::encode_with(&head, &frame?)).await;
    }
    out.send(wire::encode(&ServerFrame::End {
        id: Some(call.id),
        sub: None,
    }))
    .await;
    Ok(())
}
