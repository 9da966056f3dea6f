//! What a call costs the threads that have no part in it.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use agentbus::{Bus, Request};
use tokio::runtime::Handle;

const CALLS: u64 = 20_000;

async fn calls(bus: Bus) {
    for n in 0..CALLS {
        bus.invoke("echo", &n).await.unwrap();
    }
}

/// How often the threads of the runtime went to sleep.
fn sleeps() -> u64 {
    let metrics = Handle::current().metrics();
    let threads = 0..metrics.num_workers();
    threads
        .map(|thread| metrics.worker_park_count(thread))
        .sum()
}

/// Caller and handler take turns on one thread, and the other sleeps through all of it. Woken by
/// every other call, it would go back to sleep some thousand times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_wakes_no_thread_that_sleeps() {
    let bus = Bus::builder("caller").connect().await.unwrap();
    bus.handle("echo", |request: Request| {
        std::future::ready(Ok(request.payload().cloned()))
    })
    .await
    .unwrap();
    let before = sleeps();
    tokio::spawn(calls(bus.clone())).await.unwrap();
    let slept = sleeps() - before;
    assert!(
        slept < CALLS / 20,
        "threads went to sleep {slept} times in {CALLS} calls"
    );
    bus.shutdown().await;
}
