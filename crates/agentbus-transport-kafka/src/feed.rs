//! A live subscription: what this client hears on the lanes, in a queue of this process.
//!
//! A plain one takes whatever matches. A member of a group takes what the publisher dealt to it,
//! and with it goes what it has not handed out: those who wait for an answer are told.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll};

use agentbus_protocol::Pattern;
use agentbus_transport::remote::amb;
use agentbus_transport::remote::{Drain, Queue};
use agentbus_transport::{
    Completion, Message, QueueStats, Received, Settle, Source, Subscribe, TransportError, Verdict,
};
use parking_lot::Mutex;

use crate::gate::Listening;
use crate::inbox::home_of;
use crate::lanes::Place;
use crate::limits;
use crate::link::Link;
use crate::table::{Key, Member};

pub(crate) struct Feed {
    link: Arc<Link>,
    /// The name of its record.
    pub(crate) id: String,
    pub(crate) pattern: Pattern,
    pub(crate) group: Option<String>,
    /// What came before is not for it.
    from: HashMap<Place, i64>,
    number: u64,
    queue: Arc<Queue>,
    /// What keeps the lanes read, until it takes no more.
    listening: Mutex<Option<Arc<Listening>>>,
}

impl Feed {
    fn new(link: &Arc<Link>, request: Subscribe, listening: Listening) -> Arc<Self> {
        let number = link.number();
        Arc::new(Self {
            link: Arc::clone(link),
            id: link.member_id(number),
            pattern: request.pattern,
            group: request.group.map(|group| group.as_str().to_owned()),
            from: link.lanes.now(),
            number,
            queue: Arc::new(Queue::new(request.capacity)),
            listening: Mutex::new(Some(Arc::new(listening))),
        })
    }

    /// Writes its record, and waits until it is read.
    pub(crate) async fn announce(&self) -> Result<(), TransportError> {
        let member = Member {
            pattern: self.pattern.as_str().to_owned(),
            group: self.group.clone(),
            durable: None,
            removes: false,
        };
        self.link.announce(Key::Member(&self.id), &member).await
    }

    /// Whether it listens for itself, and did so when a message was written.
    pub(crate) fn hears(&self, place: Place, number: i64) -> bool {
        self.group.is_none() && self.from.get(&place).is_none_or(|from| number >= *from)
    }

    pub(crate) fn put(&self, message: &Arc<Message>) {
        self.queue.put(message);
    }

    /// Ends the subscription for good, and with it whatever waits.
    fn close(&self) {
        self.link.leave(self.number);
        self.link.feeds.remove(&self.id);
        self.retract();
        self.listening.lock().take();
        for message in self.queue.end() {
            self.give_up(&message);
        }
    }

    /// Is dealt nothing any more, once the others have read of it.
    fn retract(&self) {
        self.link.table.leave(&self.id);
        // Only a group's are dealt anything; for them the lanes are read a while longer.
        let listening = self.listening.lock().clone();
        let listening = listening.filter(|_| self.group.is_some());
        let (link, key) = (Arc::clone(&self.link), Key::Member(&self.id).text());
        self.link.spawn_lasting(async move {
            let told = link.erase(&key).await;
            if let Some(listening) = listening {
                listening.note_left(told);
            }
        });
    }

    /// Tells whoever waits for an answer that none will come. Those who merely listen owe none.
    fn give_up(&self, request: &Message) {
        if self.group.is_some() {
            lose(&self.link, request);
        }
    }

    /// Takes no new messages once what was published before is here.
    async fn finish(self: Arc<Self>) {
        if self.group.is_some() {
            self.retract();
        }
        self.link.lanes.catch_up(limits::STOP_TIMEOUT).await;
        self.link.feeds.remove(&self.id);
        self.queue.finish();
        self.link.note_drained();
        if self.group.is_none() {
            self.retract();
        }
        self.listening.lock().take();
    }
}

/// Tells the caller that its request will not be answered.
pub(crate) fn lose(link: &Link, request: &Message) {
    let envelope = &request.envelope;
    let Some(inbox) = request.asker() else {
        return;
    };
    let Some((client, partition)) = home_of(envelope.reply_to.as_str()) else {
        return;
    };
    link.tell(client, partition, &amb::encode_lost(envelope, inbox));
}

impl Drain for Feed {
    fn stop(self: Arc<Self>) {
        if self.queue.begin_stop() {
            // At once, so that a publish that follows is dealt to somebody else.
            if self.group.is_some() {
                self.link.table.leave(&self.id);
            }
            let link = Arc::clone(&self.link);
            link.spawn(self.finish());
        }
    }

    fn is_drained(&self) -> bool {
        self.queue.is_drained()
    }

    fn end(&self) -> usize {
        let left = self.queue.end();
        left.iter().for_each(|message| self.give_up(message));
        left.len()
    }

    fn stats(&self) -> QueueStats {
        self.queue
            .stats(self.pattern.as_str(), self.group.as_deref())
    }
}

/// A message in somebody's hands.
#[derive(Debug)]
struct Held {
    feed: Arc<Feed>,
    message: Arc<Message>,
}

impl Settle for Held {
    fn settle(
        self: Arc<Self>,
        _token: u128,
        verdict: Verdict,
    ) -> Completion<Result<(), TransportError>> {
        let link = &self.feed.link;
        match verdict {
            Verdict::Nak { attempt, delay, .. } if !link.is_closed() => {
                let (message, ending) = (Arc::clone(&self.message), link.ending.clone());
                if let Some(wait) = self.feed.queue.put_back(message, attempt, delay, ending) {
                    link.spawn(wait);
                }
            }
            Verdict::Nak { .. } | Verdict::Abandoned => self.feed.give_up(&self.message),
            _ => {}
        }
        Completion::ready(Ok(()))
    }
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed")
            .field("id", &self.id)
            .field("pattern", &self.pattern)
            .finish_non_exhaustive()
    }
}

/// Hands out what a feed has. Dropping it unsubscribes.
#[derive(Debug)]
pub(crate) struct FeedSource(Arc<Feed>);

impl FeedSource {
    /// Subscribes; when this returns, every client that reads on learns of it.
    pub(crate) async fn open(link: &Arc<Link>, request: Subscribe) -> Result<Self, TransportError> {
        // Before anybody knows of it, so that it misses nothing that is meant for it.
        let listening = Listening::begin(link).await?;
        let feed = Feed::new(link, request, listening);
        let seen: std::sync::Weak<dyn Drain> = Arc::downgrade(&feed) as _;
        link.enter(feed.number, seen)?;
        link.feeds.add(&feed);
        // From here on it is withdrawn when the announcement fails, or nobody waits for it.
        let source = Self(feed);
        source.0.announce().await?;
        Ok(source)
    }
}

impl Source for FeedSource {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Received>,
        max: usize,
    ) -> Poll<usize> {
        let feed = &self.0;
        let settle = |message: &Arc<Message>| {
            let (feed, message) = (Arc::clone(feed), Arc::clone(message));
            Arc::new(Held { feed, message }) as Arc<dyn Settle>
        };
        let polled = feed.queue.poll(cx, batch, max, settle);
        if feed.queue.is_drained() {
            feed.link.note_drained();
        }
        polled
    }

    fn stop(&mut self) {
        Arc::clone(&self.0).stop();
    }
}

impl Drop for FeedSource {
    fn drop(&mut self) {
        self.0.close();
    }
}
