//! What subscribers decide about their deliveries, and what becomes of the messages.

use std::sync::Arc;
use std::time::Duration;

use super::{Confirm, End, Entry, Phase, Queue, inbox, wake};
use crate::{Completion, Settle, TransportError, Verdict, limits};

impl Queue {
    /// Gives a message back for another attempt; says whether it will be made.
    fn give_back(self: &Arc<Self>, entry: Entry, delay: Duration) -> Result<(), Entry> {
        let mut state = self.state.lock();
        if entry.attempt > limits::ATTEMPTS_MAX || state.phase == Phase::Ended {
            return Err(entry);
        }
        // A queue that is full of waiting messages takes this one back at once: its task, too,
        // would be one more than the limit allows.
        let no_place = state.delayed >= self.options.capacity;
        if delay.is_zero() || no_place || tokio::runtime::Handle::try_current().is_err() {
            drop(state);
            return self.put_front(entry);
        }
        state.delayed += 1;
        drop(state);
        let place = DelayedPlace(Arc::clone(self));
        let (common, delay) = (&self.common, delay.min(limits::NAK_DELAY_MAX));
        common.tasks.spawn(place.redeliver(entry, delay));
        Ok(())
    }

    fn put_front(&self, entry: Entry) -> Result<(), Entry> {
        let mut state = self.state.lock();
        if state.phase == Phase::Ended {
            return Err(entry);
        }
        state.counts.redelivered += 1;
        let waker = state.push(entry, End::Front);
        drop(state);
        wake(waker);
        Ok(())
    }
}

/// The place of a message that waits for its redelivery.
struct DelayedPlace(Arc<Queue>);

impl DelayedPlace {
    async fn redeliver(self, entry: Entry, delay: Duration) {
        let queue = Arc::clone(&self.0);
        let over = tokio::time::timeout(delay, queue.common.over.cancelled()).await;
        // Free before the message takes a place among the others.
        drop(self);
        let returned = match over {
            Ok(()) => Err(entry),
            Err(_elapsed) => queue.put_front(entry),
        };
        if let Err(entry) = returned {
            queue.lose(&entry, "abandoned");
        }
    }
}

impl Drop for DelayedPlace {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.delayed -= 1;
        let publishers = state.publishers_to_wake(self.0.options.capacity);
        drop(state);
        (0..publishers).for_each(|_| self.0.room.notify_one());
    }
}

/// The number by which a delivery's verdict finds the caller who waits for it: the token of its
/// inbox, or 0, which is no token, when nobody does.
pub(super) fn asked_by(asker: Option<inbox::Token>) -> u128 {
    asker.unwrap_or_default().number()
}

fn asker(token: u128) -> Option<inbox::Token> {
    (token != 0).then(|| inbox::Token::from_number(token))
}

impl Queue {
    /// Gives back what a subscriber asks to have again.
    fn nak(self: &Arc<Self>, entry: Entry, delay: Duration) {
        if let Err(entry) = self.give_back(entry.again(), delay) {
            self.lose(&entry, "given up after the last attempt");
        }
    }

    /// Tells a caller that nobody works on its request any more.
    fn abandon(&self, token: u128) {
        if let Some(asker) = asker(token) {
            self.common.inboxes.lose(asker);
        }
    }
}

impl Settle for Queue {
    fn settle(
        self: Arc<Self>,
        token: u128,
        verdict: Verdict,
    ) -> Completion<Result<(), TransportError>> {
        match verdict {
            Verdict::Ack | Verdict::Extend { .. } | Verdict::Reject => {}
            Verdict::Abandoned => self.abandon(token),
            Verdict::Nak {
                message,
                attempt,
                delay,
            } => {
                let entry = Entry {
                    message,
                    attempt,
                    confirm: None,
                    sole: asker(token).is_some(),
                };
                self.nak(entry, delay);
            }
        }
        Completion::ready(Ok(()))
    }
}

/// Settles a delivery whose end its publisher waits to hear.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) queue: Arc<Queue>,
    pub(super) confirm: Arc<Confirm>,
}

impl Settle for Watched {
    fn settle(
        self: Arc<Self>,
        token: u128,
        verdict: Verdict,
    ) -> Completion<Result<(), TransportError>> {
        match verdict {
            Verdict::Ack => self.confirm.acknowledged(),
            Verdict::Extend { .. } => {}
            Verdict::Abandoned => {
                self.confirm.failed("abandoned");
                self.queue.abandon(token);
            }
            Verdict::Reject => self.confirm.failed("rejected"),
            Verdict::Nak {
                message,
                attempt,
                delay,
            } => {
                let entry = Entry {
                    message,
                    attempt,
                    confirm: Some(Arc::clone(&self.confirm)),
                    sole: asker(token).is_some(),
                };
                self.queue.nak(entry, delay);
            }
        }
        Completion::ready(Ok(()))
    }
}
