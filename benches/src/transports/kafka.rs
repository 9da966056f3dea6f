//! The bus over a Kafka broker, beside the raw client on the same broker.
//!
//! The raw client has the same settings, every replica in step and each message once, and sends the
//! same bytes. Ours and raw take turns, and each figure is the median of its runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use agentbus::{Bus, Request};
use agentbus_transport::remote::amb::{self, Extra};
use agentbus_transport::{PublishOptions, Transport};
use agentbus_transport_kafka::KafkaTransport;
use futures_util::{StreamExt, stream};
use rdkafka::Message;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::json;

use super::messages::{SUBJECT, all, message, publish, settle};
use crate::report::{Report, median, percentile};

/// Runs of each figure, ours and raw in turn; odd, for the median.
const RUNS: usize = 7;

/// Publishes of a run.
const MANY: u64 = 60_000;

/// Publishes in flight.
const IN_FLIGHT: usize = 1024;

/// Calls of a run.
const CALLS: usize = 1_000;

/// Messages of a backlog.
const BACKLOG: u64 = 30_000;

fn url() -> String {
    std::env::var("AGENTBUS_KAFKA_URL").unwrap()
}

/// Where the broker is; each figure has a namespace and with it topics of its own.
fn place(namespace: &str) -> String {
    format!(
        "{}?namespace=bench-{namespace}-{}",
        url(),
        std::process::id()
    )
}

async fn open(namespace: &str) -> KafkaTransport {
    KafkaTransport::connect(&place(namespace)).await.unwrap()
}

/// The settings of a raw client.
fn raw() -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", url().trim_start_matches("kafka://"))
        .set("socket.nagle.disable", "true")
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "0");
    config
}

/// Acknowledged messages, many at a time.
pub(crate) async fn batched(report: &mut Report) {
    let (transport, producer) = (
        open("batched").await,
        raw().create::<FutureProducer>().unwrap(),
    );
    let messages: Vec<_> = (0..MANY).map(|n| Arc::new(message(n))).collect();
    let data = amb::encode(&messages[0], &Extra::default());
    let topic = format!("bench-raw-{}", std::process::id());
    let (mut ours, mut raws) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let begun = Instant::now();
        let sending = stream::iter(messages.clone())
            .map(|message| transport.publish(message, PublishOptions::default()));
        let all = sending.buffered(IN_FLIGHT);
        all.for_each(|sent| async move {
            sent.unwrap();
        })
        .await;
        ours.push(MANY as f64 / begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        let sending = stream::iter(0..MANY).map(|_| {
            let record = FutureRecord::to(&topic)
                .partition(0)
                .key(SUBJECT)
                .payload(&data);
            producer.send_result(record).ok().unwrap()
        });
        let all = sending.buffered(IN_FLIGHT);
        all.for_each(|sent| async move {
            sent.unwrap().unwrap();
        })
        .await;
        raws.push(MANY as f64 / begun.elapsed().as_secs_f64());
    }
    let what = format!("kafka: acknowledged publish, {IN_FLIGHT} in flight (baseline: rdkafka)");
    report.rate(&what, median(ours), median(raws), "≥ ×0.7");
    transport.close(Duration::ZERO).await;
}

/// From the call to its reply, one at a time.
pub(crate) async fn requests(report: &mut Report) {
    let bus = |name: &str| {
        Bus::builder(name.to_owned())
            .transport(place("requests"))
            .connect()
    };
    let (agent, caller) = (bus("agent").await.unwrap(), bus("caller").await.unwrap());
    agent
        .handle("echo", |request: Request| {
            std::future::ready(Ok(request.payload().cloned()))
        })
        .await
        .unwrap();
    let pair = Pair::open().await;
    let (mut ours, mut raws) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let mut times = Vec::with_capacity(CALLS);
        for _ in 0..CALLS {
            let begun = Instant::now();
            let body = json!({"order": 1, "total": 12.5});
            caller.invoke("echo", &body).await.unwrap();
            times.push(begun.elapsed());
        }
        ours.push(percentile(&mut times, 50));
        times.clear();
        for _ in 0..CALLS {
            let begun = Instant::now();
            pair.call().await;
            times.push(begun.elapsed());
        }
        raws.push(percentile(&mut times, 50));
    }
    report.latency(
        "kafka: request → reply, p50 (baseline: rdkafka, there and back)",
        median(ours),
        median(raws),
        "",
    );
    pair.echo.abort();
}

/// A raw client that asks and one that answers, over a topic each way.
struct Pair {
    producer: FutureProducer,
    answers: StreamConsumer,
    there: String,
    data: Vec<u8>,
    echo: tokio::task::JoinHandle<()>,
}

impl Pair {
    async fn open() -> Self {
        let name = |way: &str| format!("bench-raw-{way}-{}", std::process::id());
        let (there, back) = (name("there"), name("back"));
        let producer: FutureProducer = raw().create().unwrap();
        let data = amb::encode(&message(0), &Extra::default());
        // The first message makes a topic.
        for topic in [&there, &back] {
            say(&producer, topic, &data).await;
        }
        let (asked, answers) = (hear(&there), hear(&back));
        let answering = producer.clone();
        let echo = tokio::spawn(async move {
            loop {
                let data = asked.recv().await.unwrap().payload().unwrap().to_vec();
                say(&answering, &back, &data).await;
            }
        });
        let pair = Self {
            producer,
            answers,
            there,
            data,
            echo,
        };
        // What made the topics is not read as an answer.
        pair.answers.recv().await.unwrap();
        pair.answers.recv().await.unwrap();
        pair
    }

    async fn call(&self) {
        let sent = say(&self.producer, &self.there, &self.data);
        let (_, answer) = tokio::join!(sent, self.answers.recv());
        answer.unwrap();
    }
}

async fn say(producer: &FutureProducer, topic: &str, data: &[u8]) {
    let record = FutureRecord::to(topic)
        .partition(0)
        .key(SUBJECT)
        .payload(data);
    producer
        .send(record, Duration::from_secs(30))
        .await
        .unwrap();
}

fn hear(topic: &str) -> StreamConsumer {
    let mut config = raw();
    config
        .set("group.id", topic)
        .set("enable.auto.commit", "false");
    let consumer: StreamConsumer = config.create().unwrap();
    let mut whole = TopicPartitionList::new();
    whole
        .add_partition_offset(topic, 0, Offset::Offset(0))
        .unwrap();
    consumer.assign(&whole).unwrap();
    consumer
}

/// What a durable subscription finds waiting.
pub(crate) async fn deliver(report: &mut Report) {
    let transport = open("deliver").await;
    let mut rates = Vec::new();
    for run in 0..RUNS {
        let mut request = all(Some(&format!("reader-{run}")));
        request.start = agentbus_transport::Start::New;
        drop(transport.subscribe(request.clone()).await.unwrap());
        let sending = stream::iter(0..BACKLOG).map(|n| publish(&transport, n));
        sending.buffered(IN_FLIGHT).collect::<()>().await;
        let durable = transport.subscribe(request).await.unwrap();
        let begun = Instant::now();
        settle(durable, BACKLOG, 0).await;
        rates.push(BACKLOG as f64 / begun.elapsed().as_secs_f64());
    }
    let what = "kafka: backlog of a durable subscription, received and acknowledged";
    report.plain(what, format!("{:.0} k/s", median(rates) / 1e3), "");
    transport.close(Duration::ZERO).await;
}
