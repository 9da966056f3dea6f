//! Calls whose time is over, on the carrier that keeps the time for them.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use std::future::{Future, IntoFuture};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use agentbus::transport::MemoryTransport;
use agentbus::{Bus, Error, Request};
use futures_util::future::join_all;
use tokio::runtime::{Builder, Handle};
use tokio::time::Instant;

async fn bus_on(carrier: &MemoryTransport, agent: &str) -> Bus {
    let builder = Bus::builder(agent).transport_instance(Arc::new(carrier.clone()));
    builder.connect().await.unwrap()
}

/// Never answers.
async fn mute(_: Request) -> Result<(), Error> {
    std::future::pending().await
}

/// Calls, and returns how many milliseconds it took to give up.
async fn given_up_after(bus: &Bus, target: &str, timeout: Duration) -> u128 {
    let begun = Instant::now();
    let refused = bus.invoke(target, &1).timeout(timeout).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Timeout { after, .. } if *after == timeout),
        "{refused}"
    );
    begun.elapsed().as_millis()
}

#[tokio::test(start_paused = true)]
async fn each_call_ends_in_its_own_time_whatever_order_they_were_made_in() {
    let bus = bus_on(&MemoryTransport::new(), "caller").await;
    bus.handle("mute", mute).await.unwrap();
    let spans: Vec<u64> = (0..200).map(|n| 10 + (n * 37) % 90).collect();
    let calls = spans.iter().map(|ms| {
        let timeout = Duration::from_millis(*ms);
        given_up_after(&bus, "mute", timeout)
    });
    let took = join_all(calls).await;
    assert_eq!(took, spans.into_iter().map(u128::from).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_call_may_end_before_those_that_were_made_earlier() {
    let bus = bus_on(&MemoryTransport::new(), "caller").await;
    bus.handle("mute", mute).await.unwrap();
    let long = given_up_after(&bus, "mute", Duration::from_secs(60));
    let short = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        given_up_after(&bus, "mute", Duration::from_millis(5)).await
    };
    assert_eq!(tokio::join!(long, short), (60_000, 5));
}

/// What a handler does for a caller that is gone holds nothing up.
#[tokio::test(start_paused = true)]
async fn a_bus_that_closes_waits_for_no_handler_whose_caller_gave_up() {
    let carrier = MemoryTransport::new();
    let (bus, other) = (
        bus_on(&carrier, "agent").await,
        bus_on(&carrier, "caller").await,
    );
    bus.handle("mute", mute).await.unwrap();
    given_up_after(&bus, "mute", Duration::from_secs(1)).await;
    let begun = Instant::now();
    // One gave up before the bus began to close, one does while it waits for the handler.
    let (last, _) = tokio::join!(
        given_up_after(&other, "mute", Duration::from_secs(5)),
        async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            bus.close(Duration::from_secs(3600)).await
        }
    );
    assert_eq!((last, begun.elapsed()), (5000, Duration::from_secs(5)));
}

/// The task that keeps the time ends with the runtime of the call that began it.
#[test]
fn calls_end_in_time_though_the_runtime_of_earlier_ones_is_gone() {
    let carrier = MemoryTransport::new();
    let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    first.block_on(async {
        let bus = bus_on(&carrier, "early").await;
        bus.handle("mute", mute).await.unwrap();
        // So many that some of them stand behind every lock.
        for _ in 0..1000 {
            let bus = bus.clone();
            tokio::spawn(async move { drop(bus.invoke("mute", &1).await) });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    });
    drop(first);
    runtime().block_on(async {
        tokio::time::pause();
        let bus = bus_on(&carrier, "late").await;
        bus.handle("mute-too", mute).await.unwrap();
        let timeout = Duration::from_secs(3600);
        let calls = (0..100).map(|_| given_up_after(&bus, "mute-too", timeout));
        let guard = tokio::time::timeout(2 * timeout, join_all(calls));
        // A clock that was stopped between two of its milliseconds is one behind.
        let in_time = timeout.as_millis()..=timeout.as_millis() + 1;
        let took = guard.await.unwrap();
        assert!(took.iter().all(|ms| in_time.contains(ms)), "{took:?}");
    });
}

/// As before, though it has not been polled once.
#[test]
fn calls_end_in_time_though_the_runtime_of_an_earlier_one_never_ran_again() {
    let carrier = MemoryTransport::new();
    let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    first.block_on(async {
        let bus = bus_on(&carrier, "early").await;
        bus.handle("mute", mute).await.unwrap();
        let calls = (0..1000).map(|_| bus.invoke("mute", &1).into_future());
        // Polled once, in the last step of the runtime.
        let mut calls = std::pin::pin!(join_all(calls));
        let polled = std::future::poll_fn(|cx| Poll::Ready(calls.as_mut().poll(cx).is_ready()));
        assert!(!polled.await);
    });
    drop(first);
    runtime().block_on(async {
        tokio::time::pause();
        let bus = bus_on(&carrier, "late").await;
        bus.handle("mute-too", mute).await.unwrap();
        let timeout = Duration::from_secs(3600);
        let calls = (0..100).map(|_| given_up_after(&bus, "mute-too", timeout));
        let guard = tokio::time::timeout(2 * timeout, join_all(calls));
        assert_eq!(guard.await.unwrap().len(), 100);
    });
}

#[test]
fn who_waits_elsewhere_is_woken_in_time_though_the_runtime_that_kept_it_ends() {
    let carrier = MemoryTransport::new();
    let here = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let bus = here.block_on(bus_on(&carrier, "here"));
    here.block_on(async { bus.handle("mute", mute).await.unwrap() });
    let there = Builder::new_current_thread().enable_all().build().unwrap();
    let pause = Duration::from_millis(20);
    there.block_on(async {
        let bus = bus_on(&carrier, "there").await;
        tokio::spawn(async move { drop(bus.invoke("mute", &1).await) });
        tokio::time::sleep(pause).await;
    });
    let waiting = here.spawn(async move {
        given_up_after(&bus, "mute", 10 * pause).await;
    });
    std::thread::sleep(pause);
    drop(there);
    here.block_on(async {
        let guard = tokio::time::timeout(Duration::from_secs(20), waiting);
        guard.await.unwrap().unwrap();
    });
}

#[tokio::test(start_paused = true)]
async fn callers_for_whom_there_is_no_room_in_the_queue_give_up_in_time() {
    let bus = bus_on(&MemoryTransport::new(), "caller").await;
    bus.handle("busy", mute).concurrency(1).await.unwrap();
    let timeout = Duration::from_millis(10);
    let calls = (0..5000).map(|_| given_up_after(&bus, "busy", timeout));
    let took = join_all(calls).await;
    assert!(took.iter().all(|ms| *ms == 10), "{took:?}");
}

#[tokio::test]
async fn nobody_keeps_the_time_once_the_carrier_is_gone() {
    let before = Handle::current().metrics().num_alive_tasks();
    let bus = bus_on(&MemoryTransport::new(), "caller").await;
    bus.handle("mute", mute).await.unwrap();
    given_up_after(&bus, "mute", Duration::from_millis(2)).await;
    // The handler may not have heard yet that its caller has gone, and is not waited for.
    bus.close(Duration::ZERO).await;
    drop(bus);
    let ended = async {
        while Handle::current().metrics().num_alive_tasks() > before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), ended)
        .await
        .unwrap();
}
