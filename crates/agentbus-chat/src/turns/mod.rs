//! Live agents in threads: a mention opens a turn, and its answer comes into the thread.
//!
//! A live agent is a target of the bus that threads know by name: an ACP agent, a pool, a handler.
//! Whoever writes `@name` asks it. It gets the messages that it has not seen, framed as data, and
//! its answer is posted when the turn ends; while it grows, `chat.turn.delta` tells of it on the
//! bus. One turn of an agent in a thread runs at a time; mentions in the meantime become one more.
//!
//! What would surprise: **agents that mention each other stop by themselves.** A turn that others
//! caused counts how far it is from a person; [`guard`] has the rules. A turn that is refused,
//! fails or ends without an answer says so in the thread: silence would look like work.

mod answer;
mod framing;
mod guard;
mod mentions;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agentbus::Bus;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::chat::Patience;
use crate::model::{Event, Message, Role};
use crate::store::{MessageQuery, StoreError};
use crate::{
    AgentId, Chat, ChatError, Draft, EventReader, Followed, IdempotencyKey, MessageId, NewAgent,
    Proof, Seq, ThreadId, limits, secret,
};
use answer::{Answer, Ended};
use guard::{Guard, Refusal};

/// The `ide` of agents that live on the bus.
const LIVES_IN: &str = "AgentBus";

/// Which agents threads know, and how long they may take.
#[derive(Debug, Clone)]
pub struct TurnsConfig {
    /// Names of targets.
    pub agents: Vec<String>,
    /// How long an agent may be silent.
    pub idle_timeout: Duration,
}

impl TurnsConfig {
    /// These agents, with the usual time.
    #[must_use]
    pub fn new(agents: Vec<String>) -> Self {
        Self {
            agents,
            idle_timeout: limits::TURN_IDLE_TIMEOUT,
        }
    }
}

/// Listens for mentions, from the moment it is made.
#[derive(Debug)]
pub struct Turns {
    room: Arc<Room>,
    events: EventReader,
}

/// Opens turns.
#[derive(Debug)]
struct Room {
    chat: Chat,
    bus: Bus,
    config: TurnsConfig,
    state: Mutex<State>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Debug, Default)]
struct State {
    guard: Guard,
    /// The agents as conversations know them, by the name of their target.
    ids: HashMap<String, AgentId>,
    /// By thread and agent.
    seats: HashMap<(ThreadId, String), Seat>,
    /// New messages, oldest first, that this node has not heard because it does not lead.
    unheard: VecDeque<(Instant, MessageId)>,
}

impl State {
    /// An agent in a thread; those that rest make room for it.
    fn seat(&mut self, key: (ThreadId, String)) -> &mut Seat {
        if !self.seats.contains_key(&key) && self.seats.len() >= limits::TURN_SEATS_MAX {
            self.seats.retain(|_, seat| seat.running);
        }
        self.seats.entry(key).or_default()
    }

    /// Forgets what the node that leads has long heard.
    fn forget_old(&mut self) {
        let is_old = |(since, _): &(Instant, _)| since.elapsed() > limits::TURN_UNHEARD_FOR;
        while self.unheard.len() > limits::TURN_UNHEARD_MAX
            || self.unheard.front().is_some_and(is_old)
        {
            self.unheard.pop_front();
        }
    }
}

/// An agent in a thread.
#[derive(Debug, Default)]
struct Seat {
    /// Whether a turn runs, and what it was asked meanwhile.
    running: bool,
    asked: Option<Message>,
    /// The last message that it was shown.
    seen: Option<Seq>,
    /// The last message that was part of a turn, also of one at another node. What that one showed
    /// to its agent, ours has not seen.
    upto: Option<Seq>,
}

impl Seat {
    /// Whether a message was part of a turn.
    fn has_seen(&self, message: &Message) -> bool {
        self.seen.max(self.upto) >= Some(message.seq)
    }
}

/// One turn on its way.
struct Turn {
    name: String,
    agent: AgentId,
    cause: Message,
    id: String,
}

impl Turns {
    /// Listens from now on.
    ///
    /// # Errors
    /// Fails when the store does.
    pub async fn begin(
        chat: Chat,
        bus: Bus,
        config: TurnsConfig,
        stop: CancellationToken,
    ) -> Result<Self, ChatError> {
        let events = chat.follow(None, None).await?;
        let room = Arc::new(Room {
            chat,
            bus,
            config,
            state: Mutex::default(),
            stop,
            tasks: TaskTracker::new(),
        });
        Ok(Self { room, events })
    }

    /// Opens turns until it is told to stop. Turns that run then are cancelled.
    pub async fn run(mut self) {
        let room = Arc::clone(&self.room);
        tokio::select! {
            () = room.stop.cancelled() => {}
            () = self.listen() => {}
        }
        room.tasks.close();
        room.tasks.wait().await;
    }

    async fn listen(&mut self) {
        let room = &self.room;
        loop {
            tokio::select! {
                next = self.events.next_patiently() => match next {
                    Some(Followed::Event(event)) => room.note(&event),
                    Some(Followed::Gap(_)) => {}
                    None => return,
                },
                () = tokio::time::sleep(limits::TURN_LOOK), if room.is_behind() => {}
            }
            room.catch_up().await;
        }
    }
}

impl Room {
    /// Takes from an event what it says of messages and of turns, wherever they were opened.
    fn note(&self, event: &Event) {
        let is_message = &*event.kind == "msg.new";
        if !is_message && !event.kind.starts_with("turn.") {
            return;
        }
        let payload: Value = serde_json::from_str(&event.payload).unwrap_or_default();
        if let (true, Some(id)) = (is_message, payload["msg_id"].as_str()) {
            let new = (Instant::now(), MessageId::new(id));
            self.state.lock().unheard.push_back(new);
        }
        let (agent, upto) = (payload["agent"].as_str(), payload["upto"].as_i64());
        if let (Some(thread), Some(agent), Some(_)) = (&event.thread_id, agent, upto) {
            let key = (thread.clone(), agent.to_owned());
            let mut state = self.state.lock();
            let seat = state.seat(key);
            seat.upto = seat.upto.max(upto);
        }
    }

    fn is_behind(&self) -> bool {
        !self.state.lock().unheard.is_empty()
    }

    /// Hears what is new, if this node leads: nodes that share a store would each open the turn. One
    /// that does not lead keeps it for a while, because nobody leads between a node that is gone and
    /// the next.
    async fn catch_up(self: &Arc<Self>) {
        self.state.lock().forget_old();
        while self.chat.store().leads() {
            let next = self.state.lock().unheard.front().cloned();
            let Some((_, id)) = next else { return };
            let message = self.message(id).await;
            // Another may have come to lead while the store did not answer, and hears it there.
            if !self.chat.store().leads() {
                return;
            }
            self.state.lock().unheard.pop_front();
            if let Some(message) = message {
                self.hear(&message);
            }
        }
    }

    /// A message, however often the store fails meanwhile: nobody else would notice the mention in
    /// it. None where the message is gone already, with its thread, or cannot be read at all.
    async fn message(&self, id: MessageId) -> Option<Message> {
        let mut patience = Patience::new();
        loop {
            match self.chat.message(id.clone()).await {
                Ok((message, _)) => return Some(message),
                // Asked again, a page that is damaged stays so, and would silence all that follow.
                Err(ChatError::Store(error)) if !error.is_retryable() => {
                    tracing::error!(%error, message = id.as_str(), "a mention cannot be read");
                    return None;
                }
                Err(error) => patience.after(error).await.ok()?,
            }
        }
    }

    fn hear(self: &Arc<Self>, message: &Message) {
        if message.role == Role::System || message.human_only {
            return;
        }
        let mut state = self.state.lock();
        let named = mentions::of(message, &self.config.agents, &state.ids);
        for name in named {
            let seat = state.seat((message.thread_id.clone(), name.clone()));
            // A turn shows all that stands in the thread when it begins, heard of or not.
            if seat.has_seen(message) {
                continue;
            }
            // The next turn shows everything that is new, so the latest mention stands for all.
            if seat.running {
                seat.asked = Some(message.clone());
                continue;
            }
            seat.running = true;
            let (this, cause) = (Arc::clone(self), message.clone());
            self.tasks
                .spawn(async move { this.serve(name, cause).await });
        }
    }

    /// Runs turns of one agent in one thread until nothing more was asked.
    async fn serve(self: Arc<Self>, name: String, mut cause: Message) {
        let thread = cause.thread_id.clone();
        loop {
            let turn = tokio::select! {
                () = self.stop.cancelled() => return,
                turn = self.turn(&name, cause) => turn,
            };
            if let Err(error) = turn {
                tracing::warn!(%error, agent = name, "a turn could not be told of in its thread");
            }
            let mut state = self.state.lock();
            let seat = state
                .seats
                .entry((thread.clone(), name.clone()))
                .or_default();
            match seat.asked.take() {
                Some(asked) if !seat.has_seen(&asked) => cause = asked,
                _ => {
                    seat.running = false;
                    return;
                }
            }
        }
    }

    async fn turn(&self, name: &str, cause: Message) -> Result<(), ChatError> {
        let turn = Turn {
            agent: self.patiently(|| self.agent(name)).await?,
            name: name.to_owned(),
            id: format!("{}:{name}", cause.id),
            cause,
        };
        let thread = &turn.cause.thread_id;
        let (tail, _) = self
            .patiently(|| self.page(thread, 0, limits::TURN_PING_PONG))
            .await?;
        let admitted = self
            .state
            .lock()
            .guard
            .admit(&turn.cause, &tail, &turn.agent);
        if let Err(refusal) = admitted {
            return self.refuse(&turn, refusal).await;
        }
        let (prompt, upto) = self.patiently(|| self.prompt(&turn)).await?;
        self.tell(&turn, "turn.opened", json!({ "upto": upto }))
            .await?;
        let call = self
            .bus
            .stream(name, &prompt)
            .session(format!("thread-{}", turn.cause.thread_id))
            .idle_timeout(self.config.idle_timeout);
        let ended = match call.send().await {
            Ok(frames) => self.gather(&turn, frames).await,
            Err(error) => Ended::Failed(error.to_string()),
        };
        self.conclude(&turn, ended).await
    }

    /// Follows the answer while it grows.
    async fn gather(&self, turn: &Turn, mut frames: agentbus::Frames) -> Ended {
        let mut answer = Answer::default();
        while let Some(frame) = frames.next().await {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => return Ended::Failed(error.to_string()),
            };
            let offset = answer.len();
            match answer.take(&frame) {
                Some(ended) => return ended,
                None if answer.len() > offset => {
                    let delta = json!({ "turn": turn.id, "thread_id": turn.cause.thread_id,
                        "agent": turn.name, "offset": offset, "text": answer.since(offset) });
                    // Whoever misses a piece has the message at the end.
                    if let Err(error) = self.bus.publish("chat.turn.delta", &delta).await {
                        tracing::debug!(%error, "a piece of an answer was not told");
                    }
                }
                None => {}
            }
        }
        answer.end()
    }

    async fn conclude(&self, turn: &Turn, ended: Ended) -> Result<(), ChatError> {
        match ended {
            Ended::Said { text, stop_reason } => {
                let mut draft = Draft::new(turn.cause.thread_id.clone(), turn.agent.as_str(), text);
                draft.role = Role::Assistant;
                draft.proof = Proof::Live(turn.agent.clone());
                draft.reply_to = Some(turn.cause.id.clone());
                let about = json!({ "id": turn.id, "stop_reason": stop_reason });
                draft.merge_metadata("turn", about);
                self.state.lock().guard.speaks(&turn.cause, &turn.id);
                let posted = match self.post(turn, draft).await {
                    Ok(posted) => posted,
                    Err(error) => {
                        let why = format!("its answer was refused: {error}");
                        return self.give_up(turn, "turn.failed", &why).await;
                    }
                };
                let about = json!({ "message_id": posted.id, "seq": posted.seq });
                self.tell(turn, "turn.ended", about).await
            }
            Ended::Silent { stop_reason } => {
                let why = format!("it ended without an answer ({stop_reason})");
                self.give_up(turn, "turn.silent", &why).await
            }
            Ended::Failed(why) => self.give_up(turn, "turn.failed", &why).await,
        }
    }

    async fn refuse(&self, turn: &Turn, refusal: Refusal) -> Result<(), ChatError> {
        self.give_up(turn, "turn.refused", &refusal.to_string())
            .await
    }

    /// Says in the thread why there is no answer.
    async fn give_up(&self, turn: &Turn, kind: &'static str, why: &str) -> Result<(), ChatError> {
        let about = json!({ "reason": why, "upto": turn.cause.seq });
        self.tell(turn, kind, about).await?;
        let text = format!("{} does not answer: {why}.", turn.name);
        let mut draft = Draft::new(turn.cause.thread_id.clone(), turn.agent.as_str(), text);
        draft.role = Role::System;
        draft.proof = Proof::Live(turn.agent.clone());
        draft.reply_to = Some(turn.cause.id.clone());
        self.post(turn, draft).await.map(drop)
    }

    /// Posts the one message that comes of a turn. What the agent has worked out is not thrown away:
    /// a store that fails is asked again, and an agent that has posted too much waits, and is not
    /// asked again before.
    async fn post(&self, turn: &Turn, draft: Draft) -> Result<Message, ChatError> {
        // The store may have kept what it reports as failed.
        let key = IdempotencyKey::new("turn", &secret::fingerprint(&turn.id), &turn.id)?;
        let chat = self.chat.under(Some(key));
        let post = || chat.post(draft.clone());
        let posted = match self.patiently(post).await {
            Err(ChatError::RateLimited { window_s, .. }) => {
                tokio::time::sleep(Duration::from_secs(window_s)).await;
                self.patiently(post).await
            }
            posted => posted,
        };
        posted.map(|posted| posted.message)
    }

    /// Tells of a turn; told twice, it does nobody harm.
    async fn tell(&self, turn: &Turn, kind: &'static str, about: Value) -> Result<(), ChatError> {
        let mut payload = about;
        payload["turn"] = json!(turn.id);
        payload["agent"] = json!(turn.name);
        payload["agent_id"] = json!(turn.agent);
        payload["cause"] = json!(turn.cause.id);
        let thread = &turn.cause.thread_id;
        let note = || self.chat.note(kind, thread.clone(), payload.clone());
        self.patiently(note).await
    }

    /// Does one step of a turn, however often the store fails meanwhile: what comes after it would
    /// be lost as well. A step may be done twice, where the store is not sure that it was done once.
    async fn patiently<T, F>(&self, step: impl Fn() -> F) -> Result<T, ChatError>
    where
        F: Future<Output = Result<T, ChatError>>,
    {
        let mut patience = Patience::new();
        loop {
            match step().await {
                Err(ChatError::Store(error)) if may_pass(&error) => {
                    patience.after(error.into()).await?;
                }
                done => return done,
            }
        }
    }

    /// What the agent is shown: what is new to it, as data. And the last number that it has seen then.
    async fn prompt(&self, turn: &Turn) -> Result<(String, Seq), ChatError> {
        let thread = self.chat.thread(turn.cause.thread_id.clone()).await?;
        let key = (thread.id.clone(), turn.name.clone());
        let seen = self.state.lock().seats.get(&key).and_then(|seat| seat.seen);
        let (mut messages, newest) = self
            .page(&thread.id, seen.unwrap_or(0), limits::TURN_BACKLOG)
            .await?;
        messages.retain(|message| message.author_id.as_deref() != Some(turn.agent.as_str()));
        let upto = newest.max(seen.unwrap_or(0));
        if let Some(seat) = self.state.lock().seats.get_mut(&key) {
            seat.seen = Some(upto);
        }
        let prompt = framing::prompt(&turn.name, &thread.topic, &messages);
        Ok((prompt, upto))
    }

    /// The newest messages after a number, and the last number among them.
    async fn page(
        &self,
        thread: &ThreadId,
        after_seq: Seq,
        limit: usize,
    ) -> Result<(Vec<Message>, Seq), ChatError> {
        let query = MessageQuery {
            after_seq,
            for_agents: true,
            newest: true,
            limit,
            ..MessageQuery::default()
        };
        let (messages, _) = self.chat.messages(thread.clone(), query, false).await?;
        let newest = messages.last().map_or(after_seq, |message| message.seq);
        Ok((messages, newest))
    }

    /// The agent as conversations know it; it is registered once.
    async fn agent(&self, name: &str) -> Result<AgentId, ChatError> {
        if let Some(id) = self.state.lock().ids.get(name) {
            return Ok(id.clone());
        }
        let known = self.chat.agents().await?;
        let known = known
            .into_iter()
            .find(|agent| agent.ide == LIVES_IN && agent.model == name);
        let id = match known {
            Some(agent) => agent.id,
            None => {
                let mut new = NewAgent::new(LIVES_IN, name);
                new.display_name = Some(name.to_owned());
                self.chat.register(new).await?.agent.id
            }
        };
        self.state.lock().ids.insert(name.to_owned(), id.clone());
        Ok(id)
    }
}

/// Whether a step that may be done twice is worth another try.
fn may_pass(error: &StoreError) -> bool {
    error.is_retryable() || matches!(error, StoreError::Uncertain(_))
}
