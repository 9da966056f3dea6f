//! The bus over a Redis server, beside the raw client on the same server.
//!
//! The raw side does with the same bytes what a stored publish must do at the least: append them to
//! a trimmed stream and say them on a channel, as one transaction.

use std::sync::Arc;
use std::time::{Duration, Instant};

use agentbus_transport::{PublishOptions, Transport};
use agentbus_transport_redis::RedisTransport;
use futures_util::{StreamExt, stream};
use redis::aio::MultiplexedConnection;

use super::messages::{SUBJECT, all, message, publish, settle};
use crate::report::{Report, median, percentile};

/// Runs of each figure, ours and raw in turn; odd, for the median.
const RUNS: usize = 7;

/// Publishes of a run, one at a time.
const SINGLE: u64 = 3_000;

/// Publishes of a run, many at a time.
const MANY: u64 = 60_000;

/// Publishes in flight, enough that the next batch has gathered when one is answered.
const IN_FLIGHT: usize = 1024;

/// Messages of one raw pipeline, as many as ours takes into a batch at most.
const PIPELINE: u64 = 256;

/// Messages of a backlog.
const BACKLOG: u64 = 30_000;

/// Where the server is; each figure has a namespace and with it a log of its own.
async fn open(namespace: &str) -> Arc<RedisTransport> {
    let url = format!("{}?namespace=bench-{namespace}", url());
    Arc::new(RedisTransport::connect(&url).await.unwrap())
}

fn url() -> String {
    std::env::var("AGENTBUS_REDIS_URL").unwrap()
}

/// The raw client, with the bytes that ours sends.
struct Raw {
    connection: MultiplexedConnection,
    data: Vec<u8>,
}

impl Raw {
    async fn open() -> Self {
        let client = redis::Client::open(url()).unwrap();
        Self {
            connection: client.get_multiplexed_async_connection().await.unwrap(),
            data: message(0).envelope.encode(),
        }
    }

    /// Stores and says so many messages, in one transaction.
    async fn publish(&mut self, count: u64) {
        let mut both = redis::pipe();
        both.atomic();
        for _ in 0..count {
            let append = both.cmd("XADD").arg("bench-raw:log");
            append.arg(&["MAXLEN", "~", "100000", "*"]);
            append.arg("s").arg(SUBJECT).arg("d").arg(&self.data);
            both.cmd("PUBLISH").arg(SUBJECT).arg(&self.data);
        }
        let _: Vec<redis::Value> = both.query_async(&mut self.connection).await.unwrap();
    }
}

/// One message at a time, from the call to its receipt.
pub(crate) async fn single(report: &mut Report) {
    let (transport, mut raw) = (open("single").await, Raw::open().await);
    let (mut ours, mut raws) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let (mut times, mut raw_times) = (Vec::new(), Vec::new());
        for n in 0..SINGLE {
            let begun = Instant::now();
            publish(&*transport, n).await;
            times.push(begun.elapsed());
        }
        for _ in 0..SINGLE {
            let begun = Instant::now();
            raw.publish(1).await;
            raw_times.push(begun.elapsed());
        }
        ours.push(percentile(&mut times, 50));
        raws.push(percentile(&mut raw_times, 50));
    }
    let what = "redis: stored publish, p50 (baseline: XADD and PUBLISH in a transaction)";
    report.latency(what, median(ours), median(raws), "≤ 50 us");
    transport.close(Duration::ZERO).await;
}

/// Many messages at a time.
pub(crate) async fn pipelined(report: &mut Report) {
    let (transport, mut raw) = (open("pipelined").await, Raw::open().await);
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
        for _ in 0..MANY / PIPELINE {
            raw.publish(PIPELINE).await;
        }
        let sent = MANY / PIPELINE * PIPELINE;
        raws.push(sent as f64 / begun.elapsed().as_secs_f64());
    }
    let what = format!(
        "redis: stored publish, {IN_FLIGHT} in flight (baseline: the same, {PIPELINE} to a transaction)"
    );
    report.rate(&what, median(ours), median(raws), "≥ 150 k/s");
    transport.close(Duration::ZERO).await;
}

/// What a durable subscription finds waiting. Each run has a namespace of its own, because a name
/// that an earlier one left behind takes every later message, too.
pub(crate) async fn deliver(report: &mut Report) {
    let mut rates = Vec::new();
    for run in 0..RUNS {
        let transport = open(&format!("deliver-{run}-{}", std::process::id())).await;
        let mut request = all(Some("reader"));
        request.start = agentbus_transport::Start::New;
        drop(transport.subscribe(request.clone()).await.unwrap());
        let sending = stream::iter(0..BACKLOG).map(|n| publish(&*transport, n));
        sending.buffered(IN_FLIGHT).collect::<()>().await;
        let durable = transport.subscribe(request).await.unwrap();
        let begun = Instant::now();
        settle(durable, BACKLOG, 0).await;
        rates.push(BACKLOG as f64 / begun.elapsed().as_secs_f64());
        transport.close(Duration::ZERO).await;
    }
    let what = "redis: backlog of a durable subscription, received and acknowledged";
    report.plain(what, format!("{:.0} k/s", median(rates) / 1e3), "");
}
