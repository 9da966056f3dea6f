use std::time::Instant;

use super::*;

fn message(payload: &str) -> Message {
    let stamp = Stamp {
        event_id: EventId::v7(7, &[7; 10]),
        occurred_at: Timestamp::from_system_time(SystemTime::now()),
    };
    let mut envelope = Envelope::new(stamp, EventType::from("order.paid"));
    envelope.from = "till \"1\"".into();
    envelope.payload = Payload::from_bytes(&Bytes::copy_from_slice(payload.as_bytes())).unwrap();
    Message::new(
        Subject::parse("acp.v1.events.order.paid").unwrap(),
        envelope,
    )
}

fn written(message: &Message) -> serde_json::Value {
    serde_json::from_slice(&encode(message, &Extra::default())).unwrap()
}

#[test]
fn what_is_read_is_what_was_written() {
    for payload in ["{\"a\":1}", "[1,2]", "\"x\"", "null", "{}", "12"] {
        let sent = message(payload);
        let read = decode(&encode(&sent, &Extra::default()).into()).unwrap();
        assert_eq!(read.message.envelope, sent.envelope, "{payload}");
        assert_eq!(read.message.subject, sent.subject);
    }
}

#[test]
fn a_peer_finds_an_object_and_its_own_keys() {
    let mut sent = message("[1,2]");
    sent.priority = Priority::High;
    sent.expires_at = Some(Instant::now() + Duration::from_millis(2500));
    let json = written(&sent);
    assert_eq!(json["topic"], "acp.v1.events.order.paid");
    assert_eq!(json["payload"], serde_json::json!({"value": [1, 2]}));
    assert_eq!(json["priority"], 8);
    assert_eq!(json["sender"], "till \"1\"");
    assert_eq!(json["id"], json["event_id"]);
    assert_eq!(json["ttl"], 3);
}

#[test]
fn only_what_is_nested_too_deep_within_an_object_stays_as_it_is() {
    for (depth, wrapped) in [(MAX_NESTING - 1, true), (MAX_NESTING, false)] {
        let payload = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let mut sent = message(&payload);
        sent.envelope.metadata.insert("k", &"v").unwrap();
        let bytes = encode(&sent, &Extra::default());
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert_eq!(
            text.contains("\"payload\":{\"value\":[["),
            wrapped,
            "{depth}"
        );
        let read = decode(&bytes.into()).unwrap();
        assert_eq!(read.message.envelope, sent.envelope, "{depth}");
    }
}

#[test]
fn a_message_without_envelope_becomes_one() {
    let text = r#"{"id":"0191d3c5-5a3e-7000-8000-000000000001","topic":"order.paid","payload":{"a":1},"priority":"high",
        "sender":"till","correlation_id":null,"reply_to":"answers","timestamp":"2026-01-23T21:55:01.203615+00:00",
        "ttl_seconds":60,"trace_id":"t","span_id":null,"metadata":{"k":"v"},"unheard_of":[]}"#;
    let read = decode(&Bytes::from_static(text.as_bytes())).unwrap();
    let envelope = &read.message.envelope;
    assert_eq!(read.message.subject.as_str(), "order.paid");
    assert_eq!(envelope.event_type.as_str(), "order.paid");
    assert_eq!(envelope.payload.as_ref().unwrap().as_str(), "{\"a\":1}");
    assert_eq!((&*envelope.from, &*envelope.reply_to), ("till", "answers"));
    assert_eq!(envelope.metadata.get::<String>("k").unwrap(), "v");
    assert_eq!(&*envelope.context.trace_id, "t");
    assert_eq!(read.message.priority, Priority::High);
    assert!(read.message.is_expired(), "its minute was long ago");
}

#[test]
fn garbage_is_told_apart() {
    for text in [
        "",
        "[]",
        "{}",
        "{\"topic\":\"a b\",\"id\":\"1\"}",
        "{\"topic\":\"a\"}",
    ] {
        assert!(
            decode(&Bytes::from_static(text.as_bytes())).is_err(),
            "{text}"
        );
    }
}
