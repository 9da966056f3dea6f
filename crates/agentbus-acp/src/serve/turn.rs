//! One prompt of an editor as a call on the bus.
//!
//! The call belongs to the bus and not to the connection: it goes on when its editor has left.

use agentbus::{Context, Envelope, Error, ErrorPayload, FrameKind, Frames, Metadata, Payload};
use serde_json::{Map, Value, json};

use super::{Editors, elsewhere, speech};
use crate::client::{Stopped, TURN_MARK, bus_stopped};
use crate::line::Place;
use crate::log::{Key, Kind};

/// A prompt and where it goes.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) key: Key,
    /// Content blocks as the protocol writes them.
    pub(super) prompt: Value,
    /// What the editor added.
    pub(super) meta: Option<Map<String, Value>>,
    /// By what the editor finds its prompt in the log.
    pub(super) mark: String,
}

/// How a turn ended.
pub(super) type Ended = Result<Finished, Error>;

/// The end of a turn as its editor hears it.
#[derive(Debug)]
pub(super) struct Finished {
    /// The stop reason of the protocol.
    pub(super) reason: String,
    /// What the agent added.
    pub(super) meta: Option<Map<String, Value>>,
}

impl Finished {
    pub(super) fn cancelled() -> Self {
        Self::of("cancelled")
    }

    fn of(reason: &str) -> Self {
        let reason = reason.to_owned();
        Self { reason, meta: None }
    }
}

impl Turn {
    /// Runs when its place is reached, until its end or its cancellation.
    pub(super) async fn run(self, editors: Editors, place: Place) -> Ended {
        let driven = editors.driving(&self.key.agent).is_some();
        let run = async {
            match driven {
                true => self.prompt(&editors).await,
                false => self.converse(&editors).await,
            }
        };
        let cut = tokio::select! {
            biased;
            () = editors.0.stopping.cancelled() => Err(bus_stopped()),
            () = place.cancelled.cancelled() => Ok(Finished::cancelled()),
            ended = run => return ended,
        };
        // Its frames are dropped, which the agent is told.
        self.settle(&editors, driven, &cut).await;
        cut
    }

    /// Calls an agent that the bus drives; the log is written where its updates arrive.
    async fn prompt(&self, editors: &Editors) -> Ended {
        let mut payload = json!({ "prompt": self.prompt });
        if let Some(meta) = &self.meta {
            payload["_meta"] = meta.clone().into();
        }
        let mut frames = self.call(editors, Payload::json(&payload)?).await?;
        while let Some(frame) = frames.next().await {
            if let Some(ended) = ended(&frame?) {
                return ended;
            }
        }
        Err(Error::agent("the agent did not end its turn"))
    }

    /// Calls any other target, and writes into the log what its frames say.
    async fn converse(&self, editors: &Editors) -> Ended {
        let asked = json!({ "prompt": self.prompt, "turn": self.mark });
        self.note(editors, Kind::Prompt, &asked).await;
        let spoken = self.listen(editors).await;
        self.note_end(editors, &spoken).await;
        spoken
    }

    async fn listen(&self, editors: &Editors) -> Ended {
        let mut frames = self.call(editors, speech::payload(&self.prompt)?).await?;
        let mut spoke = false;
        while let Some(frame) = frames.next().await {
            let frame = frame?;
            let kind = frame.event_type.frame_kind();
            // The last frame of a stream repeats what was streamed; of a plain reply it is all.
            let says = match kind {
                Some(FrameKind::Delta) => true,
                Some(FrameKind::Final) => !spoke,
                _ => false,
            };
            if let Some(update) = speech::update(frame.payload.as_ref()).filter(|_| says) {
                spoke = true;
                editors
                    .0
                    .log
                    .append(self.key.clone(), Kind::Update, update)
                    .await;
            }
            if let Some(ended) = ended(&frame) {
                return ended;
            }
        }
        Err(Error::agent("the target did not end its answer"))
    }

    async fn call(&self, editors: &Editors, payload: Payload) -> Result<Frames, Error> {
        let mut metadata = Metadata::default();
        metadata.insert(TURN_MARK, &self.mark)?;
        let (target, tenant) = elsewhere::target(&self.key.agent);
        let mut context = Context::default();
        context.edit().tenant_id = tenant.unwrap_or_default().into();
        let call = editors
            .0
            .bus
            .stream_payload(target, Some(payload))
            .context(context)
            .session(self.key.session.clone())
            .metadata(metadata)
            // An agent may think, and a person may be asked, for as long as they like.
            .no_idle_timeout();
        let trace = self.meta.as_ref().and_then(|meta| meta.get("traceparent"));
        match trace.and_then(Value::as_str) {
            Some(trace) => call.traceparent(trace.to_owned()).send().await,
            None => call.send().await,
        }
    }

    /// Waits until a turn that was cut has left the session, and its end is in the log.
    async fn settle(&self, editors: &Editors, driven: bool, cut: &Ended) {
        if driven && let Some(agents) = &editors.0.agents {
            agents.settled(&self.key.agent, &self.key.session).await;
            return;
        }
        self.note_end(editors, cut).await;
    }

    async fn note_end(&self, editors: &Editors, ended: &Ended) {
        let told = match ended {
            Ok(finished) => json!({ "stop_reason": finished.reason }),
            Err(error) => json!({ "error": error.to_payload() }),
        };
        self.note(editors, Kind::Ended, &told).await;
    }

    async fn note(&self, editors: &Editors, kind: Kind, what: &Value) {
        if let Ok(data) = Payload::json(what) {
            editors.0.log.append(self.key.clone(), kind, data).await;
        }
    }
}

/// How a frame ends the turn, if it does.
fn ended(frame: &Envelope) -> Option<Ended> {
    if !frame.is_final {
        return None;
    }
    if let Some(payload) = ErrorPayload::of(frame) {
        let stopped = payload.cause.as_deref();
        let stopped = stopped.and_then(|cause| serde_json::from_str(cause.get()).ok());
        if let Some(Stopped { stop_reason }) = stopped {
            return Some(Ok(Finished::of(stop_reason)));
        }
        return Some(Err(payload.into()));
    }
    let last = frame.payload.as_ref();
    let last = last.and_then(|payload| payload.decode::<Value>().ok());
    let last = last.unwrap_or_default();
    let reason = last["stop_reason"].as_str().unwrap_or("end_turn");
    let meta = last["_meta"].as_object().cloned();
    Some(Ok(Finished {
        meta,
        ..Finished::of(reason)
    }))
}
