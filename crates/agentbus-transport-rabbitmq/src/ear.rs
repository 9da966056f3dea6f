//! A queue of one connection's own, from which messages are taken as they come.
//!
//! It belongs to the connection and goes with it, or with its only consumer: nothing of it stays
//! behind, whatever ends first.

use std::time::Duration;

use agentbus_transport::TransportError;
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Consumer};

use crate::errors::asked;
use crate::limits;
use crate::link::Link;

/// The receiving end of such a queue.
pub(crate) struct Ear {
    channel: Channel,
    consumer: Consumer,
}

impl Ear {
    /// Makes the queue and binds it; every later publish to the key reaches it when this returns.
    pub(crate) async fn open(
        link: &Link,
        queue: &str,
        key: &str,
        patience: Duration,
    ) -> Result<Self, TransportError> {
        let channel = link.incoming().channel(patience).await?;
        let own = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        let mut bounds = FieldTable::default();
        let most = AMQPValue::LongUInt(limits::PASSING_MESSAGES);
        bounds.insert("x-max-length".into(), most);
        asked(channel.queue_declare(queue.into(), own, bounds)).await?;
        let exchange = link.names().exchange().into();
        let bound = channel.queue_bind(
            queue.into(),
            exchange,
            key.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        asked(bound).await?;
        let at_once = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        let consuming =
            channel.basic_consume(queue.into(), "".into(), at_once, FieldTable::default());
        let consumer = asked(consuming).await?;
        Ok(Self { channel, consumer })
    }

    /// The next message; `None` when there will be no more. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Delivery> {
        self.consumer.next().await?.ok()
    }

    /// Has the broker send no more; what it had sent can still be taken.
    pub(crate) async fn stop(&self) {
        let tag = self.consumer.tag();
        // On a connection that is lost nothing more comes anyway.
        let _ = asked(self.channel.basic_cancel(tag, <_>::default())).await;
    }
}
