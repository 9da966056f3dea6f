//! What lies on the wire, and what is read back.

use std::time::{Duration, Instant};

use agentbus_protocol::{Envelope, EventId, EventType, Stamp, Subject, Timestamp};
use agentbus_transport::{Message, Priority};
use bytes::Bytes;

use super::{Notice, decode, headers, size};

fn message() -> Message {
    let stamp = Stamp {
        event_id: EventId::v7(1, &[7; 10]),
        occurred_at: Timestamp::UNIX_EPOCH,
    };
    let envelope = Envelope::new(stamp, EventType::new("order.paid"));
    Message::new(
        Subject::parse("acp.v1.events.order.paid").unwrap(),
        envelope,
    )
}

fn raw(message: &Message) -> async_nats::Message {
    async_nats::Message {
        subject: message.subject.as_str().into(),
        reply: None,
        payload: Bytes::from(message.envelope.encode()),
        headers: headers(message),
        status: None,
        description: None,
        length: 0,
    }
}

#[test]
fn an_ordinary_message_is_its_envelope_and_nothing_else() {
    let sent = message();
    let raw = raw(&sent);
    assert!(raw.headers.is_none());
    assert_eq!(raw.payload, sent.envelope.encode());
    assert_eq!(decode(&raw).unwrap().envelope, sent.envelope);
}

#[test]
fn priority_and_deadline_travel_in_headers() {
    let mut sent = message();
    sent.priority = Priority::Critical;
    sent.expires_at = Some(Instant::now() + Duration::from_secs(60));
    let read = decode(&raw(&sent)).unwrap();
    assert_eq!(read.priority, Priority::Critical);
    let left = read.remaining_ttl().unwrap();
    assert!(
        left <= Duration::from_secs(60) && left > Duration::from_secs(58),
        "{left:?}"
    );
}

#[test]
fn a_deadline_that_passed_on_the_way_is_seen() {
    let mut sent = message();
    sent.expires_at = Some(Instant::now());
    assert!(decode(&raw(&sent)).unwrap().is_expired());
}

#[test]
fn headers_count_towards_the_size() {
    let mut sent = message();
    assert_eq!(size(headers(&sent).as_ref(), 10), 10);
    sent.priority = Priority::High;
    // NATS/1.0\r\n Agentbus-Priority: 8\r\n \r\n
    assert_eq!(size(headers(&sent).as_ref(), 10), 10 + 10 + 22 + 2);
}

#[test]
fn a_notice_is_told_from_a_reply() {
    let mut reply = raw(&message());
    assert_eq!(Notice::of(&reply), None);
    for notice in [Notice::Gone, Notice::Lost] {
        reply.headers = Some(notice.headers());
        assert_eq!(Notice::of(&reply), Some(notice));
    }
}

#[test]
fn what_is_no_envelope_is_refused_with_a_reason() {
    let mut garbage = raw(&message());
    garbage.payload = Bytes::from_static(b"[1,2]");
    let reason = decode(&garbage).unwrap_err().to_string();
    assert!(reason.contains("not an envelope"), "{reason}");
}
