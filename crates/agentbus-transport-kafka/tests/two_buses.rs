//! Two buses on one broker: calls, streams, cancellation and durable names.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use agentbus::contract::Place;
use agentbus::{Error, Request};
use serde_json::json;

/// Each frame waits for a disk, and the table of who listens may be a moment behind.
async fn open() -> Place {
    Place::at(support::url(), ())
        .with_frames(300)
        .with_late_news()
}

agentbus::two_bus_tests!(open);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_dealt_in_turn() {
    let place = open().await;
    let mut agents = Vec::new();
    for number in 0..2 {
        let bus = place.bus("agent").await;
        let answer = move |_: Request| async move { Ok::<_, Error>(json!(number)) };
        bus.handle("who", answer).await.unwrap();
        agents.push(bus);
    }
    let caller = place.bus("caller").await;
    let mut answers = Vec::new();
    for _ in 0..10 {
        let reply = caller.invoke("who", &1).await.unwrap();
        answers.push(reply.payload.unwrap().as_str().to_owned());
    }
    answers.sort_unstable();
    assert_eq!(answers, ["0", "0", "0", "0", "0", "1", "1", "1", "1", "1"]);
}
