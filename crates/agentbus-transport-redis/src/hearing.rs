//! The connection that hears what is published.
//!
//! All plain subscriptions and all inboxes of a transport share one connection. Subjects with
//! wildcards become globs, which match more than the bus's wildcards do; what a glob lets through
//! is compared with the pattern once more.
//!
//! When the connection is lost it is made again, and everything is subscribed anew before anybody
//! is told that it works. What is published in between is not heard: whoever must hear everything
//! uses a durable name.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use agentbus_protocol::Pattern;
use agentbus_transport::TransportError;
use agentbus_transport::remote::amb;
use bytes::Bytes;
use futures_util::StreamExt;
use parking_lot::Mutex;
use redis::aio::{PubSubSink, PubSubStream};
use redis::{Msg, RedisError};
use tokio::time::{Instant, timeout};

use crate::commands::{Backoff, Commands, Order, carrier, failed, is_loss};
use crate::feed::Feed;
use crate::inbox::SharedInbox;
use crate::limits;
use crate::names::Names;

/// What the server is asked to send.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Topic {
    Channel(String),
    Glob(String),
}

impl Topic {
    pub(crate) fn of(names: &Names, pattern: &Pattern) -> Self {
        if pattern.is_literal() {
            Self::Channel(names.channel(pattern.as_str()))
        } else {
            Self::Glob(names.glob(pattern))
        }
    }

    async fn subscribe(&self, sink: &mut PubSubSink) -> Result<(), RedisError> {
        match self {
            Self::Channel(name) => sink.subscribe(name).await,
            Self::Glob(glob) => sink.psubscribe(glob).await,
        }
    }

    async fn unsubscribe(&self, sink: &mut PubSubSink) -> Result<(), RedisError> {
        match self {
            Self::Channel(name) => sink.unsubscribe(name).await,
            Self::Glob(glob) => sink.punsubscribe(glob).await,
        }
    }
}

/// Who hears what.
pub(crate) struct Hearing {
    commands: Arc<Commands>,
    inbox: Arc<SharedInbox>,
    /// The inbox's channel, which is heard for as long as the transport lives.
    home: String,
    feeds: Mutex<HashMap<Topic, Vec<Weak<Feed>>>>,
    /// `None` while there is no connection.
    sink: tokio::sync::Mutex<Option<PubSubSink>>,
}

impl Hearing {
    /// Connects, and hears the inbox when this returns.
    pub(crate) async fn open(
        commands: Arc<Commands>,
        inbox: Arc<SharedInbox>,
        home: String,
    ) -> Result<(Arc<Self>, PubSubStream), TransportError> {
        let hearing = Arc::new(Self {
            commands,
            inbox,
            home,
            feeds: Mutex::default(),
            sink: tokio::sync::Mutex::new(None),
        });
        let stream = hearing.connect().await.map_err(|error| failed(&error))?;
        Ok((hearing, stream))
    }

    /// Connects and subscribes to everything that somebody wants to hear.
    async fn connect(&self) -> Result<PubSubStream, RedisError> {
        // Nobody subscribes meanwhile, so nothing is left out.
        let mut place = self.sink.lock().await;
        let connecting = self.commands.client().get_async_pubsub();
        let (mut sink, stream) = within(limits::CONNECT_TIMEOUT, connecting).await?.split();
        within(limits::RESPONSE_TIMEOUT, sink.subscribe(&self.home)).await?;
        let topics: Vec<_> = self.feeds.lock().keys().cloned().collect();
        for topic in topics {
            within(limits::RESPONSE_TIMEOUT, topic.subscribe(&mut sink)).await?;
        }
        *place = Some(sink);
        Ok(stream)
    }

    /// Hears until the transport is over, over reconnects.
    pub(crate) async fn run(self: Arc<Self>, mut stream: PubSubStream) {
        let over = self.commands.over().clone();
        loop {
            tokio::select! {
                biased;
                () = over.cancelled() => return,
                () = self.hear(&mut stream) => {}
            }
            tracing::warn!("the connection to the Redis server was lost; connecting again");
            *self.sink.lock().await = None;
            let again = self.reconnect();
            stream = tokio::select! {
                () = over.cancelled() => return,
                stream = again => stream,
            };
        }
    }

    async fn reconnect(&self) -> PubSubStream {
        let mut pause = Backoff::default();
        loop {
            match self.connect().await {
                Ok(stream) => return stream,
                Err(error) => tracing::debug!(%error, "the Redis server does not answer"),
            }
            pause.wait().await;
        }
    }

    /// Deals out messages until the connection ends.
    async fn hear(&self, stream: &mut PubSubStream) {
        while let Some(message) = stream.next().await {
            self.deal(&message).await;
        }
    }

    async fn deal(&self, heard: &Msg) {
        let data = Bytes::copy_from_slice(heard.get_payload_bytes());
        let channel = heard.get_channel_name();
        if !heard.from_pattern() && channel == self.home {
            return self.reply(&data).await;
        }
        let topic = match heard.get_pattern::<Option<String>>() {
            Ok(Some(glob)) => Topic::Glob(glob),
            _ => Topic::Channel(channel.to_owned()),
        };
        let feeds: Vec<_> = match self.feeds.lock().get(&topic) {
            Some(feeds) => feeds.iter().filter_map(Weak::upgrade).collect(),
            None => return,
        };
        let message = match amb::decode(&data) {
            Ok(read) => Arc::new(read.message),
            Err(error) => {
                tracing::warn!(channel, %error, "a message cannot be read");
                return;
            }
        };
        for feed in feeds {
            if feed.pattern.matches(message.subject.as_str()) {
                feed.put(&message);
            }
        }
    }

    async fn reply(&self, data: &Bytes) {
        let Some((channel, notice)) = self.inbox.take(data) else {
            return;
        };
        let mut cmd = redis::cmd("PUBLISH");
        cmd.arg(channel).arg(notice);
        // A replier that does not hear it goes on writing to nobody, which is no harm.
        if let Err(error) = self.commands.once(&Order::One(cmd)).await {
            tracing::debug!(%error, "a notice could not be sent");
        }
    }

    /// Adds a feed; the server knows when this returns.
    pub(crate) async fn add(&self, feed: &Arc<Feed>) -> Result<(), TransportError> {
        let entry = Arc::downgrade(feed);
        self.feeds
            .lock()
            .entry(feed.topic.clone())
            .or_default()
            .push(entry);
        let deadline = Instant::now() + limits::READY_TIMEOUT;
        let mut pause = Backoff::default();
        loop {
            // Asked for again even if somebody else did: only its answer says that it is so.
            let outcome = match &mut *self.sink.lock().await {
                Some(sink) => within(limits::RESPONSE_TIMEOUT, feed.topic.subscribe(sink)).await,
                None => Err(lost()),
            };
            match outcome {
                Ok(()) => return Ok(()),
                Err(error) if !is_loss(&error) || Instant::now() >= deadline => {
                    return Err(failed(&error));
                }
                Err(_) => pause.wait().await,
            }
        }
    }

    /// Removes a feed, and its topic with the last one.
    pub(crate) async fn remove(&self, feed: &Arc<Feed>) {
        let mut sink = self.sink.lock().await;
        let last = {
            let mut feeds = self.feeds.lock();
            let Some(others) = feeds.get_mut(&feed.topic) else {
                return;
            };
            let gone = Arc::as_ptr(feed);
            others.retain(|other| other.strong_count() > 0 && !std::ptr::eq(other.as_ptr(), gone));
            let last = others.is_empty();
            if last {
                feeds.remove(&feed.topic);
            }
            last
        };
        if last && let Some(sink) = &mut *sink {
            // A lost connection has forgotten it anyway.
            let _ = within(limits::RESPONSE_TIMEOUT, feed.topic.unsubscribe(sink)).await;
        }
    }

    /// Waits until everything that was published before has been heard: a message to ourselves
    /// comes back.
    pub(crate) async fn echo(&self, patience: Duration) -> Result<(), TransportError> {
        let (question, answered) = self.inbox.ask();
        let mut cmd = redis::cmd("PUBLISH");
        cmd.arg(&self.home).arg(question);
        let round = async {
            self.commands
                .once(&Order::One(cmd))
                .await
                .map_err(|error| failed(&error))?;
            answered.await.map_err(|_| TransportError::Closed)
        };
        match timeout(patience, round).await {
            Ok(outcome) => outcome,
            Err(_) => Err(carrier(format!(
                "the server did not answer within {patience:?}"
            ))),
        }
    }
}

impl std::fmt::Debug for Hearing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hearing").finish_non_exhaustive()
    }
}

fn lost() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::NotConnected).into()
}

async fn within<T>(
    patience: Duration,
    step: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, RedisError> {
    match timeout(patience, step).await {
        Ok(outcome) => outcome,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}
