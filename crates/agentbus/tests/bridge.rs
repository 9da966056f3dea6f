//! Bridges between transports: nothing is lost, circles end, and a stop is gone on from.

#![cfg(feature = "sqlite")]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agentbus::bridge::{self, Bridge, End, Step};
use agentbus::transport::{MemoryTransport, Transport};
use agentbus::{Bus, Start, transports};
use agentbus_protocol::SubjectSpace;
use tokio_util::sync::CancellationToken;

/// How long something is looked for that should not be there.
const IDLE: Duration = Duration::from_millis(300);

/// Longest time that anything may take that should be there; a busy machine needs a part of it.
const GUARD: Duration = Duration::from_secs(20);

/// A log in a file.
struct Log {
    url: String,
    transport: Arc<dyn Transport>,
}

impl Log {
    async fn open(path: &Path) -> Self {
        let url = format!("sqlite://{}", path.display());
        let transport = transports::open(&url, "test").await.unwrap();
        Self { url, transport }
    }

    fn end(&self) -> End {
        End::new(Arc::clone(&self.transport), transports::identity(&self.url))
    }

    async fn bus(&self) -> Bus {
        bus(Arc::clone(&self.transport)).await
    }

    /// Checks that this log holds these numbers, in order, and no others.
    async fn holds(&self, expected: impl IntoIterator<Item = u64>) {
        let expected: Vec<_> = expected.into_iter().collect();
        let bus = self.bus().await;
        let mut events = bus.subscribe(">").start(Start::Beginning).await.unwrap();
        let mut numbers: Vec<u64> = Vec::new();
        loop {
            let is_all = numbers.len() >= expected.len();
            let patience = if is_all { IDLE } else { GUARD };
            let next = tokio::time::timeout(patience, events.next()).await;
            let Ok(Some(delivery)) = next else {
                break;
            };
            let payload = delivery.envelope().payload.as_ref().unwrap();
            numbers.push(payload.decode().unwrap());
        }
        assert_eq!(numbers, expected);
    }
}

async fn bus(transport: Arc<dyn Transport>) -> Bus {
    let bus = Bus::builder("test").transport_instance(transport).connect();
    bus.await.unwrap()
}

async fn open(from: End, to: End) -> Bridge {
    let pattern = SubjectSpace::default().events_pattern("order.>").unwrap();
    let bridge = bridge::between(from, to, pattern);
    let bridge = bridge.durable("bridge").start(Start::Beginning);
    bridge.open().await.unwrap()
}

/// Copies so many events, and checks that there are no more.
async fn copy(bridge: &mut Bridge, expected: u64) {
    let stop = CancellationToken::new();
    while bridge.copied() < expected {
        let step = bridge.step(Some(GUARD), &stop).await.unwrap();
        let copied = bridge.copied();
        assert!(
            matches!(step, Step::Copied(_)),
            "{step:?} after {copied} of {expected}"
        );
    }
    while let Step::Copied(_) = bridge.step(Some(IDLE), &stop).await.unwrap() {}
    assert_eq!(bridge.copied(), expected);
}

async fn publish(bus: &Bus, numbers: std::ops::Range<u64>) {
    for number in numbers {
        bus.publish("order.paid", &number).await.unwrap();
    }
}

#[tokio::test]
async fn a_bridge_copies_the_past_in_order_and_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let from = Log::open(&dir.path().join("from.db")).await;
    let to = Log::open(&dir.path().join("to.db")).await;
    let bus = from.bus().await;
    publish(&bus, 0..200).await;
    bus.publish("other.event", &999).await.unwrap();
    copy(&mut open(from.end(), to.end()).await, 200).await;
    publish(&bus, 200..230).await;
    copy(&mut open(from.end(), to.end()).await, 30).await;
    to.holds(0..230).await;
}

#[tokio::test]
async fn what_is_copied_twice_is_stored_once_where_keys_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let from = Log::open(&dir.path().join("from.db")).await;
    let to = Log::open(&dir.path().join("to.db")).await;
    publish(&from.bus().await, 0..20).await;
    for name in ["first", "second"] {
        let pattern = SubjectSpace::default().events_pattern(">").unwrap();
        let bridge = bridge::between(from.end(), to.end(), pattern);
        let bridge = bridge.durable(name).start(Start::Beginning).open();
        copy(&mut bridge.await.unwrap(), 20).await;
    }
    to.holds(0..20).await;
}

#[tokio::test]
async fn two_bridges_in_a_circle_copy_each_event_once() {
    let dir = tempfile::tempdir().unwrap();
    let a = Log::open(&dir.path().join("a.db")).await;
    let b = Log::open(&dir.path().join("b.db")).await;
    publish(&a.bus().await, 0..3).await;
    publish(&b.bus().await, 100..102).await;
    for (there, back) in [(3, 2), (0, 0), (0, 0)] {
        copy(&mut open(a.end(), b.end()).await, there).await;
        copy(&mut open(b.end(), a.end()).await, back).await;
    }
    a.holds([0, 1, 2, 100, 101]).await;
    b.holds([100, 101, 0, 1, 2]).await;
}

#[tokio::test]
async fn a_destination_that_is_full_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let from = Log::open(&dir.path().join("from.db")).await;
    publish(&from.bus().await, 0..10).await;
    let memory: Arc<dyn Transport> = Arc::new(MemoryTransport::new());
    let there = bus(Arc::clone(&memory)).await;
    let full = there.subscribe("order.>").capacity(4);
    let mut full = full.overflow(agentbus::Overflow::Fail).await.unwrap();
    let mut bridge = open(from.end(), End::new(memory, "memory")).await;
    let copying = tokio::spawn(async move { copy(&mut bridge, 10).await });
    let mut seen = Vec::new();
    while seen.len() < 10 {
        let delivery = full.next().await.unwrap();
        let number: u64 = delivery
            .envelope()
            .payload
            .as_ref()
            .unwrap()
            .decode()
            .unwrap();
        if !seen.contains(&number) {
            seen.push(number);
        }
        drop(delivery.ack().await);
    }
    copying.await.unwrap();
    seen.sort_unstable();
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
}

/// How long what expires is good for.
const LIFE: Duration = Duration::from_secs(2);

/// Publishes an event that expires, and tells when it has.
async fn publish_for_a_while(bus: &Bus, number: u64) -> tokio::time::Instant {
    bus.publish("order.paid", &number).ttl(LIFE).await.unwrap();
    // A log may round its times.
    tokio::time::Instant::now() + LIFE + Duration::from_millis(50)
}

#[tokio::test]
async fn what_expired_before_it_was_copied_is_left_behind_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let from = Log::open(&dir.path().join("from.db")).await;
    let to = Log::open(&dir.path().join("to.db")).await;
    let bus = from.bus().await;
    let expired = publish_for_a_while(&bus, 0).await;
    publish(&bus, 1..3).await;
    tokio::time::sleep_until(expired).await;
    let mut bridge = open(from.end(), to.end()).await;
    copy(&mut bridge, 2).await;
    assert_eq!(bridge.expired(), 1);
    to.holds([1, 2]).await;
}

#[tokio::test]
async fn what_expires_while_its_destination_is_full_does_not_end_the_bridge() {
    let dir = tempfile::tempdir().unwrap();
    let from = Log::open(&dir.path().join("from.db")).await;
    let memory: Arc<dyn Transport> = Arc::new(MemoryTransport::new());
    let there = bus(Arc::clone(&memory)).await;
    let full = there.subscribe("order.>").capacity(1);
    let mut full = full.overflow(agentbus::Overflow::Fail).await.unwrap();
    publish(&there, 50..51).await;
    let here = from.bus().await;
    let expired = publish_for_a_while(&here, 0).await;
    publish(&here, 1..2).await;
    let mut bridge = open(from.end(), End::new(memory, "memory")).await;
    let copying = tokio::spawn(async move {
        copy(&mut bridge, 1).await;
        bridge.expired()
    });
    tokio::time::sleep_until(expired).await;
    for expected in [50, 1] {
        let delivery = full.next().await.unwrap();
        let payload = delivery.envelope().payload.as_ref().unwrap();
        assert_eq!(payload.decode::<u64>().unwrap(), expected);
        drop(delivery.ack().await);
    }
    assert_eq!(copying.await.unwrap(), 1);
}

#[tokio::test]
async fn a_stop_ends_the_wait_for_a_destination_that_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let from = Log::open(&dir.path().join("from.db")).await;
    let to = Log::open(&dir.path().join("to.db")).await;
    publish(&from.bus().await, 0..1).await;
    let memory: Arc<dyn Transport> = Arc::new(MemoryTransport::new());
    let full = bus(Arc::clone(&memory)).await;
    let full = full.subscribe("order.>").capacity(1);
    let full = full.overflow(agentbus::Overflow::Fail).await.unwrap();
    publish(&bus(Arc::clone(&memory)).await, 50..51).await;
    let mut stuck = open(from.end(), End::new(memory, "memory")).await;
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    let copying = tokio::spawn(async move { stuck.step(None, &stopping).await });
    tokio::time::sleep(IDLE).await;
    stop.cancel();
    assert_eq!(copying.await.unwrap(), Ok(Step::Over));
    drop(full);
    // What the stopped bridge held is there for the next.
    copy(&mut open(from.end(), to.end()).await, 1).await;
}

#[tokio::test]
async fn a_bridge_needs_two_ends_and_a_source_that_remembers() {
    let memory: Arc<dyn Transport> = Arc::new(MemoryTransport::new());
    let pattern = SubjectSpace::default().events_pattern(">").unwrap();
    let end = End::new(Arc::clone(&memory), "memory");
    let other = End::new(Arc::new(MemoryTransport::new()), "other memory");
    let same = bridge::between(end.clone(), end.clone(), pattern.clone());
    let refused = same.open().await.unwrap_err().to_string();
    assert!(refused.contains("two transports"), "{refused}");
    let forgetful = bridge::between(end, other, pattern).durable("copy");
    let refused = forgetful.open().await.unwrap_err().to_string();
    assert!(refused.contains("sqlite://PATH"), "{refused}");
}

#[test]
fn an_identity_holds_no_secret_and_no_option() {
    for (url, name) in [
        (
            "redis://user:secret@host:6379/0?log=5",
            "redis://host:6379/0",
        ),
        ("redis://host:6379/", "redis://host:6379"),
        ("memory://", "memory://"),
    ] {
        assert_eq!(transports::identity(url), name, "{url}");
    }
}
