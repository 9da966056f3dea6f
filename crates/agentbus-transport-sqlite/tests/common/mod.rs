//! What the tests of the log share.

#![allow(
    dead_code,
    reason = "each test program uses its own part of what is here"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agentbus_protocol::{
    Envelope, EventId, EventType, Pattern, Payload, Stamp, Subject, Timestamp,
};
use agentbus_transport::{
    Delivery, Message, PublishOptions, Receipt, Received, Subscribe, Subscription, Transport,
    TransportError,
};
use agentbus_transport_sqlite::{Options, SqliteTransport};
use tempfile::TempDir;

/// Longest time that anything here may take.
pub(crate) const GUARD: Duration = Duration::from_secs(60);

/// A directory in memory where there is one: a killed process leaves its pages with the system in
/// either case, and what a lost sync would do is not what these tests can see.
pub(crate) fn directory() -> TempDir {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() {
        tempfile::tempdir_in(shared).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

/// Opens the log in a directory.
pub(crate) async fn open(dir: &Path) -> SqliteTransport {
    try_open(dir).await.unwrap()
}

pub(crate) async fn try_open(dir: &Path) -> Result<SqliteTransport, TransportError> {
    SqliteTransport::open(Options::new(dir.join("bus.db"))).await
}

pub(crate) fn message(tail: &str, n: u64) -> Message {
    let random: [u8; 10] = rand::random();
    let stamp = Stamp {
        event_id: EventId::v7(n, &random),
        occurred_at: Timestamp::UNIX_EPOCH,
    };
    let mut envelope = Envelope::new(stamp, EventType::from("test.case"));
    envelope.payload = Some(Payload::json(&n).unwrap());
    let subject = Subject::parse(&format!("acp.v1.events.{tail}")).unwrap();
    Message::new(subject, envelope)
}

pub(crate) async fn publish(
    transport: &SqliteTransport,
    tail: &str,
    n: u64,
) -> Result<Receipt, TransportError> {
    let sent = transport.publish(Arc::new(message(tail, n)), PublishOptions::default());
    tokio::time::timeout(GUARD, sent).await.unwrap()
}

pub(crate) fn durable(tail: &str, name: &str) -> Subscribe {
    let pattern = Pattern::parse(&format!("acp.v1.events.{tail}")).unwrap();
    let mut request = Subscribe::new(pattern);
    request.durable = Some(name.into());
    request
}

pub(crate) async fn receive(subscription: &mut Subscription) -> Delivery {
    match tokio::time::timeout(GUARD, subscription.receive()).await {
        Ok(Some(Received::Live(delivery))) => delivery,
        other => panic!("expected a live delivery, got {other:?}"),
    }
}

pub(crate) fn number(delivery: &Delivery) -> u64 {
    let payload = delivery.envelope().payload.as_ref();
    payload.unwrap().decode().unwrap()
}
