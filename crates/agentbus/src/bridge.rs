//! Copies events from one transport to another.
//!
//! A bridge is an ordinary subscriber of the one and an ordinary publisher of the other. It takes
//! a message off its source only when its destination has accepted it, so a crash at any moment
//! repeats messages and loses none; where the destination knows idempotency keys, a repetition is
//! stored once.
//!
//! What would surprise: **two bridges in opposite directions do not make a circle.** Each notes in
//! the metadata where a message has been, and none brings a message back there. And **what expired
//! is left behind**, counted and without a dead letter: nobody may act on it at the destination any
//! more, and the subscribers of the source bury what they themselves came too late for.

use std::sync::Arc;
use std::time::Duration;

use agentbus_protocol::{Metadata, Pattern, Subject, SubjectSpace, Text};
use agentbus_transport::{
    Delivery, Message, PublishOptions, Received, Start, Subscribe, Subscription, Transport,
    TransportError,
};
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio_util::sync::CancellationToken;

use crate::{Error, limits};

/// The metadata key under which a copied event says where it has been.
pub const ROUTE: &str = "agentbus.route";

/// One end of a bridge.
#[derive(Debug, Clone)]
pub struct End {
    transport: Arc<dyn Transport>,
    name: String,
    space: SubjectSpace,
}

impl End {
    /// Names a transport. The name travels in the metadata of what is copied, so it must be the
    /// same for everyone who bridges to this carrier, and must hold no secret.
    pub fn new(transport: Arc<dyn Transport>, name: impl Into<String>) -> Self {
        Self {
            transport,
            name: name.into(),
            space: SubjectSpace::default(),
        }
    }

    /// Uses another subject prefix or tenant than the usual.
    #[must_use]
    pub fn within(mut self, space: SubjectSpace) -> Self {
        self.space = space;
        self
    }

    /// Knows the topics that the transport shares with peers, which have no prefix there.
    fn sharing(mut self) -> Result<Self, Error> {
        self.space = self.space.sharing(self.transport.shared_topics())?;
        Ok(self)
    }
}

/// A bridge about to be opened.
#[derive(Debug)]
#[must_use = "nothing is copied until this is opened"]
pub struct Builder {
    from: End,
    to: End,
    pattern: Pattern,
    durable: Option<Text>,
    start: Start,
}

/// Begins a bridge for the events whose subject matches; [`events_pattern`](crate::events_pattern)
/// makes such a pattern of one of event types.
pub fn between(from: End, to: End, pattern: Pattern) -> Builder {
    Builder {
        from,
        to,
        pattern,
        durable: None,
        start: Start::New,
    }
}

impl Builder {
    /// Remembers in the source, under this name, how far the bridge has come. The source must
    /// have durable subscriptions.
    pub fn durable(mut self, name: impl Into<Text>) -> Self {
        self.durable = Some(name.into());
        self
    }

    /// Begins in the past; a name that is known goes on where it was.
    pub const fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Subscribes to the source. From now on nothing that is published there is missed.
    ///
    /// # Errors
    /// Fails when the ends are one carrier, and when the source lacks what was asked for.
    pub async fn open(mut self) -> Result<Bridge, Error> {
        self.from = self.from.sharing()?;
        self.to = self.to.sharing()?;
        if self.from.name == self.to.name {
            let name = &self.from.name;
            let message = format!("both ends are {name}; a bridge needs two transports");
            return Err(Error::Setup(message));
        }
        let mut request = Subscribe::new(self.pattern.clone());
        request.durable = self.durable;
        request.start = self.start;
        request.prefetch = limits::BRIDGE_WINDOW;
        let source = self.from.transport.subscribe(request).await?;
        Ok(Bridge {
            from: self.from,
            to: self.to,
            pattern: self.pattern,
            source,
            copied: 0,
            expired: 0,
        })
    }
}

/// How a step of a bridge ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// So many events were accepted by the destination.
    Copied(u64),
    /// The source had nothing for the time given.
    Idle,
    /// The source has ended, or the bridge was asked to stop.
    Over,
}

/// An open bridge.
#[derive(Debug)]
pub struct Bridge {
    from: End,
    to: End,
    pattern: Pattern,
    source: Subscription,
    copied: u64,
    expired: u64,
}

impl Bridge {
    /// How many events were copied since the bridge was opened.
    #[must_use]
    pub const fn copied(&self) -> u64 {
        self.copied
    }

    /// How many events were left behind since the bridge was opened, because they had expired.
    #[must_use]
    pub const fn expired(&self) -> u64 {
        self.expired
    }

    /// Waits for events, for at most `idle`, and copies those that are there, in order.
    ///
    /// A destination that cannot be reached is tried again until it can, or until `stop`.
    ///
    /// # Errors
    /// Fails when the destination refuses a message for good, for example one that is too large.
    /// The message is given back to the source.
    pub async fn step(
        &mut self,
        idle: Option<Duration>,
        stop: &CancellationToken,
    ) -> Result<Step, Error> {
        let mut batch = Vec::new();
        let received = async {
            let receiving = self.source.receive_many(&mut batch, limits::BRIDGE_WINDOW);
            match idle {
                None => Some(receiving.await),
                Some(idle) => tokio::time::timeout(idle, receiving).await.ok(),
            }
        };
        let received = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(Step::Over),
            received = received => received,
        };
        match received {
            None => Ok(Step::Idle),
            Some(0) => Ok(Step::Over),
            Some(_) => self.copy(batch, stop).await,
        }
    }

    async fn copy(
        &mut self,
        batch: Vec<Received>,
        stop: &CancellationToken,
    ) -> Result<Step, Error> {
        let mut left = Vec::with_capacity(batch.len());
        for received in batch {
            match received {
                Received::Live(delivery) => left.push(delivery),
                Received::Expired(delivery) => self.leave_behind(&delivery),
                Received::NoResponder | Received::Lost => {}
            }
        }
        let mut pause = limits::BRIDGE_PAUSE_MIN;
        let before = self.copied;
        while let Some(failure) = self.send(&mut left).await? {
            tracing::warn!(error = %failure, from = self.from.name, to = self.to.name, waiting = left.len(),
                "the destination of a bridge takes nothing; trying again in {} s", pause.as_secs_f64());
            if !self.hold(&mut left, pause, stop).await {
                return Ok(Step::Over);
            }
            pause = (pause * 2).min(limits::BRIDGE_PAUSE_MAX);
        }
        Ok(Step::Copied(self.copied - before))
    }

    /// Publishes what is left, in order, and takes what was accepted off the source. Returns why
    /// it stopped before the end, if trying again may help.
    async fn send(&mut self, left: &mut Vec<Delivery>) -> Result<Option<Error>, Error> {
        let mut sent = FuturesOrdered::new();
        for delivery in left.iter() {
            let copy = self.copy_of(delivery);
            let accepted =
                copy.map(|(message, options)| self.to.transport.publish(message, options));
            sent.push_back(async move {
                match accepted {
                    Some(accepted) => accepted.await.map(|_| 1),
                    None => Ok(0),
                }
            });
        }
        let mut accepted = 0;
        let mut failure = None;
        while let Some(outcome) = sent.next().await {
            match outcome {
                Ok(copied) => self.copied += copied,
                // While it waited here; what waits behind it may still be good.
                Err(TransportError::Expired { .. }) => self.leave_behind(&left[accepted]),
                Err(error) => {
                    failure = Some(Error::from(error));
                    break;
                }
            }
            accepted += 1;
        }
        drop(sent);
        for delivery in left.drain(..accepted) {
            // The destination has it, or it is too late for it. If the source does not hear that, it
            // will come again.
            if let Err(error) = delivery.ack().await {
                tracing::warn!(%error, from = self.from.name, "a copied event could not be acknowledged; it may be copied again");
            }
        }
        match failure {
            Some(error) if !error.is_retryable() => Err(error),
            failure => Ok(failure),
        }
    }

    fn leave_behind(&mut self, delivery: &Delivery) {
        self.expired += 1;
        tracing::info!(event_id = %delivery.envelope().event_id, from = self.from.name, to = self.to.name,
            "an event expired before it was copied");
    }

    /// Waits without losing what was handed out. Returns whether to go on.
    async fn hold(&self, left: &mut [Delivery], pause: Duration, stop: &CancellationToken) -> bool {
        if self.from.transport.capabilities().lease {
            for delivery in left {
                // A lease that has ended anyway means a repetition, no loss.
                drop(delivery.extend(pause + limits::BRIDGE_PAUSE_MAX).await);
            }
        }
        tokio::select! {
            () = stop.cancelled() => false,
            () = tokio::time::sleep(pause) => true,
        }
    }

    /// The message for the destination; `None` for one that comes from there, or that the source was
    /// not asked for: a hostile one could have its calls made at the destination.
    fn copy_of(&self, delivery: &Delivery) -> Option<(Arc<Message>, PublishOptions)> {
        let subject = delivery.subject();
        if !self.pattern.matches(subject.as_str()) {
            tracing::warn!(%subject, from = self.from.name, "what the source was not asked for is not copied");
            return None;
        }
        let mut message = Message::clone(delivery.message());
        let metadata = &mut message.envelope.metadata;
        let mut route: Vec<String> = metadata.get(ROUTE).unwrap_or_default();
        if route.contains(&self.to.name) || route.len() >= limits::BRIDGE_ROUTE_MAX {
            return None;
        }
        route.push(self.from.name.clone());
        mark(metadata, &route);
        message.subject = self.place_of(&message.subject);
        let keyed = self.to.transport.capabilities().idempotency;
        let options = PublishOptions {
            idempotency_key: keyed.then(|| self.key_of(delivery)),
            ..PublishOptions::default()
        };
        Some((Arc::new(message), options))
    }

    /// Where an event goes: what is a topic without prefix at one end may have one at the other.
    fn place_of(&self, subject: &Subject) -> Subject {
        let event_type = self.from.space.event_type_of(subject);
        let place = event_type.and_then(|event_type| self.to.space.events(event_type).ok());
        place.unwrap_or_else(|| subject.clone())
    }

    /// A name for the copy that is the same each time this event is copied.
    fn key_of(&self, delivery: &Delivery) -> Text {
        let from = &self.from.name;
        match delivery.sequence() {
            Some(sequence) => format!("{from}#{sequence}").into(),
            None => format!("{from}#{}", delivery.envelope().event_id).into(),
        }
    }
}

fn mark(metadata: &mut Metadata, route: &[String]) {
    // A list of texts always has a JSON form.
    let _ = metadata.insert(ROUTE, &route);
}

#[cfg(test)]
mod tests {
    use agentbus_protocol::{Envelope, EventType};
    use agentbus_transport::MemoryTransport;

    use super::*;

    #[tokio::test]
    async fn what_the_source_was_not_asked_for_is_not_copied() {
        let ends = ["a", "b"].map(|name| End::new(Arc::new(MemoryTransport::new()), name));
        let [from, to] = ends.clone();
        let events = SubjectSpace::default().events_pattern(">").unwrap();
        let mut bridge = between(from, to, events).open().await.unwrap();
        // As a source would do that sends what it likes.
        let calls = Subscribe::new(Pattern::parse("acp.v1.>").unwrap());
        bridge.source = ends[0].transport.subscribe(calls.clone()).await.unwrap();
        let mut copies = ends[1].transport.subscribe(calls).await.unwrap();
        let stop = CancellationToken::new();
        for subject in ["acp.v1.invoke.deploy", "acp.v1.events.deployed"] {
            let subject = Subject::parse(subject).unwrap();
            let envelope = Envelope::new(crate::mint::stamp(), EventType::new("deployed"));
            let message = Message::new(subject, envelope);
            let options = PublishOptions::default();
            let sent = ends[0].transport.publish(Arc::new(message), options).await;
            sent.unwrap();
            bridge.step(None, &stop).await.unwrap();
        }
        let Some(Received::Live(copy)) = copies.receive().await else {
            panic!("nothing was copied");
        };
        assert_eq!(copy.subject().as_str(), "acp.v1.events.deployed");
        assert_eq!(bridge.copied(), 1);
    }
}
