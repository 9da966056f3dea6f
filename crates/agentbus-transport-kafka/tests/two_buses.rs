//! Two buses on one broker: calls, streams and cancellation.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use agentbus::{Bus, Error, Request};
use serde_json::json;
use tokio::sync::mpsc;

use support::messages::within;

async fn two() -> (Bus, Bus) {
    let url = support::url();
    let open = |name: &str| {
        Bus::builder(name.to_owned())
            .transport(url.clone())
            .connect()
    };
    (open("agent").await.unwrap(), open("caller").await.unwrap())
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
    let missing = within("an outcome", caller.invoke("none", &1).send()).await;
    assert!(
        matches!(missing, Err(Error::NoHandler { .. })),
        "{missing:?}"
    );
    agent.shutdown().await;
    // The news may be a moment behind the call, which is then given up.
    let gone = within("an outcome", caller.invoke("echo", &1).send()).await;
    assert!(gone.is_err(), "{gone:?}");
    let gone = within("an outcome", caller.invoke("echo", &1).send()).await;
    assert!(matches!(gone, Err(Error::NoHandler { .. })), "{gone:?}");
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
    let mut frames = caller.stream("count", &300).await.unwrap();
    let mut next = 0;
    while let Some(frame) = within("a frame", frames.next()).await {
        assert_eq!(frame.unwrap().seq, next);
        next += 1;
    }
    assert_eq!(next, 301);
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
    const CALLS: usize = 10;
    let (agent, caller) = two().await;
    let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(CALLS));
    agent
        .handle("meet", move |_: Request| {
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
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_of_one_name_share_its_calls() {
    let url = support::url();
    let mut agents = Vec::new();
    for number in 0..2 {
        let bus = Bus::builder("agent").transport(url.clone()).connect();
        let bus = bus.await.unwrap();
        let answer = move |_: Request| async move { Ok(json!(number)) };
        bus.handle("who", answer).await.unwrap();
        agents.push(bus);
    }
    let caller = Bus::builder("caller").transport(url).connect();
    let caller = caller.await.unwrap();
    let mut answers = Vec::new();
    for _ in 0..10 {
        let reply = caller.invoke("who", &1).await.unwrap();
        answers.push(reply.payload.unwrap().as_str().to_owned());
    }
    answers.sort_unstable();
    assert_eq!(answers, ["0", "0", "0", "0", "0", "1", "1", "1", "1", "1"]);
}
