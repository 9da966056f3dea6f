//! What happens when the server refuses, dies, comes back, or is told too much.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agentbus_protocol::Payload;
use agentbus_transport::{
    Completion, Durability, Message, PublishOptions, Receipt, Received, Transport, TransportError,
    dead_letter,
};
use agentbus_transport_redis::RedisTransport;

use support::Server;
use support::messages::{all_of, message, number, receive, within};

async fn open(url: &str) -> Arc<dyn Transport> {
    Arc::new(RedisTransport::connect(url).await.unwrap())
}

async fn refusal(url: &str) -> TransportError {
    within("an answer", RedisTransport::connect(url))
        .await
        .unwrap_err()
}

#[tokio::test]
async fn a_refused_connection_is_said_at_once() {
    let begun = Instant::now();
    // Nobody listens at the first port, and none is given it by chance.
    let error = refusal("redis://127.0.0.1:1").await;
    let said = error.to_string();
    assert!(matches!(error, TransportError::Carrier { .. }), "{said}");
    assert!(said.contains("127.0.0.1:1"), "{said}");
    assert!(error.is_retryable());
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_port_that_speaks_something_else_is_no_server() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let web = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let answer = b"HTTP/1.1 400 Bad Request\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut socket, answer)
            .await
            .unwrap();
    });
    let error = refusal(&format!("redis://127.0.0.1:{port}")).await;
    assert!(matches!(error, TransportError::Carrier { .. }), "{error}");
    web.await.unwrap();
}

#[tokio::test]
async fn a_bad_password_is_a_refusal_and_is_not_repeated() {
    let server = Server::with(&["--requirepass", "right"]);
    let place = format!("127.0.0.1:{}", server.port());
    for login in ["", ":wrong-secret@"] {
        let error = refusal(&format!("redis://{login}{place}")).await;
        let said = error.to_string();
        assert!(matches!(error, TransportError::Refused { .. }), "{said}");
        assert!(!error.is_retryable());
        assert!(!said.contains("wrong-secret"), "{said}");
    }
    open(&format!("redis://:right@{place}")).await;
}

/// Publishes that make more batches than may be on their way at a time.
fn many(
    transport: &Arc<dyn Transport>,
    count: u64,
) -> Vec<Completion<Result<Receipt, TransportError>>> {
    let publish = |n| {
        let mut large = Message::clone(&message("many", n));
        let text = serde_json::json!("x".repeat(20_000));
        large.envelope.payload = Some(Payload::json(&text).unwrap());
        transport.publish(Arc::new(large), PublishOptions::default())
    };
    (0..count).map(publish).collect()
}

#[tokio::test]
async fn every_publish_of_many_batches_is_answered_when_there_is_no_hope() {
    let server = Server::start();
    let transport = open(&server.url()).await;
    let mut admin = redis::Client::open(server.url()).unwrap();
    let forbid = ["SETUSER", "default", "-evalsha"];
    redis::cmd("ACL").arg(&forbid).exec(&mut admin).unwrap();
    for publish in many(&transport, 256) {
        let error = within("an answer", publish).await.unwrap_err();
        assert!(matches!(error, TransportError::Refused { .. }), "{error}");
    }
    within("the end", transport.close(Duration::ZERO)).await;
}

#[tokio::test]
async fn a_close_does_not_wait_for_a_server_that_is_gone() {
    let mut server = Server::start();
    let transport = open(&server.url()).await;
    server.kill();
    // More than the queue holds, and nobody waits for any of them.
    let publishes = many(&transport, 5000);
    within("the end", transport.close(Duration::ZERO)).await;
    for publish in publishes {
        within("an answer", publish).await.unwrap_err();
    }
}

#[tokio::test]
async fn the_level_is_what_the_server_keeps() {
    for (arguments, expected) in [
        (&["--appendonly", "no"][..], Durability::Memory),
        (
            &["--appendonly", "yes", "--appendfsync", "everysec"],
            Durability::Os,
        ),
        (
            &["--appendonly", "yes", "--appendfsync", "always"],
            Durability::Disk,
        ),
    ] {
        let server = Server::with(arguments);
        let transport = open(&server.url()).await;
        assert_eq!(transport.capabilities().durability, expected);
        let receipt = transport
            .publish(message("level", 1), PublishOptions::default())
            .await
            .unwrap();
        assert_eq!(receipt.durability, expected);
    }
}

#[tokio::test]
async fn buses_of_different_namespaces_do_not_meet() {
    let server = Server::with(&[]);
    let one = open(&format!("{}?namespace=one", server.url())).await;
    let two = open(&format!("{}?namespace=two", server.url())).await;
    let mut heard = one.subscribe(all_of("*")).await.unwrap();
    for (n, transport) in [(1, &two), (2, &one)] {
        transport
            .publish(message("apart", n), PublishOptions::default())
            .await
            .unwrap();
    }
    assert_eq!(number(&receive(&mut heard).await), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_over_a_dying_server_is_taken_once_or_fails() {
    let mut server = Server::start();
    let transport = open(&server.url()).await;
    let mut kept = all_of("sure");
    kept.durable = Some("sure".into());
    let mut all = transport.subscribe(kept).await.unwrap();
    let mut accepted = Vec::new();
    for round in 0..4 {
        let sent: Vec<_> = (0..50)
            .map(|n| transport.publish(message("sure", round * 50 + n), PublishOptions::default()))
            .collect();
        server.kill();
        server.restart();
        for (n, sent) in (round * 50..).zip(sent) {
            if within("an outcome", sent).await.is_ok() {
                accepted.push(n);
            }
        }
    }
    // The server came back within the time for which a publish is tried, so all of it is there.
    assert_eq!(accepted, (0..200).collect::<Vec<_>>());
    let mut seen = BTreeMap::<u64, Vec<u32>>::new();
    while seen.len() < accepted.len() {
        let delivery = receive(&mut all).await;
        seen.entry(number(&delivery))
            .or_default()
            .push(delivery.attempt());
        delivery.ack().await.unwrap();
    }
    for (n, attempts) in seen {
        assert!(attempts.is_sorted_by(|a, b| a < b), "{n}: {attempts:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ack_over_a_dying_server_is_heard() {
    let mut server = Server::start();
    let transport = open(&server.url()).await;
    let mut kept = all_of("settled");
    kept.durable = Some("settled".into());
    let mut all = transport.subscribe(kept.clone()).await.unwrap();
    for n in 0..20 {
        transport
            .publish(message("settled", n), PublishOptions::default())
            .await
            .unwrap();
    }
    let mut acks = Vec::new();
    for _ in 0..20 {
        acks.push(receive(&mut all).await.ack());
    }
    server.kill();
    server.restart();
    for ack in acks {
        within("an ack", ack).await.unwrap();
    }
    drop(all);
    let mut again = transport.subscribe(kept).await.unwrap();
    transport
        .publish(message("settled", 99), PublishOptions::default())
        .await
        .unwrap();
    assert_eq!(number(&receive(&mut again).await), 99);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_goes_on_over_restarts_by_itself() {
    let mut server = Server::start();
    let (sender, receiver) = (open(&server.url()).await, open(&server.url()).await);
    let mut kept = all_of("load");
    kept.durable = Some("load".into());
    let mut all = receiver.subscribe(kept).await.unwrap();
    let mut heard = receiver.subscribe(all_of("load")).await.unwrap();
    let accepted = Arc::new(AtomicU64::new(0));
    const LAST: u64 = 1500;
    let publisher = {
        let accepted = Arc::clone(&accepted);
        tokio::spawn(async move {
            for n in 0..=LAST {
                let sent = sender.publish(message("load", n), PublishOptions::default());
                sent.await.unwrap();
                accepted.store(n, Ordering::Release);
            }
        })
    };
    let consumer = tokio::spawn(async move {
        let mut seen = BTreeMap::<u64, Vec<u32>>::new();
        while seen.len() <= usize::try_from(LAST).unwrap() {
            let delivery = receive(&mut all).await;
            seen.entry(number(&delivery))
                .or_default()
                .push(delivery.attempt());
            delivery.ack().await.unwrap();
        }
        seen
    });
    for restart in 1..=3 {
        within("more load", async {
            while accepted.load(Ordering::Acquire) < restart * 300 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        server.kill();
        server.restart();
    }
    within("the publisher's end", publisher).await.unwrap();
    let seen = within("the consumer's end", consumer).await.unwrap();
    for (n, attempts) in seen {
        assert!(attempts.is_sorted_by(|a, b| a < b), "{n}: {attempts:?}");
    }
    // Whoever only listens hears again, too.
    within("the last event", async {
        while number(&receive(&mut heard).await) != LAST {}
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_work_again_after_a_server_that_lost_everything() {
    let mut server = Server::with(&[]);
    let (agent, caller) = (open(&server.url()).await, open(&server.url()).await);
    let mut shared = all_of("ask");
    shared.group = Some("agents".into());
    let mut served = agent.subscribe(shared).await.unwrap();
    let required = PublishOptions {
        require_responder: true,
        ..PublishOptions::default()
    };
    let answering = tokio::spawn(async move { number(&receive(&mut served).await) });
    server.kill();
    server.restart();
    // The server knows no queue any more until the agent has joined again.
    within("a request that is taken", async {
        while caller
            .publish(message("ask", 7), required.clone())
            .await
            .is_err()
        {}
    })
    .await;
    assert_eq!(within("the request", answering).await.unwrap(), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_listener_loses_the_oldest_and_is_told() {
    let server = Server::with(&[]);
    let transport = open(&server.url()).await;
    let mut small = all_of("slow");
    small.capacity = 4;
    let mut slow = transport.subscribe(small).await.unwrap();
    for n in 0..100 {
        transport
            .publish(message("slow", n), PublishOptions::default())
            .await
            .unwrap();
    }
    let (mut seen, mut missed, mut last) = (0, 0, 0);
    while last != 99 {
        let delivery = receive(&mut slow).await;
        seen += 1;
        missed += delivery.missed();
        last = number(&delivery);
    }
    assert_eq!(seen + missed, 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poison_message_is_buried_and_the_rest_goes_on() {
    let server = Server::with(&[]);
    let transport = open(&server.url()).await;
    let graves = agentbus_protocol::Pattern::parse("acp.v1.dlq.>").unwrap();
    let graves = agentbus_transport::Subscribe::new(graves);
    let mut letters = transport.subscribe(graves).await.unwrap();
    let mut kept = all_of("poison");
    kept.durable = Some("poison".into());
    kept.max_attempts = Some(3);
    let mut all = transport.subscribe(kept).await.unwrap();
    // A peer that writes garbage to the queue's channel harms nobody either.
    let client = redis::Client::open(server.url()).unwrap();
    let mut raw = client.get_multiplexed_async_connection().await.unwrap();
    let () = redis::cmd("XADD")
        .arg("agentbus:queue:d:poison")
        .arg(&["*", "d", "garbage", "n", "x"])
        .query_async(&mut raw)
        .await
        .unwrap();
    for n in [13, 14] {
        transport
            .publish(message("poison", n), PublishOptions::default())
            .await
            .unwrap();
    }
    let mut attempts = Vec::new();
    let mut well = false;
    while attempts.len() < 3 || !well {
        let delivery = receive(&mut all).await;
        if number(&delivery) == 13 {
            attempts.push(delivery.attempt());
            drop(delivery);
        } else {
            well = true;
            delivery.ack().await.unwrap();
        }
    }
    assert_eq!(attempts, [1, 2, 3]);
    let letter = receive(&mut letters).await;
    let metadata = &letter.envelope().metadata;
    assert_eq!(number(&letter), 13);
    assert_eq!(metadata.get::<u32>(dead_letter::ATTEMPTS), Some(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_streams_to_a_closed_inbox_elsewhere_hears_of_it() {
    let server = Server::with(&[]);
    let (agent, caller) = (open(&server.url()).await, open(&server.url()).await);
    let inbox = caller.open_inbox().unwrap();
    let reply_to = inbox.subject().clone();
    drop(inbox);
    within("the news", async {
        loop {
            let frame = support::messages::to(reply_to.clone(), 1);
            match agent.publish(frame, PublishOptions::default()).await {
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => break assert!(matches!(error, TransportError::NoResponder { .. })),
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_to_nobody_is_known_when_the_agent_said_goodbye() {
    let server = Server::with(&[]);
    let (agent, caller) = (open(&server.url()).await, open(&server.url()).await);
    let mut shared = all_of("bye");
    shared.group = Some("agents".into());
    let mut served = agent.subscribe(shared).await.unwrap();
    let required = PublishOptions {
        require_responder: true,
        ..PublishOptions::default()
    };
    caller
        .publish(message("bye", 1), required.clone())
        .await
        .unwrap();
    let Some(Received::Live(delivery)) = within("the request", served.receive()).await else {
        panic!("no request");
    };
    delivery.ack().await.unwrap();
    agent.close(Duration::ZERO).await;
    let error = caller
        .publish(message("bye", 2), required)
        .await
        .unwrap_err();
    assert!(
        matches!(error, TransportError::NoResponder { .. }),
        "{error}"
    );
}
