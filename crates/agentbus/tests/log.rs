//! The bus over a log: the same program as in memory, and what the log adds.

#![cfg(feature = "sqlite")]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use std::path::Path;
use std::time::Duration;

use agentbus::dead_letters::Filter;
use agentbus::{Bus, DeadLetters, Delivery, Error, Request, Start, Subscription};
use serde_json::json;

const GUARD: Duration = Duration::from_secs(20);

async fn bus(dir: &Path) -> Bus {
    let url = format!("sqlite://{}", dir.join("bus.db").display());
    Bus::builder("t").transport(url).connect().await.unwrap()
}

async fn next(events: &mut Subscription) -> Delivery {
    let next = tokio::time::timeout(GUARD, events.next()).await;
    next.unwrap().unwrap()
}

fn number(delivery: &Delivery) -> u64 {
    let payload = delivery.envelope().payload.as_ref();
    payload.unwrap().decode().unwrap()
}

/// What a program does that knows nothing of its transport.
async fn program(bus: &Bus) -> String {
    bus.handle("echo", |request: Request| async move {
        Ok(request.payload().cloned())
    })
    .await
    .unwrap();
    bus.handle_stream("count", |_, out| async move {
        for n in 0..3 {
            out.delta(&n).await?;
        }
        out.finish(&json!({})).await
    })
    .await
    .unwrap();
    let mut events = bus.subscribe("order.*").await.unwrap();
    bus.publish("order.paid", &7).await.unwrap();
    let event = number(&next(&mut events).await);
    let reply = bus.invoke("echo", &json!({"a": 1})).await.unwrap();
    let mut frames = bus.stream("count", &json!({})).await.unwrap();
    let mut seen = 0;
    while let Some(frame) = frames.next().await {
        frame.unwrap();
        seen += 1;
    }
    let nobody = bus.invoke("nobody", &json!({})).await.unwrap_err();
    assert!(matches!(nobody, Error::NoHandler { .. }), "{nobody}");
    format!("{event} {} {seen}", reply.payload.unwrap().as_str())
}

#[tokio::test]
async fn a_program_does_the_same_over_memory_and_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let memory = Bus::builder("t").connect().await.unwrap();
    let log = bus(dir.path()).await;
    assert_eq!(program(&memory).await, program(&log).await);
    log.shutdown().await;
}

#[tokio::test]
async fn calls_leave_nothing_behind_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = bus(dir.path()).await;
    program(&log).await;
    log.shutdown().await;
    let log = bus(dir.path()).await;
    let everything = log.subscribe(">").start(Start::Beginning);
    let mut events = everything.await.unwrap();
    assert_eq!(number(&next(&mut events).await), 7);
    log.publish("marker", &8).await.unwrap();
    let marker = next(&mut events).await;
    assert_eq!((number(&marker), marker.sequence()), (8, Some(2)));
}

#[tokio::test]
async fn a_durable_subscription_goes_on_in_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let first = bus(dir.path()).await;
    let mut events = first.subscribe("job.*").durable("jobs").await.unwrap();
    for n in 0..4 {
        first.publish("job.made", &n).await.unwrap();
    }
    next(&mut events).await.ack().await.unwrap();
    let held = next(&mut events).await;
    assert_eq!(number(&held), 1);
    drop(events);
    // Nobody settles what is held, so there is nothing to wait for.
    first.close(Duration::ZERO).await;
    drop((held, first));
    let second = bus(dir.path()).await;
    let mut events = second.subscribe("job.*").durable("jobs").await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let delivery = next(&mut events).await;
        seen.push((number(&delivery), delivery.attempt()));
        delivery.ack().await.unwrap();
    }
    assert_eq!(seen, [(1, 2), (2, 1), (3, 1)]);
}

#[tokio::test]
async fn what_uses_up_its_attempts_is_collected_and_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let bus = bus(dir.path()).await;
    let letters = DeadLetters::collect(&bus).await.unwrap();
    let failing = bus.subscribe("job.*").durable("jobs").max_attempts(2);
    let mut failing = failing.await.unwrap();
    bus.publish("job.made", &1).await.unwrap();
    for _ in 0..2 {
        let failed = next(&mut failing).await.nak(Duration::ZERO);
        failed.await.unwrap();
    }
    let kept = async {
        while letters.stats().entries == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(GUARD, kept).await.unwrap();
    let entry = letters.entries(&Filter::default()).remove(0);
    assert_eq!((entry.reason.as_str(), entry.attempts), ("max_retries", 2));
    assert_eq!(entry.event_type, "job.made");
    letters.redrive(&entry.letter.event_id).await.unwrap();
    let again = next(&mut failing).await;
    assert_eq!((number(&again), again.attempt()), (1, 1));
}

#[tokio::test]
async fn a_key_makes_a_publish_repeatable() {
    let dir = tempfile::tempdir().unwrap();
    let bus = bus(dir.path()).await;
    let send = || bus.publish("job.made", &1).idempotency_key("job-1");
    let (first, second) = (send().await.unwrap(), send().await.unwrap());
    assert_eq!(first.sequence, second.sequence);
    assert!(second.duplicate && !first.duplicate);
    let memory = Bus::builder("t").connect().await.unwrap();
    let refused = memory
        .publish("job.made", &1)
        .idempotency_key("job-1")
        .await;
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("sqlite://PATH"), "{error}");
}
