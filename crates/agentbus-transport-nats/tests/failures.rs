//! What happens when the broker refuses, dies, comes back, or is told too much.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agentbus::transport::{PublishOptions, Received, Subscribe, Transport, TransportError};
use agentbus::{Bus, Error, ErrorCode, Request};
use agentbus_protocol::{
    Envelope, EventId, EventType, Pattern, Payload, Stamp, Subject, Timestamp,
};
use agentbus_transport::Message;
use serde_json::json;

use support::Server;

/// Longest time that anything here may take; a broker's restart is a part of it.
const GUARD: Duration = Duration::from_secs(180);

async fn within<T>(what: &str, step: impl Future<Output = T>) -> T {
    match tokio::time::timeout(GUARD, step).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen within {GUARD:?}"),
    }
}

async fn open(url: &str) -> Arc<dyn Transport> {
    agentbus_transport_nats::open(url).await.unwrap()
}

async fn bus(name: &str, url: &str) -> Bus {
    Bus::builder(name.to_owned())
        .transport(url)
        .connect()
        .await
        .unwrap()
}

fn message(tail: &str, n: u64) -> Arc<Message> {
    let stamp = Stamp {
        event_id: EventId::v7(n, &[0; 10]),
        occurred_at: Timestamp::UNIX_EPOCH,
    };
    let mut envelope = Envelope::new(stamp, EventType::new(tail));
    envelope.payload = Some(Payload::json(&n).unwrap());
    let subject = Subject::parse(&format!("acp.v1.events.{tail}")).unwrap();
    Arc::new(Message::new(subject, envelope))
}

fn all_of(tail: &str) -> Subscribe {
    Subscribe::new(Pattern::parse(&format!("acp.v1.events.{tail}")).unwrap())
}

fn number(delivery: &agentbus::Delivery) -> u64 {
    delivery
        .envelope()
        .payload
        .as_ref()
        .unwrap()
        .decode()
        .unwrap()
}

async fn refusal(url: &str) -> TransportError {
    within("an answer", agentbus_transport_nats::open(url))
        .await
        .unwrap_err()
}

#[tokio::test]
async fn a_refused_connection_is_said_at_once() {
    // Nobody listens at the first port, and none is given it by chance.
    for scheme in ["nats", "jetstream"] {
        let begun = Instant::now();
        let error = refusal(&format!("{scheme}://127.0.0.1:1")).await;
        let said = error.to_string();
        assert!(matches!(error, TransportError::Carrier { .. }), "{said}");
        assert!(
            said.contains("cannot reach") && said.contains("127.0.0.1:1"),
            "{said}"
        );
        assert!(error.is_retryable());
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}

#[tokio::test]
async fn a_port_that_speaks_something_else_is_no_server() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let web = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut socket, b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
    });
    let error = refusal(&format!("nats://127.0.0.1:{port}")).await;
    assert!(matches!(error, TransportError::Carrier { .. }), "{error}");
    web.await.unwrap();
}

#[tokio::test]
async fn a_server_without_jetstream_is_named() {
    let server = Server::with(&[]);
    let error = refusal(&server.jetstream()).await;
    assert!(error.to_string().contains("nats-server -js"), "{error}");
    open(&server.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_and_calls_survive_a_restart() {
    for scheme in ["nats", "jetstream"] {
        let mut server = Server::start();
        let url = format!("{scheme}://127.0.0.1:{}", server.port());
        let (agent, caller) = (bus("agent", &url).await, bus("caller", &url).await);
        agent
            .handle("echo", |request: Request| async move {
                Ok(request.payload().cloned())
            })
            .await
            .unwrap();
        let mut events = agent.subscribe("tick").await.unwrap();
        caller.invoke("echo", &json!(1)).await.unwrap();

        server.kill();
        server.restart();
        // Both connections come back by themselves, with what they listen on.
        within("a call after the restart", async {
            loop {
                let call = caller
                    .invoke("echo", &json!(2))
                    .timeout(Duration::from_secs(2));
                if let Ok(reply) = call.await {
                    break assert_eq!(reply.payload.unwrap().as_str(), "2");
                }
            }
        })
        .await;
        within("an event after the restart", async {
            while caller.publish("tick", &json!(3)).confirm().await.is_err() {}
            assert_eq!(
                events
                    .next()
                    .await
                    .unwrap()
                    .envelope()
                    .payload
                    .as_ref()
                    .unwrap()
                    .as_str(),
                "3"
            );
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_dies_under_a_publish_leaves_no_false_confirmation() {
    let mut server = Server::start();
    let transport = open(&server.url()).await;
    let mut all = transport.subscribe(all_of("sure")).await.unwrap();
    let confirm = PublishOptions {
        confirm: true,
        ..PublishOptions::default()
    };
    transport
        .publish(message("sure", 1), confirm.clone())
        .await
        .unwrap();
    server.kill();
    let lost = within(
        "an outcome",
        transport.publish(message("sure", 2), confirm.clone()),
    )
    .await;
    // The server is gone, so nobody can have confirmed it.
    assert!(
        matches!(lost, Err(TransportError::Carrier { .. })),
        "{lost:?}"
    );
    server.restart();
    within("a confirmation", async {
        while transport
            .publish(message("sure", 3), confirm.clone())
            .await
            .is_err()
        {}
    })
    .await;
    let mut seen = Vec::new();
    while seen.last() != Some(&3) {
        if let Some(Received::Live(delivery)) = within("a delivery", all.receive()).await {
            seen.push(number(&delivery));
        }
    }
    assert_eq!(seen.first(), Some(&1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_whose_broker_dies_ends_with_an_error_or_whole() {
    const FRAMES: u64 = 300;
    let mut server = Server::start();
    let (agent, caller) = (
        bus("agent", &server.url()).await,
        bus("caller", &server.url()).await,
    );
    agent
        .handle_stream("count", |_, out| async move {
            for n in 0..FRAMES {
                out.delta(&n).await?;
                tokio::task::yield_now().await;
            }
            out.finish(&FRAMES).await
        })
        .await
        .unwrap();
    let mut frames = caller
        .stream("count", &json!({}))
        .idle_timeout(Duration::from_secs(3))
        .await
        .unwrap();
    let (mut next, mut outcome) = (0, None);
    while let Some(frame) = within("a frame or the end", frames.next()).await {
        match frame {
            Ok(frame) => {
                assert_eq!(frame.seq, next, "no hole and no repetition");
                next += 1;
                outcome = Some(frame.is_final);
            }
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                outcome = None;
            }
        }
        if next == 20 {
            server.kill();
            server.restart();
        }
    }
    assert!(
        outcome.is_none() || outcome == Some(true),
        "it ended in silence after {next} frames"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_keeps_what_it_acknowledged_over_restarts_under_load() {
    let mut server = Server::start();
    let url = format!("{}?ack_wait=2s", server.jetstream());
    let (sender, receiver) = (open(&url).await, open(&url).await);
    let mut request = all_of("load");
    request.durable = Some("load".into());
    let mut all = receiver.subscribe(request).await.unwrap();

    let (stop, acknowledged) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let publisher = {
        let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
        tokio::spawn(async move {
            let mut kept = Vec::new();
            for n in 0.. {
                if stop.load(Ordering::Acquire) {
                    break;
                }
                let sent = sender.publish(message("load", n), PublishOptions::default());
                if sent.await.is_ok() {
                    kept.push(n);
                    acknowledged.fetch_add(1, Ordering::Release);
                }
            }
            kept
        })
    };
    let consumer = tokio::spawn(async move {
        let mut seen = BTreeMap::<u64, Vec<u32>>::new();
        while let Some(received) = all.receive().await {
            let Received::Live(delivery) = received else {
                continue;
            };
            let (n, attempt) = (number(&delivery), delivery.attempt());
            seen.entry(n).or_default().push(attempt);
            if delivery.envelope().event_type.as_str() == "load" && n == u64::MAX {
                break;
            }
            delivery.ack().await.unwrap();
        }
        seen
    });
    for restarts in 1..=3_u64 {
        within("more load", async {
            while acknowledged.load(Ordering::Acquire) < restarts * 100 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        server.kill();
        server.restart();
    }
    within("load after the last restart", async {
        while acknowledged.load(Ordering::Acquire) < 400 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    stop.store(true, Ordering::Release);
    let kept = within("the publisher's end", publisher).await.unwrap();
    let last = open(&server.jetstream()).await;
    last.publish(message("load", u64::MAX), PublishOptions::default())
        .await
        .unwrap();
    let seen = within("the consumer's end", consumer).await.unwrap();
    for n in kept {
        let attempts = seen
            .get(&n)
            .unwrap_or_else(|| panic!("{n} was acknowledged and is lost"));
        assert!(
            attempts.is_sorted_by(|a, b| a < b),
            "{n}: attempts {attempts:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_dies_before_an_ack_delivers_again_with_a_number() {
    let mut server = Server::start();
    let transport = open(&format!("{}?ack_wait=1s", server.jetstream())).await;
    let mut request = all_of("acked");
    request.durable = Some("acker".into());
    let mut all = transport.subscribe(request).await.unwrap();
    transport
        .publish(message("acked", 7), PublishOptions::default())
        .await
        .unwrap();
    let Some(Received::Live(first)) = within("a delivery", all.receive()).await else {
        panic!("no delivery");
    };
    server.kill();
    // The server cannot hear it any more; that is no error, for it will ask again.
    let _ = tokio::time::timeout(Duration::from_millis(100), first.ack()).await;
    server.restart();
    transport
        .publish(message("acked", 8), PublishOptions::default())
        .await
        .unwrap();
    let mut attempts = BTreeMap::<u64, Vec<u32>>::new();
    while !attempts.contains_key(&8) {
        if let Some(Received::Live(delivery)) = within("a delivery", all.receive()).await {
            attempts
                .entry(number(&delivery))
                .or_default()
                .push(delivery.attempt());
            delivery.ack().await.unwrap();
        }
    }
    assert!(
        attempts.get(&7).is_none_or(|again| again[0] > 1),
        "{attempts:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_beyond_the_limit_is_an_error_reply() {
    let server = Server::start();
    let (agent, caller) = (
        bus("agent", &server.url()).await,
        bus("caller", &server.url()).await,
    );
    agent
        .handle("large", |_: Request| async move {
            Ok(Some(Payload::text(&"x".repeat(2 << 20))))
        })
        .await
        .unwrap();
    let begun = Instant::now();
    let Err(Error::Remote(error)) = caller.invoke("large", &json!({})).await else {
        panic!("no error reply");
    };
    assert_eq!(error.code, ErrorCode::InvalidRequest);
    assert!(
        error.message.contains("carries at most 1048576"),
        "{}",
        error.message
    );
    assert!(begun.elapsed() < Duration::from_secs(25));
    let own = caller
        .publish("large", &"x".repeat(2 << 20))
        .await
        .unwrap_err();
    assert!(own.to_string().contains("carries at most"), "{own}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_subscriber_loses_a_counted_number_and_nobody_else_does() {
    const MESSAGES: u64 = 50_000;
    let server = Server::start();
    let (sender, receiver) = (open(&server.url()).await, open(&server.url()).await);
    let mut small = all_of("flood");
    small.capacity = 100;
    let mut slow = receiver.subscribe(small).await.unwrap();
    let mut large = all_of("flood");
    large.capacity = 1 << 17;
    let mut quick = receiver.subscribe(large).await.unwrap();
    for n in 0..MESSAGES {
        sender
            .publish(message("flood", n), PublishOptions::default())
            .await
            .unwrap();
    }
    for n in 0..MESSAGES {
        let Some(Received::Live(delivery)) = within("a delivery", quick.receive()).await else {
            panic!("no delivery");
        };
        assert_eq!((number(&delivery), delivery.missed()), (n, 0));
    }
    // All have arrived at this connection; the slow one has the latest of them.
    let (mut seen, mut missed, mut last) = (0, 0, None);
    while last != Some(MESSAGES - 1) {
        let Some(Received::Live(delivery)) = within("a delivery", slow.receive()).await else {
            panic!("no delivery");
        };
        (seen, missed, last) = (
            seen + 1,
            missed + delivery.missed(),
            Some(number(&delivery)),
        );
    }
    assert_eq!(seen + missed, MESSAGES, "every lost message is counted");
    assert!(missed >= MESSAGES - 200, "{missed}");
    let stats = receiver.stats();
    let dropped: u64 = stats.queues.iter().map(|queue| queue.dropped).sum();
    assert_eq!(dropped, missed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_whose_reader_has_died_is_told() {
    let server = Server::start();
    let agent = bus("agent", &server.url()).await;
    let (ended, mut ends) = tokio::sync::mpsc::unbounded_channel();
    agent
        .handle_stream("endless", move |_, out| {
            let ended = ended.clone();
            async move {
                let outcome = loop {
                    if let Err(error) = out.delta(&1).await {
                        break error;
                    }
                };
                ended.send(outcome.to_string()).unwrap();
                Err(outcome)
            }
        })
        .await
        .unwrap();
    // A peer who knows nothing of cancellation: it asks and vanishes.
    let peer = async_nats::connect(server.url()).await.unwrap();
    let inbox = peer.new_inbox();
    let mut replies = peer.subscribe(inbox.clone()).await.unwrap();
    let request =
        format!(r#"{{"event_id":"e","event_type":"agent.message.received","reply_to":"{inbox}"}}"#);
    peer.publish("acp.v1.invoke.endless", request.into())
        .await
        .unwrap();
    within("a frame", futures_util::StreamExt::next(&mut replies))
        .await
        .unwrap();
    replies.unsubscribe().await.unwrap();
    let why = within("the writer's end", ends.recv()).await.unwrap();
    assert!(why.contains("nobody serves"), "{why}");
}
