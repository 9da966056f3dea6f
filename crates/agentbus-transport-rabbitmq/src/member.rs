//! A member of a queue at the broker.
//!
//! The broker gives a member as much as it may hold unsettled and no more, so that the others have
//! the rest; one that nobody has read from yet takes nothing at all.
//!
//! What a member holds belongs to the channel it came by. When that is lost the broker gives it to
//! somebody else, and a verdict on it comes too late.

use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use agentbus_protocol::{Subject, Text};
use agentbus_transport::remote::{self, Drain, Hand, Inboxes, amb};
use agentbus_transport::{
    Message, QueueStats, Received, Source, Subscribe, TransportError, limits as common,
};
use lapin::Channel;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::consumer;
use crate::errors::NAME;
use crate::limits;
use crate::link::Link;
use crate::plan::Plan;

pub(crate) struct Member {
    pub(crate) link: Arc<Link>,
    pub(crate) plan: Plan,
    pub(crate) attempts_max: u32,
    pub(crate) dead_letters: Text,
    number: u64,
    prefetch: usize,
    hand: Mutex<Hand<Taken>>,
    /// Signals that somebody reads.
    wanted: Notify,
    /// Ends the taking of more.
    pub(crate) stopped: CancellationToken,
    /// Ends everything.
    pub(crate) dropped: CancellationToken,
}

/// A message that the broker gave to this member.
#[derive(Clone)]
pub(crate) struct Taken {
    /// The channel by which it came, and on which alone it can be settled.
    pub(crate) channel: Arc<Channel>,
    pub(crate) tag: u64,
    pub(crate) attempt: u32,
    pub(crate) message: Arc<Message>,
}

impl remote::Taken for Taken {
    fn message(&self) -> &Arc<Message> {
        &self.message
    }

    fn attempt(&self) -> u32 {
        self.attempt
    }
}

impl Member {
    /// Joins the queue of a subscription; every later publish reaches it when this returns.
    pub(crate) async fn open(
        link: &Arc<Link>,
        request: Subscribe,
    ) -> Result<MemberSource, TransportError> {
        let number = link.number();
        let plan = Plan::new(&request, link.names(), link.client(), number)?;
        link.leaving()
            .wait(&plan.queue, limits::READY_TIMEOUT)
            .await;
        link.seats().take(&plan)?;
        let prefetch = request.prefetch.min(request.capacity);
        let member = Arc::new(Self {
            link: Arc::clone(link),
            plan,
            attempts_max: request.max_attempts.unwrap_or(common::ATTEMPTS_MAX).max(1),
            dead_letters: request.dead_letters,
            number,
            prefetch: prefetch.clamp(1, limits::PREFETCH_MAX),
            hand: Mutex::default(),
            wanted: Notify::new(),
            stopped: CancellationToken::new(),
            dropped: CancellationToken::new(),
        });
        let seen: Weak<dyn Drain> = Arc::downgrade(&member) as _;
        let joined = match link.receivers().enter(NAME, number, seen) {
            Ok(()) => member.join().await,
            Err(error) => Err(error),
        };
        match joined {
            Ok(channel) => {
                if member.plan.is_durable() {
                    link.kept().enter(&member.plan.queue, &member.plan.pattern);
                }
                let source = MemberSource(Arc::clone(&member));
                link.spawn_lasting(consumer::run(member, channel));
                Ok(source)
            }
            Err(error) => {
                link.receivers().leave(number);
                link.seats().leave(&member.plan.queue);
                Err(error)
            }
        }
    }

    /// Makes the queue, on a channel of this member's own.
    pub(crate) async fn join(&self) -> Result<Arc<Channel>, TransportError> {
        let channel = self.link.incoming().channel(limits::READY_TIMEOUT).await?;
        self.plan.declare(&channel, self.link.names()).await?;
        Ok(Arc::new(channel))
    }

    /// How many messages it may hold, as the protocol counts them.
    pub(crate) fn prefetch(&self) -> u16 {
        u16::try_from(self.prefetch).unwrap_or(u16::MAX)
    }

    /// Waits until somebody reads.
    pub(crate) async fn until_wanted(&self) {
        loop {
            let wanted = self.wanted.notified();
            if self.hand.lock().is_wanted() {
                return;
            }
            wanted.await;
        }
    }

    /// Puts in what the broker gave.
    pub(crate) fn put(&self, taken: Taken) {
        self.hand.lock().put(taken);
    }

    /// Puts a message back, before all others.
    pub(crate) fn put_front(&self, taken: Taken) {
        self.hand.lock().put_front(taken);
    }

    /// Takes back what nobody has looked at.
    pub(crate) fn take_back(&self) -> Vec<Taken> {
        self.hand.lock().take_back()
    }

    /// Says that nothing more will come.
    pub(crate) fn end_taking(&self) {
        self.hand.lock().end();
        self.link.receivers().note_drained();
    }

    /// Leaves the lists of the transport.
    pub(crate) fn forget(&self) {
        self.link.receivers().leave(self.number);
    }

    /// What a verdict is about; ends the delivery.
    pub(crate) fn let_go(&self, token: u128) -> Option<Taken> {
        self.hand.lock().held.remove(&token)
    }

    /// Tells the caller of a request that nobody will answer it, if nobody else can have it.
    pub(crate) async fn lose(&self, request: &Message) {
        let Some(inbox) = self.asker(request) else {
            return;
        };
        let client = Inboxes::client_of(inbox.as_str()).to_owned();
        let body = amb::encode_lost(&request.envelope, inbox.clone());
        self.link.tell(inbox, &client, body).await;
    }

    /// Where the one waits who asked for an answer that only this member's group gives.
    pub(crate) fn asker(&self, message: &Message) -> Option<Subject> {
        if !self.plan.is_group() {
            return None;
        }
        message.asker()
    }

    fn poll(
        self: &Arc<Self>,
        cx: &Context<'_>,
        batch: &mut Vec<Received>,
        max: usize,
    ) -> Poll<usize> {
        let settle = Arc::clone(self) as _;
        let handed = self.hand.lock().poll(cx, batch, max, &settle);
        if handed.wants_more {
            self.wanted.notify_one();
        }
        for taken in handed.expired {
            self.forget_expired(taken);
        }
        if handed.is_drained {
            self.link.receivers().note_drained();
        }
        handed.count
    }
}

impl Drain for Member {
    fn stop(self: Arc<Self>) {
        self.stopped.cancel();
    }

    fn is_drained(&self) -> bool {
        self.hand.lock().is_drained()
    }

    fn end(&self) -> usize {
        let mut hand = self.hand.lock();
        let left = hand.ready.len();
        hand.end();
        drop(hand);
        self.stopped.cancel();
        self.dropped.cancel();
        // What a durable name leaves is not given up; it waits at the broker.
        if self.plan.is_durable() { 0 } else { left }
    }

    fn stats(&self) -> QueueStats {
        let group = self.plan.group.as_ref().map(ToString::to_string);
        let pattern = self.plan.pattern.to_string();
        let hand = self.hand.lock();
        hand.stats(&pattern, group.as_deref(), self.prefetch)
    }
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member")
            .field("queue", &self.plan.queue)
            .finish_non_exhaustive()
    }
}

/// Hands out what a member has. Dropping it leaves the queue.
#[derive(Debug)]
pub(crate) struct MemberSource(Arc<Member>);

impl Source for MemberSource {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Received>,
        max: usize,
    ) -> Poll<usize> {
        self.0.poll(cx, batch, max)
    }

    fn stop(&mut self) {
        self.0.stopped.cancel();
    }
}

impl Drop for MemberSource {
    fn drop(&mut self) {
        let member = &self.0;
        // Begun here, so that whoever joins next knows of it.
        member.link.leaving().begin(&member.plan.queue);
        member.stopped.cancel();
        member.dropped.cancel();
    }
}
