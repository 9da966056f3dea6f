//! Two buses at one broker: calls, streams, cancellation and durable names.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use std::time::Duration;

use agentbus::{Bus, Error, Request};
use serde_json::json;
use tokio::sync::mpsc;

const GUARD: Duration = Duration::from_secs(20);

async fn within<T>(what: &str, step: impl Future<Output = T>) -> T {
    match tokio::time::timeout(GUARD, step).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen within {GUARD:?}"),
    }
}

async fn bus(name: &str, url: &str) -> Bus {
    let bus = Bus::builder(name.to_owned()).transport(url);
    bus.connect().await.unwrap()
}

/// An agent and a caller on one bus.
async fn two() -> (Bus, Bus) {
    let url = support::alone();
    (bus("agent", &url).await, bus("caller", &url).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_answered_and_a_missing_target_is_known_at_once() {
    let (agent, caller) = two().await;
    agent
        .handle("echo", |request: Request| async move {
            Ok(request.payload().cloned())
        })
        .await
        .unwrap();
    // Ready when `handle` returned: the very first call arrives.
    let reply = caller.invoke("echo", &json!({"n": 1})).await.unwrap();
    assert_eq!(reply.payload.unwrap().as_str(), r#"{"n":1}"#);
    for missing in [
        caller.invoke("none", &1).await.err(),
        caller.stream("none", &1).await.err(),
    ] {
        // A stream may hear of it with its first frame instead.
        assert!(
            matches!(missing, Some(Error::NoHandler { .. }) | None),
            "{missing:?}"
        );
    }
    agent.shutdown().await;
    let gone = within("an outcome", caller.invoke("echo", &1).send())
        .await
        .unwrap_err();
    assert!(matches!(gone, Error::NoHandler { .. }), "{gone}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_nobody_ends_at_once() {
    let (_agent, caller) = two().await;
    let outcome = match caller.stream("none", &1).await {
        Ok(mut frames) => within("the end", frames.next()).await.unwrap().unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(outcome, Error::NoHandler { .. }), "{outcome}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_arrive_in_order_and_a_dropped_stream_stops_its_handler() {
    let (agent, caller) = two().await;
    let (ended, mut ends) = mpsc::unbounded_channel();
    agent
        .handle_stream("count", move |request, out| {
            let ended = ended.clone();
            async move {
                let guard = Ended(ended);
                let until: u64 = request.payload().unwrap().decode()?;
                for n in 0..until {
                    out.delta(&n).await?;
                }
                drop(guard);
                out.finish(&until).await
            }
        })
        .await
        .unwrap();
    let mut frames = caller.stream("count", &5_000).await.unwrap();
    let mut next = 0;
    while let Some(frame) = within("a frame", frames.next()).await {
        assert_eq!(frame.unwrap().seq, next);
        next += 1;
    }
    assert_eq!(next, 5_001);
    within("the end of the first", ends.recv()).await.unwrap();

    let mut endless = caller.stream("count", &u64::MAX).await.unwrap();
    within("a frame", endless.next()).await.unwrap().unwrap();
    drop(endless);
    within("the end of the endless one", ends.recv())
        .await
        .unwrap();
}

struct Ended(mpsc::UnboundedSender<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        // Nobody listens any more once the test is over.
        let _ = self.0.send(());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_work_side_by_side() {
    let (agent, caller) = two().await;
    const CALLS: usize = 10;
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(CALLS));
    agent
        .handle("meet", move |_: Request| {
            arrived.send(()).unwrap();
            let barrier = std::sync::Arc::clone(&barrier);
            async move {
                barrier.wait().await;
                Ok(())
            }
        })
        .await
        .unwrap();
    // None is answered before all have arrived.
    let calls = (0..CALLS).map(|_| caller.invoke("meet", &1).send());
    let replies = within("all replies", futures_util::future::join_all(calls)).await;
    assert!(replies.iter().all(Result::is_ok));
    for _ in 0..CALLS {
        arrivals.recv().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_durable_name_gets_what_came_while_it_was_away() {
    let (agent, caller) = two().await;
    let kept = || agent.subscribe("order.*").durable("billing");
    drop(kept().await.unwrap());
    for n in 0..10 {
        caller.publish("order.paid", &n).await.unwrap();
    }
    let mut events = kept().await.unwrap();
    for n in 0..10 {
        let delivery = within("an event", events.next()).await.unwrap();
        let payload = delivery.envelope().payload.as_ref();
        assert_eq!(payload.unwrap().decode::<u64>().unwrap(), n);
        delivery.ack().await.unwrap();
    }
    let leased = kept().lease(Duration::from_secs(1)).await.unwrap_err();
    assert!(leased.to_string().contains("leases"), "{leased}");
}
