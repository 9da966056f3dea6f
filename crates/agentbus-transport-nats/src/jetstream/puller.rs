//! The task that takes messages from a consumer for one member.
//!
//! Its life: take while there is room, until told to stop; leave; watch over what is still in
//! somebody's hands until all of it is settled.

use std::sync::Arc;

use agentbus_transport::TransportError;
use async_nats::StatusCode;
use async_nats::jetstream::AckKind;
use async_nats::message::OutboundMessage;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::{limits, wire};

use super::ack::{self, Told};
use super::consumer::{self, Sharing};
use super::history::Arrival;
use super::member::{Member, Taken};

/// The status of a sign of life.
const HEARTBEAT: u16 = 100;

/// What a pull asks for.
#[derive(Debug, Serialize)]
struct Question {
    batch: usize,
    /// Nanoseconds, as everything in this API.
    expires: u128,
    idle_heartbeat: u128,
}

/// What the task remembers.
struct Puller {
    member: Arc<Member>,
    connections: watch::Receiver<u64>,
    /// When something was last heard of the question that is open.
    heard: Instant,
    /// When leases were last looked at.
    looked: Instant,
    /// Numbers of the latest message: in the stream, so that a consumer can be made anew behind
    /// it, and of the consumer.
    latest: (u64, u64),
}

/// Serves a member until nothing it was given is in anybody's hands.
pub(super) async fn run(member: Arc<Member>) {
    let over = member.store.link.over().clone();
    let now = Instant::now();
    let mut puller = Puller {
        connections: member.store.link.events().connections(),
        member,
        heard: now,
        looked: now,
        latest: (0, 0),
    };
    puller.connections.mark_unchanged();
    tokio::select! {
        () = over.cancelled() => {}
        () = puller.serve() => {}
    }
    puller.member.end_taking();
    puller.member.left.cancel();
}

impl Puller {
    async fn serve(&mut self) {
        let stopped = self.member.stopped.clone();
        while !stopped.is_cancelled() {
            self.turn(&stopped).await;
        }
        if self.member.plan.sharing == Sharing::Alone && !self.member.dropped.is_cancelled() {
            self.take_the_rest().await;
        }
        self.leave().await;
        self.member.end_taking();
        self.member.left.cancel();
        self.watch_over_the_last().await;
    }

    /// One turn: asks for what there is room for, and deals with what happens next.
    async fn turn(&mut self, until: &tokio_util::sync::CancellationToken) {
        self.ask().await;
        let member = Arc::clone(&self.member);
        let next = self.next_look();
        tokio::select! {
            biased;
            () = until.cancelled() => {}
            arrived = std::future::poll_fn(|cx| member.poll_arrived(cx)) => self.admit(arrived).await,
            () = member.changed.notified() => {}
            _ = self.connections.changed() => self.begin_again("the connection is a new one").await,
            () = sleep_until(next) => self.look().await,
        }
        if Instant::now() >= self.next_look() {
            self.look().await;
        }
    }

    /// Asks for what there is room for.
    async fn ask(&mut self) {
        let batch = self.member.room();
        if batch == 0 {
            return;
        }
        let question = Question {
            batch,
            expires: limits::PULL_EXPIRES.as_nanos(),
            idle_heartbeat: limits::PULL_HEARTBEAT.as_nanos(),
        };
        let store = &self.member.store;
        let asked = OutboundMessage {
            subject: store.next_message(self.member.plan.name()).into(),
            reply: Some(self.member.inbox.as_str().into()),
            // Three numbers always have a JSON form.
            payload: serde_json::to_vec(&question).unwrap_or_default().into(),
            headers: None,
        };
        self.heard = Instant::now();
        if store.link.send(asked).await.is_err() {
            self.member.question_is_over();
        }
    }

    /// When to look at leases, or after a question that has become silent.
    fn next_look(&self) -> Instant {
        let look = self.member.lease() / limits::LOOKS_PER_LEASE;
        let leases = self.looked + look.max(limits::LOOK_INTERVAL_MIN);
        let silence = self.heard + limits::PULL_SILENCE;
        match (self.member.has_leases(), self.member.is_asking()) {
            (true, true) => leases.min(silence),
            (true, false) => leases,
            (false, true) => silence,
            // Nothing changes by itself then.
            (false, false) => Instant::now() + limits::PULL_SILENCE,
        }
    }

    async fn look(&mut self) {
        let now = Instant::now();
        self.looked = now;
        let chores = self.member.look(now);
        for reply in &chores.touch {
            self.member.say_soon(reply, AckKind::Progress);
        }
        for taken in &chores.bury {
            self.bury(taken, "nobody settled the message before its lease ended")
                .await;
        }
        if self.member.is_asking() && now >= self.heard + limits::PULL_SILENCE {
            self.begin_again("the server is silent").await;
        }
    }

    async fn bury(&self, taken: &Taken, error: &str) {
        if let Err(error) = self.member.bury(taken, error).await {
            tracing::error!(%error, "a dead letter could not be written; it will be tried again");
        }
    }

    /// Opens the consumer again and asks anew.
    async fn begin_again(&mut self, reason: &str) {
        let member = &self.member;
        tracing::debug!(consumer = member.plan.name(), reason, "asking anew");
        consumer::reopen(
            &member.store,
            member.plan.clone(),
            self.latest.0,
            &member.stopped,
        )
        .await;
        member.question_is_over();
    }

    /// Sorts what arrived.
    async fn admit(&mut self, arrived: Vec<async_nats::Message>) {
        self.heard = Instant::now();
        if arrived.is_empty() {
            // The connection is closed for good.
            self.member.stopped.cancel();
            return;
        }
        let (mut taken, mut deliveries) = (Vec::with_capacity(arrived.len()), 0);
        for raw in arrived {
            let told = raw.reply.as_ref().and_then(|reply| ack::read(reply));
            let Some(told) = told else {
                self.status(&raw, deliveries).await;
                deliveries = 0;
                continue;
            };
            deliveries += 1;
            taken.extend(self.read(raw, told).await);
        }
        // Room is made only once what arrived is counted where it lies.
        self.member.put(taken);
        self.member.arrived(deliveries);
    }

    /// Deals with what is no message; `before` arrived ahead of it.
    async fn status(&self, raw: &async_nats::Message, before: usize) {
        self.member.arrived(before);
        match raw.status.map(|status| status.as_u16()) {
            Some(HEARTBEAT) => {}
            // The question is answered as far as it will be: its time is over, there is nothing,
            // or the consumer has changed.
            Some(404 | 408) => self.member.question_is_over(),
            _ if raw.status == Some(StatusCode::NO_RESPONDERS) || raw.status.is_some() => {
                let reason = raw.description.as_deref().unwrap_or("the consumer is gone");
                let member = &self.member;
                tracing::debug!(consumer = member.plan.name(), reason, "opening it again");
                let seen = self.latest.0;
                consumer::reopen(&member.store, member.plan.clone(), seen, &member.stopped).await;
                member.question_is_over();
            }
            _ => tracing::warn!(subject = %raw.subject, "something arrived that is no delivery"),
        }
    }

    /// Reads one message. What can be of no use to anybody is settled here, or it would come
    /// again and again.
    async fn read(&mut self, raw: async_nats::Message, told: Told) -> Option<Taken> {
        let (member, reply) = (&self.member, raw.reply.clone()?);
        self.latest = (
            self.latest.0.max(told.sequence),
            self.latest.1.max(told.number),
        );
        let Arrival::Attempt(attempt) = member.history.arrive(told.sequence, told.attempt) else {
            member.say_soon(&reply, AckKind::Ack);
            return None;
        };
        let message = match wire::decode(&raw) {
            Ok(message) => Arc::new(message),
            Err(error) => {
                tracing::warn!(subject = %raw.subject, %error, "a message cannot be read");
                member.say_soon(&reply, AckKind::Term);
                return None;
            }
        };
        let taken = Taken {
            sequence: told.sequence,
            attempt,
            reply,
            message,
            touched: Instant::now(),
        };
        if attempt > member.attempts_max {
            let used_up = Taken {
                attempt: member.attempts_max,
                ..taken
            };
            self.bury(&used_up, "nobody settled the message in all its attempts")
                .await;
            return None;
        }
        Some(taken)
    }

    /// Leaves, and gives back what others can take: all of it in its order, with what was still on
    /// its way.
    async fn leave(&mut self) {
        let member = Arc::clone(&self.member);
        let leaving = async {
            std::future::poll_fn(|cx| member.poll_leave(cx)).await;
            while member.is_listening() {
                let arrived = std::future::poll_fn(|cx| member.poll_arrived(cx)).await;
                self.admit(arrived).await;
            }
        };
        // What does not arrive in time comes again when its lease ends.
        let _ = timeout(limits::STOP_TIMEOUT, leaving).await;
        member.close_channel();
        if member.plan.sharing != Sharing::Alone {
            // Asked about the consumer, the server forgets our open question. One that it still
            // has in its list makes servers of the 2.9 line lose a message that is given back,
            // until its lease ends.
            let info = member.store.stream.consumer_info(member.plan.name());
            let _ = timeout(limits::STOP_TIMEOUT, info).await;
            member.give_back();
        }
    }

    /// Of what is nobody else's, takes all that was there when it was told to stop.
    async fn take_the_rest(&mut self) {
        let Ok(last) = self.last_number().await else {
            return;
        };
        let dropped = self.member.dropped.clone();
        while self.latest.1 < last && !dropped.is_cancelled() {
            self.turn(&dropped).await;
        }
    }

    /// The number that the consumer's latest message has or will have.
    async fn last_number(&self) -> Result<u64, TransportError> {
        let member = &self.member;
        let info = tokio::time::timeout(
            limits::STOP_TIMEOUT,
            member.store.stream.consumer_info(member.plan.name()),
        );
        let info = info.await.map_err(|error| member.store.failed(error))?;
        let info = info.map_err(|error| member.store.failed(error))?;
        Ok(info.delivered.consumer_sequence + info.num_pending)
    }

    /// Keeps extended leases and ends others, for as long as anybody holds anything.
    async fn watch_over_the_last(&mut self) {
        while self.member.has_leases() {
            let member = Arc::clone(&self.member);
            let next = self.next_look();
            tokio::select! {
                () = member.changed.notified() => {}
                () = sleep_until(next) => self.look().await,
            }
        }
    }
}
