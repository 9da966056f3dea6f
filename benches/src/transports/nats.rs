//! The bus over a NATS server, beside the raw client on the same server.
//!
//! The raw client sends the same bytes; ours and raw take turns, and each figure is the median of
//! its runs. Publisher and receiver have a connection each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use agentbus::protocol::{Envelope, Pattern, Subject};
use agentbus::transport::{Message, PublishOptions, Subscribe, Transport};
use agentbus::{Bus, Request};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::json;

use crate::report::{Report, median, percentile};

/// Runs of each figure, ours and raw in turn.
const RUNS: usize = 7;

/// Calls of a run.
const CALLS: usize = 5_000;

/// Messages of a run that go one way.
const ONE_WAY: u64 = 200_000;

/// Publishes of a run that are confirmed.
const CONFIRMED: usize = 20_000;

/// Confirmed publishes in flight.
const IN_FLIGHT: usize = 64;

/// Where the server is.
#[derive(Clone)]
struct Server(String);

impl Server {
    fn find() -> Self {
        Self(std::env::var("AGENTBUS_NATS_URL").unwrap())
    }

    fn jetstream(&self) -> String {
        let stream = "stream=BENCH&subjects=bench.events.>&max_messages=100000";
        format!("{}?{stream}", self.0.replace("nats://", "jetstream://"))
    }

    async fn raw(&self) -> async_nats::Client {
        async_nats::connect(&self.0).await.unwrap()
    }

    async fn bus(&self, name: &str) -> Bus {
        let bus = Bus::builder(name.to_owned()).transport(self.0.clone());
        bus.subject_prefix("bench.v1").connect().await.unwrap()
    }

    async fn transport(&self) -> Arc<dyn Transport> {
        agentbus_transport_nats::open(&self.0).await.unwrap()
    }
}

/// An event such as the bus sends; the raw client sends its bytes.
fn event() -> Envelope {
    let stamp = agentbus::mint::stamp();
    let mut event = Envelope::new(stamp, "order.paid".into());
    event.from = "bench".into();
    event.payload = Some(agentbus::Payload::json(&json!({"order": 1, "total": 12.5})).unwrap());
    event
}

/// From the call to its reply, one at a time.
pub(crate) async fn requests(report: &mut Report) {
    let server = &Server::find();
    let (agent, caller) = (server.bus("agent").await, server.bus("caller").await);
    agent
        .handle("echo", |request: Request| {
            std::future::ready(Ok(request.payload().cloned()))
        })
        .await
        .unwrap();
    let (replier, requester) = (server.raw().await, server.raw().await);
    let mut asked = replier.subscribe("bench.raw.echo").await.unwrap();
    let answering = replier.clone();
    let echo = tokio::spawn(async move {
        while let Some(message) = asked.next().await {
            answering
                .publish(message.reply.unwrap(), message.payload)
                .await
                .unwrap();
        }
    });
    let body = Bytes::from(event().encode());
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let mut times = Vec::with_capacity(CALLS);
        for _ in 0..CALLS {
            let begun = Instant::now();
            caller
                .invoke("echo", &json!({"order": 1, "total": 12.5}))
                .await
                .unwrap();
            times.push(begun.elapsed());
        }
        ours.push(percentile(&mut times, 50));
        times.clear();
        for _ in 0..CALLS {
            let begun = Instant::now();
            requester
                .request("bench.raw.echo", body.clone())
                .await
                .unwrap();
            times.push(begun.elapsed());
        }
        raw.push(percentile(&mut times, 50));
    }
    echo.abort();
    report.latency(
        "nats: request → reply, p50 (baseline: async-nats)",
        median(ours),
        median(raw),
        "≤ ×1.2",
    );
}

/// Messages from one connection to another, through the transport alone.
pub(crate) async fn one_way(report: &mut Report) {
    let server = &Server::find();
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(transport_rate(server).await);
        raw.push(raw_rate(server).await);
    }
    report.rate(
        "nats: one way (baseline: async-nats)",
        median(ours),
        median(raw),
        "≥ ×0.6",
    );
}

async fn transport_rate(server: &Server) -> f64 {
    let (sender, receiver) = (server.transport().await, server.transport().await);
    let mut request = Subscribe::new(Pattern::parse("bench.one.way").unwrap());
    request.capacity = 1 << 20;
    let mut all = receiver.subscribe(request).await.unwrap();
    let message = Arc::new(Message::new(
        Subject::parse("bench.one.way").unwrap(),
        event(),
    ));
    let begun = Instant::now();
    let publishing = tokio::spawn(async move {
        for _ in 0..ONE_WAY {
            let sent = sender.publish(Arc::clone(&message), PublishOptions::default());
            sent.await.unwrap();
        }
        sender
    });
    let (mut seen, mut batch) = (0, Vec::with_capacity(64));
    while seen < ONE_WAY {
        seen += all.receive_many(&mut batch, 64).await as u64;
        batch.clear();
    }
    let rate = ONE_WAY as f64 / begun.elapsed().as_secs_f64();
    publishing.await.unwrap().close(Duration::ZERO).await;
    receiver.close(Duration::ZERO).await;
    rate
}

async fn raw_rate(server: &Server) -> f64 {
    // As large as ours, so that the figure is of what arrives.
    let receiver = async_nats::ConnectOptions::new().subscription_capacity(1 << 20);
    let receiver = receiver.connect(&server.0).await.unwrap();
    let sender = server.raw().await;
    let mut all = receiver.subscribe("bench.raw.one.way").await.unwrap();
    receiver
        .request("bench.raw.nobody", Bytes::new())
        .await
        .unwrap_err();
    let body = Bytes::from(event().encode());
    let begun = Instant::now();
    let publishing = tokio::spawn(async move {
        for _ in 0..ONE_WAY {
            sender
                .publish("bench.raw.one.way", body.clone())
                .await
                .unwrap();
        }
        sender
    });
    for _ in 0..ONE_WAY {
        all.next().await.unwrap();
    }
    let rate = ONE_WAY as f64 / begun.elapsed().as_secs_f64();
    publishing.await.unwrap();
    rate
}

/// Events through the whole bus: minted, published, received, acknowledged.
pub(crate) async fn events(report: &mut Report) {
    let server = &Server::find();
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(bus_rate(server).await);
        raw.push(raw_rate(server).await);
    }
    report.rate(
        "nats: events through the bus (baseline: async-nats)",
        median(ours),
        median(raw),
        "",
    );
}

async fn bus_rate(server: &Server) -> f64 {
    let (sender, receiver) = (server.bus("sender").await, server.bus("receiver").await);
    let all = receiver.subscribe("order.paid").capacity(1 << 20);
    let mut all = all.await.unwrap();
    let begun = Instant::now();
    let publishing = tokio::spawn(async move {
        for _ in 0..ONE_WAY {
            let payload = json!({"order": 1, "total": 12.5});
            sender.publish("order.paid", &payload).await.unwrap();
        }
        sender
    });
    for _ in 0..ONE_WAY {
        all.next().await.unwrap().ack().await.unwrap();
    }
    let rate = ONE_WAY as f64 / begun.elapsed().as_secs_f64();
    publishing.await.unwrap().close(Duration::ZERO).await;
    receiver.close(Duration::ZERO).await;
    rate
}

/// Publishes to a stream, each confirmed.
pub(crate) async fn confirmed(report: &mut Report) {
    let server = &Server::find();
    let ours_at = agentbus_transport_nats::open(&server.jetstream())
        .await
        .unwrap();
    let raw_at = async_nats::jetstream::new(server.raw().await);
    let subject = Subject::parse("bench.events.confirmed").unwrap();
    let message = Arc::new(Message::new(subject, event()));
    let body = Bytes::from(event().encode());
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let begun = Instant::now();
        let sending = stream::iter(0..CONFIRMED)
            .map(|_| ours_at.publish(Arc::clone(&message), PublishOptions::default()));
        sending
            .buffer_unordered(IN_FLIGHT)
            .for_each(|sent| {
                sent.unwrap();
                std::future::ready(())
            })
            .await;
        ours.push(CONFIRMED as f64 / begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        let sending = stream::iter(0..CONFIRMED).map(|_| async {
            raw_at
                .publish("bench.events.confirmed", body.clone())
                .await
                .unwrap()
                .await
                .unwrap()
        });
        sending
            .buffer_unordered(IN_FLIGHT)
            .for_each(|_| std::future::ready(()))
            .await;
        raw.push(CONFIRMED as f64 / begun.elapsed().as_secs_f64());
    }
    ours_at.close(Duration::ZERO).await;
    report.rate(
        "jetstream: confirmed publish, 64 in flight (baseline: async-nats)",
        median(ours),
        median(raw),
        "≥ ×0.7",
    );
}
