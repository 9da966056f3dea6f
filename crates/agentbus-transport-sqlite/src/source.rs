//! A member of a subscription, and the deliveries in its hands.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use agentbus_transport::{
    Completion, Delivery, Message, Received, Settle, Source, Subscribe, Subscription,
    TransportError, Verdict, limits as transport_limits,
};
use tokio::time::Instant;

use crate::consumer::Consumer;
use crate::ledger::{Stale, Taken};
use crate::options::millis;
use crate::queue::Work;
use crate::store::Store;

type Settled = Completion<Result<(), TransportError>>;

/// The receiving end of one member.
#[derive(Debug)]
pub(crate) struct LogSource {
    consumer: Arc<Consumer>,
    store: Arc<Store>,
    member: u64,
}

impl LogSource {
    /// Joins a subscription.
    pub(crate) fn join(
        store: &Arc<Store>,
        consumer: Arc<Consumer>,
        request: &Subscribe,
    ) -> Subscription {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let member = NEXT.fetch_add(1, Ordering::Relaxed);
        consumer.join(member, request);
        Subscription::new(Self {
            consumer,
            store: Arc::clone(store),
            member,
        })
    }

    fn received(&self, taken: Taken<Arc<Message>>) -> Received {
        let (seq, attempt) = (taken.seq, taken.attempt);
        let handed = Handed {
            consumer: Arc::clone(&self.consumer),
            store: Arc::clone(&self.store),
            message: Arc::clone(&taken.message),
            seq,
            attempt,
        };
        if taken.message.is_expired() {
            self.consumer.count_expired();
            drop(handed.settled());
            return Received::Expired(Delivery::new(taken.message, attempt).numbered(seq));
        }
        let delivery = Delivery::new(taken.message, attempt).numbered(seq);
        Received::Live(delivery.settled_by(Arc::new(handed), 0))
    }
}

impl Source for LogSource {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Received>,
        max: usize,
    ) -> Poll<usize> {
        let (taken, missed) = ready!(self.consumer.poll_take(self.member, cx, max.max(1)));
        let (count, mut missed) = (taken.len(), Some(missed));
        for taken in taken {
            let missed = missed.take().unwrap_or_default();
            batch.push(match self.received(taken) {
                Received::Live(delivery) => Received::Live(delivery.after_missing(missed)),
                Received::Expired(delivery) => Received::Expired(delivery.after_missing(missed)),
                other => other,
            });
        }
        Poll::Ready(count)
    }

    fn stop(&mut self) {
        self.consumer.lock().ledger.stop(self.member);
        self.consumer.forget(self.member);
    }

    fn stand_down(&mut self) {
        self.consumer.forget(self.member);
    }
}

impl Drop for LogSource {
    fn drop(&mut self) {
        let mut state = self.consumer.lock();
        state.ledger.leave(self.member);
        let last = state.ledger.members() == 0;
        drop(state);
        self.consumer.forget(self.member);
        if last && !self.consumer.is_durable() {
            self.consumer.end();
            self.store.consumers.remove(&self.consumer);
        }
    }
}

/// One delivery in a member's hands.
#[derive(Debug)]
struct Handed {
    consumer: Arc<Consumer>,
    store: Arc<Store>,
    message: Arc<Message>,
    seq: u64,
    attempt: u32,
}

impl Settle for Handed {
    fn settle(self: Arc<Self>, _token: u128, verdict: Verdict) -> Settled {
        let settled = match verdict {
            Verdict::Ack => self.settled(),
            Verdict::Reject => self.reject(),
            Verdict::Nak { delay, .. } => self.nak(delay),
            Verdict::Abandoned => self.abandon(),
            Verdict::Extend { lease } => self.extend(lease),
        };
        // There is room for another one, or an attempt to begin.
        self.consumer.nudge();
        self.store.settled.notify_waiters();
        settled
    }
}

impl Handed {
    /// Settles whatever attempt this is: what is done is done.
    fn settled(&self) -> Settled {
        let mut state = self.consumer.lock();
        if !state.ledger.ack(self.seq) {
            return Completion::ready(Ok(()));
        }
        // Written while the lock is held, so that the order on the disk is that of the ledger.
        self.write(Work {
            settled: vec![self.seq],
            ..Work::default()
        })
    }

    fn reject(&self) -> Settled {
        let mut state = self.consumer.lock();
        match state.ledger.reject(self.seq, self.attempt) {
            Err(stale) => self.stale(stale),
            Ok(()) => self.write(Work {
                settled: vec![self.seq],
                ..Work::default()
            }),
        }
    }

    /// The next attempt is written down when it begins, so only a delay is written here.
    fn nak(&self, delay: Duration) -> Settled {
        let delay = delay.min(transport_limits::NAK_DELAY_MAX);
        let mut state = self.consumer.lock();
        let due = Instant::now() + delay;
        match state.ledger.nak(self.seq, self.attempt, due) {
            Err(stale) => self.stale(stale),
            Ok(()) if delay.is_zero() => Completion::ready(Ok(())),
            Ok(()) => {
                let due_ms = self.store.clock.now_ms().saturating_add(millis(delay));
                self.write(Work {
                    delayed: vec![(self.seq, due_ms)],
                    ..Work::default()
                })
            }
        }
    }

    fn abandon(&self) -> Settled {
        let mut state = self.consumer.lock();
        match state.ledger.abandon(self.seq, self.attempt, Instant::now()) {
            Err(stale) => self.stale(stale),
            Ok(_) => Completion::ready(Ok(())),
        }
    }

    fn extend(&self, lease: Duration) -> Settled {
        let until = Instant::now() + lease.min(transport_limits::LEASE_MAX);
        let mut state = self.consumer.lock();
        match state.ledger.extend(self.seq, self.attempt, until) {
            Err(stale) => self.stale(stale),
            Ok(()) => Completion::ready(Ok(())),
        }
    }

    fn write(&self, mut work: Work) -> Settled {
        if !self.consumer.is_durable() {
            return Completion::ready(Ok(()));
        }
        work.consumer = self.consumer.row();
        Completion::waiting(self.store.write(work))
    }

    fn stale(&self, _: Stale) -> Settled {
        let subject = self.message.subject.clone();
        Completion::ready(Err(TransportError::LeaseEnded { subject }))
    }
}
