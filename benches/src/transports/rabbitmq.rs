//! The bus over a RabbitMQ broker, beside the raw client at the same broker.
//!
//! The raw side publishes the same bytes with the same properties to the same exchange, each
//! confirmed. One queue takes them, which holds the latest few and forgets the rest, so that the
//! broker does the same for both and does not grow.

use std::sync::Arc;
use std::time::{Duration, Instant};

use agentbus_transport::remote::amb;
use agentbus_transport::{PublishOptions, Transport};
use agentbus_transport_rabbitmq::RabbitTransport;
use futures_util::{StreamExt, stream};
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

use super::messages::{SUBJECT, message, publish};
use crate::report::{Report, median, percentile};

/// Runs of each figure, ours and raw in turn; odd, for the median.
const RUNS: usize = 7;

/// Publishes of a run, one at a time.
const SINGLE: u64 = 3_000;

/// Publishes of a run, many at a time.
const MANY: u64 = 20_000;

/// Publishes in flight.
const IN_FLIGHT: usize = 64;

const NAMESPACE: &str = "bench";

fn url() -> String {
    std::env::var("AGENTBUS_RABBITMQ_URL").unwrap()
}

async fn open() -> RabbitTransport {
    let url = format!("{}?namespace={NAMESPACE}", url());
    RabbitTransport::connect(&url).await.unwrap()
}

/// The raw client, with the bytes that ours sends.
struct Raw {
    channel: Channel,
    body: Vec<u8>,
    properties: BasicProperties,
}

impl Raw {
    /// Connects, and makes the queue that takes everything; ours has made the exchange.
    async fn open() -> Self {
        let url = url();
        let connecting = Connection::connect(&url, ConnectionProperties::default());
        let connection = connecting.await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let confirmed = channel.confirm_select(ConfirmSelectOptions::default());
        confirmed.await.unwrap();
        let mut bounds = FieldTable::default();
        bounds.insert("x-max-length".into(), AMQPValue::LongUInt(10));
        let own = QueueDeclareOptions {
            exclusive: true,
            ..QueueDeclareOptions::default()
        };
        let queue = channel.queue_declare("".into(), own, bounds).await.unwrap();
        let bound = channel.queue_bind(
            queue.name().clone(),
            format!("{NAMESPACE}.amb.topic").into(),
            SUBJECT.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        bound.await.unwrap();
        let message = message(0);
        let id = message.envelope.event_id.with_str(str::to_owned);
        Self {
            channel,
            body: amb::encode(&message, &amb::Extra::default()),
            properties: BasicProperties::default()
                .with_content_type("application/json".into())
                .with_delivery_mode(2)
                .with_priority(2)
                .with_message_id(id.into()),
        }
    }

    async fn publish(&self) {
        let confirm = self.channel.basic_publish(
            format!("{NAMESPACE}.amb.topic").into(),
            SUBJECT.into(),
            BasicPublishOptions::default(),
            &self.body,
            self.properties.clone(),
        );
        assert!(confirm.await.unwrap().await.unwrap().is_ack());
    }
}

/// One message at a time, from the call to its receipt.
pub(crate) async fn single(report: &mut Report) {
    let transport = open().await;
    let raw = Raw::open().await;
    let (mut ours, mut raws) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let (mut times, mut raw_times) = (Vec::new(), Vec::new());
        for n in 0..SINGLE {
            let begun = Instant::now();
            publish(&transport, n).await;
            times.push(begun.elapsed());
        }
        for _ in 0..SINGLE {
            let begun = Instant::now();
            raw.publish().await;
            raw_times.push(begun.elapsed());
        }
        ours.push(percentile(&mut times, 50));
        raws.push(percentile(&mut raw_times, 50));
    }
    let what = "rabbitmq: confirmed publish, p50 (baseline: lapin)";
    report.latency(what, median(ours), median(raws), "≤ ×1.2");
    transport.close(Duration::ZERO).await;
}

/// Many messages at a time.
pub(crate) async fn pipelined(report: &mut Report) {
    let transport = open().await;
    let raw = Raw::open().await;
    let messages: Vec<_> = (0..MANY).map(|n| Arc::new(message(n))).collect();
    let (mut ours, mut raws) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let begun = Instant::now();
        let sending = stream::iter(messages.clone())
            .map(|message| transport.publish(message, PublishOptions::default()));
        let all = sending.buffered(IN_FLIGHT);
        all.for_each(|sent| {
            sent.unwrap();
            std::future::ready(())
        })
        .await;
        ours.push(MANY as f64 / begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        let sending = stream::iter(0..MANY).map(|_| raw.publish());
        sending.buffered(IN_FLIGHT).collect::<()>().await;
        raws.push(MANY as f64 / begun.elapsed().as_secs_f64());
    }
    let what = format!("rabbitmq: confirmed publish, {IN_FLIGHT} in flight (baseline: lapin)");
    report.rate(&what, median(ours), median(raws), "≥ 70 %");
    transport.close(Duration::ZERO).await;
}
