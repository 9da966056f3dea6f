//! The receiving end of a core subscription.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use agentbus_transport::{
    Completion, Delivery, Message, Received, Settle, Source, TransportError, Verdict,
};

use crate::asker::Asker;
use crate::feed::{Entry, Feed};

/// Hands out what a feed has. Dropping it unsubscribes.
#[derive(Debug)]
pub(crate) struct CoreSource {
    feed: Arc<Feed>,
    /// Room for the entries of one batch; empty between calls.
    taken: Vec<Entry>,
    /// Messages lost, to be told with the next delivery.
    missed: u64,
}

impl CoreSource {
    pub(crate) const fn new(feed: Arc<Feed>) -> Self {
        Self {
            feed,
            taken: Vec::new(),
            missed: 0,
        }
    }

    /// Reads one entry; what is no envelope is left out.
    fn read(&self, entry: Entry) -> Option<(Arc<Message>, u32)> {
        let raw = match entry {
            Entry::Again { message, attempt } => return Some((message, attempt)),
            Entry::Arrived(raw) => raw,
        };
        match self.feed.link.dialect().read(&raw) {
            Ok(message) => Some((Arc::new(message), 1)),
            Err(error) => {
                tracing::warn!(subject = %raw.subject, %error, "a message cannot be read");
                None
            }
        }
    }

    fn received(&self, message: Arc<Message>, attempt: u32) -> Received {
        if message.is_expired() {
            return Received::Expired(Delivery::new(message, attempt));
        }
        let feed = &self.feed;
        // Of a group, nobody else has the request.
        let asker = feed
            .group
            .as_ref()
            .and_then(|_| Asker::of(&feed.link, &message));
        let settle: Arc<dyn Settle> = match asker {
            None => Arc::clone(feed) as _,
            Some(asker) => Arc::new(Asked {
                feed: Arc::clone(feed),
                asker,
            }),
        };
        Received::Live(Delivery::new(message, attempt).settled_by(settle, 0))
    }

    fn hand_out(&mut self, batch: &mut Vec<Received>) -> usize {
        let (mut live, mut expired) = (0, 0);
        let mut taken = std::mem::take(&mut self.taken);
        for entry in taken.drain(..) {
            let Some((message, attempt)) = self.read(entry) else {
                continue;
            };
            let missed = std::mem::take(&mut self.missed);
            batch.push(match self.received(message, attempt) {
                Received::Live(delivery) => {
                    live += 1;
                    Received::Live(delivery.after_missing(missed))
                }
                Received::Expired(delivery) => {
                    expired += 1;
                    Received::Expired(delivery.after_missing(missed))
                }
                other => other,
            });
        }
        self.taken = taken;
        self.feed.count(live, expired);
        live + expired
    }
}

impl Source for CoreSource {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Received>,
        max: usize,
    ) -> Poll<usize> {
        loop {
            self.missed += ready!(self.feed.poll_take(cx, &mut self.taken, max.max(1)));
            if self.taken.is_empty() {
                return Poll::Ready(0);
            }
            // Nothing at all would mean the end, so a batch of garbage is passed over.
            let count = self.hand_out(batch);
            if count > 0 {
                return Poll::Ready(count);
            }
        }
    }

    fn stop(&mut self) {
        Arc::clone(&self.feed).begin_stop();
    }

    fn stand_down(&mut self) {
        self.feed.stand_down();
    }
}

impl Drop for CoreSource {
    fn drop(&mut self) {
        self.feed.close();
    }
}

// Core NATS keeps nothing, so a message comes again only because this process puts it back.
impl Settle for Feed {
    fn settle(
        self: Arc<Self>,
        _token: u128,
        verdict: Verdict,
    ) -> Completion<Result<(), TransportError>> {
        if let Verdict::Nak {
            message,
            attempt,
            delay,
        } = verdict
        {
            // Beyond the last attempt the message is given up, which nobody waits to hear.
            self.put_back(message, attempt.saturating_add(1), delay);
        }
        Completion::ready(Ok(()))
    }
}

/// Settles a delivery whose caller waits.
#[derive(Debug)]
struct Asked {
    feed: Arc<Feed>,
    asker: Asker,
}

impl Settle for Asked {
    fn settle(
        self: Arc<Self>,
        _token: u128,
        verdict: Verdict,
    ) -> Completion<Result<(), TransportError>> {
        match verdict {
            Verdict::Ack | Verdict::Extend { .. } | Verdict::Reject => {}
            Verdict::Abandoned => self.asker.lose(),
            Verdict::Nak {
                message,
                attempt,
                delay,
            } => {
                let next = attempt.saturating_add(1);
                if !self.feed.put_back(message, next, delay) {
                    self.asker.lose();
                }
            }
        }
        Completion::ready(Ok(()))
    }
}
