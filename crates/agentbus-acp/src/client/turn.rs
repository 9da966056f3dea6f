//! One request of the bus as one turn of a session.
//!
//! Two halves: the handler sends frames and may be dropped at any time; the task that conducts the
//! turn holds the session until the agent has ended it, because until then no other turn can begin.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agentbus::{Error, Payload, Request, StreamWriter};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio_util::sync::CancellationToken;

use super::agent::{Agent, Opened};
use super::link::Link;
use super::routes::Turn;
use super::session::{Session, Slot};
use super::{prompt, refusal};
use crate::limits;
use crate::log::Kind;
use crate::sdk::driving::Fault;
use crate::sdk::prompt::{Ending, Prompt, Stop};

/// Entry of a request's metadata that is kept with its prompt in the log, as `turn`.
pub(crate) const TURN_MARK: &str = "agentbus.turn";

/// What the handler hears of its turn.
#[derive(Debug)]
pub(super) enum Heard {
    /// The session is open and the prompt is on its way.
    Opened { opened: Opened, id: String },
    /// The agent said something.
    Update(Payload),
    /// The turn is over.
    Ended(Result<Ending, Error>),
}

/// Serves one request. Dropping it has the agent told to stop.
pub(super) async fn run(
    agent: Arc<Agent>,
    request: Request,
    out: StreamWriter,
) -> Result<(), Error> {
    let trace = &request.envelope().context.traceparent;
    let prompt = prompt::read(request.payload())?.traced(trace);
    let name = session_name(&request)?;
    let session = agent.session(&name)?;
    let queue = agent.config.limits.queue;
    let slot = session.turn(queue).await;
    let slot = slot.map_err(|_| refusal::queue_full(&name, queue))?;
    let (heard, mut hears) = mpsc::channel(limits::UPDATES_WAITING);
    let asking = Arc::<AtomicUsize>::default();
    let conductor = Conductor {
        agent: Arc::clone(&agent),
        session,
        heard,
        asking: Arc::clone(&asking),
        mark: request.envelope().metadata.get(TURN_MARK),
    };
    agent.turns.spawn(conductor.conduct(slot, prompt));
    let mut text = Text::default();
    loop {
        let Some(next) = next(&mut hears, &asking).await else {
            out.delta(&json!({ "busUpdate": "waiting_for_decision" }))
                .await?;
            continue;
        };
        match next {
            Some(Heard::Opened { opened, id }) => {
                let about = json!({ "agent": agent.config.name, "session": name,
                    "agent_session": id, "opened": opened });
                out.started(&about).await?;
            }
            Some(Heard::Update(update)) => {
                text.hear(&update);
                out.delta_payload(Some(update)).await?;
            }
            Some(Heard::Ended(ended)) => return finish(&agent, ended?, text, &out).await,
            None => return Err(refusal::stopping()),
        }
    }
}

/// What the turn says next; `None` when it is silent because a person is asked.
async fn next(hears: &mut mpsc::Receiver<Heard>, asking: &AtomicUsize) -> Option<Option<Heard>> {
    loop {
        let next = tokio::time::timeout(limits::STILL_WAITING, hears.recv()).await;
        match next {
            Ok(next) => return Some(next),
            // Looked at afterwards: the question comes after the last thing that was said.
            Err(_) if asking.load(Ordering::Acquire) > 0 => return None,
            Err(_) => {}
        }
    }
}

async fn finish(agent: &Agent, ended: Ending, text: Text, out: &StreamWriter) -> Result<(), Error> {
    if ended.stop == Stop::Refusal {
        return Err(refusal::refused(&agent.config.name, &text.text));
    }
    let mut last = json!({ "text": text.text, "stop_reason": ended.stop.as_str() });
    if let Some(meta) = ended.meta {
        last["_meta"] = meta.into();
    }
    if text.cut {
        last["text_truncated"] = true.into();
    }
    out.finish(&last).await
}

/// The session of the envelope, apart for each tenant: two may use the same name.
fn session_name(request: &Request) -> Result<String, Error> {
    let context = &request.envelope().context;
    let name = match (context.tenant_id.as_str(), context.session_id.as_str()) {
        (_, "") => String::new(),
        ("", session) => session.to_owned(),
        (tenant, session) => format!("{tenant}/{session}"),
    };
    if name.len() > limits::SESSION_NAME_BYTES {
        let max = limits::SESSION_NAME_BYTES;
        return Err(Error::invalid_request(format!(
            "the name of a session has at most {max} bytes"
        )));
    }
    Ok(name)
}

/// The text of a turn, for callers who want no frames.
#[derive(Debug, Default)]
struct Text {
    text: String,
    cut: bool,
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, rename = "sessionUpdate")]
    kind: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    content: Option<&'a serde_json::value::RawValue>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    text: std::borrow::Cow<'a, str>,
}

impl Text {
    fn hear(&mut self, update: &Payload) {
        let chunk = serde_json::from_str::<Chunk<'_>>(update.as_str()).ok();
        let Some(chunk) = chunk.filter(|chunk| chunk.kind == "agent_message_chunk") else {
            return;
        };
        let content = chunk.content.map_or("", serde_json::value::RawValue::get);
        let Ok(content) = serde_json::from_str::<Content<'_>>(content) else {
            return;
        };
        let room = limits::TEXT_BYTES.saturating_sub(self.text.len());
        let fits = content.text.floor_char_boundary(room);
        self.text.push_str(&content.text[..fits]);
        self.cut |= fits < content.text.len();
    }
}

/// The half that holds the session.
struct Conductor {
    agent: Arc<Agent>,
    session: Arc<Session>,
    heard: mpsc::Sender<Heard>,
    asking: Arc<AtomicUsize>,
    /// By what its caller finds the turn in the log.
    mark: Option<String>,
}

impl Conductor {
    async fn conduct(self, mut slot: OwnedMutexGuard<Slot>, prompt: Prompt) {
        let ended = self.turn(&mut slot, prompt).await;
        if self.session.name.is_empty() {
            self.agent.close(slot.at.take()).await;
        }
        drop(slot);
        // Fails when the caller has left, and then nobody wants to know.
        let _ = self.heard.send(Heard::Ended(ended)).await;
    }

    /// A turn from its prompt to its end. Both are in the log, also when the agent does not even
    /// start.
    async fn turn(&self, slot: &mut Slot, prompt: Prompt) -> Result<Ending, Error> {
        let begun = self.begin(slot, &prompt).await;
        let mut said = json!({ "prompt": prompt.as_json() });
        if let Some(mark) = &self.mark {
            said["turn"] = mark.as_str().into();
        }
        let name = &self.session.name;
        self.agent.note(name, Kind::Prompt, &said).await;
        let ended = match begun {
            Ok(Some((link, id))) => self.take(slot, &link, &id, prompt).await,
            // The caller left while the agent started; nothing has been asked of it yet.
            Ok(None) => Ok(Stop::Cancelled.into()),
            Err(error) => Err(error),
        };
        let told = match &ended {
            Ok(ended) => json!({ "stop_reason": ended.stop.as_str() }),
            Err(error) => json!({ "error": error.to_payload() }),
        };
        self.agent.note(name, Kind::Ended, &told).await;
        ended
    }

    /// Starts the agent and opens the session where they are not; `None` when the caller has left
    /// meanwhile.
    async fn begin(
        &self,
        slot: &mut Slot,
        prompt: &Prompt,
    ) -> Result<Option<(Arc<Link>, String)>, Error> {
        let serves = self.session.setup().serves;
        let link = self.agent.link(slot.at.as_ref(), serves).await?;
        if let Some(kind) = prompt.beyond(&link.abilities) {
            return Err(refusal::beyond(&self.agent.config.name, kind));
        }
        let opened = self.agent.open(&link, slot, &self.session).await?;
        let id = match &slot.at {
            Some(at) => at.id.clone(),
            None => return Err(refusal::stopping()),
        };
        let told = Heard::Opened {
            opened,
            id: id.clone(),
        };
        let wanted = self.heard.send(told).await.is_ok();
        Ok(wanted.then_some((link, id)))
    }

    /// Has the agent answer the prompt.
    async fn take(
        &self,
        slot: &mut Slot,
        link: &Link,
        id: &str,
        prompt: Prompt,
    ) -> Result<Ending, Error> {
        let cancelled = CancellationToken::new();
        let turn = Turn {
            heard: self.heard.clone(),
            cancelled: cancelled.clone(),
            asking: Arc::clone(&self.asking),
        };
        link.routes.begin(id, turn);
        let ended = self.prompt(link, id, prompt, &cancelled).await;
        cancelled.cancel();
        link.routes.end(id);
        if matches!(ended, Ok(None)) {
            // It goes on with a turn that nobody wants; the next one must not run into it.
            link.routes.close(id);
            slot.at = None;
            *self.session.open.lock() = None;
        }
        let ended = ended.map(|ended| ended.unwrap_or_else(|| Stop::Cancelled.into()));
        // A cut turn was not taken back by anybody, and its agent did not fail.
        let whole = matches!(&ended, Ok(ended) if ended.stop != Stop::Cancelled);
        match self.agent.stopping.is_cancelled() && !whole {
            true => Err(refusal::bus_stopped()),
            false => ended,
        }
    }

    /// Returns why the turn ended; `None` if the agent does not stop.
    async fn prompt(
        &self,
        link: &Link,
        id: &str,
        prompt: Prompt,
        cancelled: &CancellationToken,
    ) -> Result<Option<Ending>, Error> {
        let asked = link.answer(link.caller.prompt(id, prompt));
        tokio::pin!(asked);
        let answer = tokio::select! {
            answer = &mut asked => Some(answer),
            () = self.left() => None,
        };
        if let Some(answer) = answer {
            return self.verdict(link, answer).map(Some);
        }
        // In this order: what waits for a person is answered before the agent hears of the end.
        cancelled.cancel();
        link.caller.cancel(id);
        let grace = self.agent.config.limits.cancel();
        match tokio::time::timeout(grace, asked).await {
            Ok(answer) => self.verdict(link, answer).map(Some),
            Err(_) => {
                let agent = &self.agent.config.name;
                tracing::warn!(%agent, session = %id, "an agent did not end a cancelled turn; its session is given up");
                Ok(None)
            }
        }
    }

    /// Resolves when nobody wants the turn any more.
    async fn left(&self) {
        tokio::select! {
            () = self.heard.closed() => {}
            () = self.agent.stopping.cancelled() => {}
        }
    }

    fn verdict(
        &self,
        link: &Link,
        answer: Result<Result<Ending, Fault>, super::link::Gone>,
    ) -> Result<Ending, Error> {
        let name = &self.agent.config.name;
        answer
            .map_err(|gone| refusal::died(name, &gone, &link.abilities))?
            .map_err(|fault| refusal::answered(name, &fault, &link.abilities))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silence_is_told_only_while_a_person_is_asked() {
        let (heard, mut hears) = mpsc::channel(1);
        let asking = Arc::new(AtomicUsize::new(0));
        let begun = tokio::time::Instant::now();
        let asks = Arc::clone(&asking);
        tokio::spawn(async move {
            tokio::time::sleep(3 * limits::STILL_WAITING / 2).await;
            asks.store(1, Ordering::Release);
            tokio::time::sleep(limits::STILL_WAITING).await;
            let _ = heard.send(Heard::Ended(Ok(Stop::EndTurn.into()))).await;
        });
        assert!(next(&mut hears, &asking).await.is_none());
        assert_eq!(begun.elapsed(), 2 * limits::STILL_WAITING);
        let ended = next(&mut hears, &asking).await;
        let Some(Some(Heard::Ended(Ok(ended)))) = ended else {
            panic!("the turn did not end: {ended:?}");
        };
        assert_eq!(ended, Stop::EndTurn.into());
    }

    #[test]
    fn the_text_of_a_turn_is_that_of_its_message_chunks() {
        let mut text = Text::default();
        for (kind, content) in [
            (
                "agent_message_chunk",
                json!({ "type": "text", "text": "Hel" }),
            ),
            (
                "agent_thought_chunk",
                json!({ "type": "text", "text": "hm" }),
            ),
            (
                "agent_message_chunk",
                json!({ "type": "image", "data": "" }),
            ),
            (
                "agent_message_chunk",
                json!({ "type": "text", "text": "l\"o" }),
            ),
        ] {
            let update = json!({ "sessionUpdate": kind, "content": content });
            text.hear(&Payload::json(&update).unwrap());
        }
        assert_eq!((text.text.as_str(), text.cut), ("Hell\"o", false));
        let long = "ä".repeat(limits::TEXT_BYTES);
        let update = json!({ "sessionUpdate": "agent_message_chunk", "content": { "text": long } });
        text.hear(&Payload::json(&update).unwrap());
        assert!(text.cut && text.text.len() <= limits::TEXT_BYTES);
    }
}
