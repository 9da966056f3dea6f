//! CloudEvents in and out, attribute by attribute.

use agentbus::mint;
use agentbus::protocol::EventType;
use axum::http::{HeaderName, HeaderValue};

use super::*;
use crate::limits::CLOUD_EVENT_HEADER_BYTES;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        let name: HeaderName = name.parse().unwrap();
        (name, HeaderValue::from_str(value).unwrap())
    };
    pairs.iter().map(pair).collect()
}

fn read_as(content_type: &str, body: &str) -> Result<Vec<Incoming>, String> {
    let headers = headers(&[("content-type", content_type)]);
    let read = read(&headers, &Bytes::copy_from_slice(body.as_bytes()));
    read.map_err(|failure| String::from_utf8(failure.into_parts().1).unwrap())
}

fn one(body: &str) -> Result<Incoming, String> {
    let mut all = read_as("application/cloudevents+json; charset=utf-8", body)?;
    Ok(all.remove(0))
}

/// The envelope that an event becomes.
fn envelope_of(event: Incoming) -> Envelope {
    let event_type = EventType::new(event.event_type);
    let mut envelope = Envelope::new(mint::stamp(), event_type);
    envelope.payload = event.payload;
    envelope.metadata = event.metadata;
    envelope
}

/// What a reader gets of what was published.
fn out(event: Incoming) -> Value {
    serde_json::from_slice(&write(&envelope_of(event))).unwrap()
}

/// Whether an envelope is answered in binary mode when that is asked for.
fn is_answered_in_binary(envelope: &Envelope) -> bool {
    let (headers, body) = binary_answer(envelope);
    let structured = headers["content-type"] == "application/cloudevents+json";
    assert_eq!(headers.contains_key("ce-id"), !structured);
    assert_eq!(body == write(envelope), structured);
    !structured
}

#[test]
fn a_structured_event_goes_out_as_it_came_in() {
    let text = r#"{"specversion":"1.0","id":"A-1","source":"https://shop/7","type":"com.shop.paid",
        "subject":"order 7","time":"2026-11-21T08:00:00Z","datacontenttype":"application/json",
        "dataschema":"https://shop/paid.json","priority":3,"urgent":true,"data":{"n":1.0,"big":9007199254740993}}"#;
    let event = one(text).unwrap();
    assert_eq!(event.event_type, "com.shop.paid");
    assert_eq!(event.key, "https://shop/7 A-1");
    assert_eq!(
        event.payload.as_ref().unwrap().as_str(),
        r#"{"n":1.0,"big":9007199254740993}"#
    );
    assert_eq!(out(event), serde_json::from_str::<Value>(text).unwrap());
}

#[test]
fn bytes_and_nothing_are_data_too() {
    let bytes = r#"{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"AP8="}"#;
    let event = out(one(bytes).unwrap());
    assert_eq!(
        (&event["data_base64"], event.get("data")),
        (&json!("AP8="), None)
    );
    let empty = r#"{"specversion":"1.0","id":"1","source":"s","type":"t"}"#;
    assert!(one(empty).unwrap().payload.is_none());
}

#[test]
fn a_binary_event_has_its_attributes_in_headers() {
    let headers = headers(&[
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/s"),
        ("CE-Type", "a.b"),
        ("ce-subject", "Gr%C3%BC%C3%9Fe %25"),
        (
            "ce-traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        ("content-type", "text/plain; charset=utf-8"),
        ("x-other", "1"),
    ]);
    let event = read(&headers, &Bytes::from_static(b"hello"))
        .unwrap()
        .remove(0);
    assert!(event.traceparent.is_some());
    let event = out(event);
    assert_eq!(
        (&event["subject"], &event["data"]),
        (&json!("Grüße %"), &json!("hello"))
    );
    assert_eq!(event["datacontenttype"], "text/plain; charset=utf-8");
    assert_eq!(event.get("other"), None);
}

#[test]
fn binary_data_of_no_text_type_is_kept_as_bytes() {
    let headers = headers(&[
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/s"),
        ("ce-type", "image"),
        ("content-type", "image/png"),
    ]);
    let event = read(&headers, &Bytes::from_static(b"\x89PNG"))
        .unwrap()
        .remove(0);
    assert_eq!(out(event)["data_base64"], "iVBORw==");
}

#[test]
fn a_batch_is_taken_as_a_whole_or_not_at_all() {
    let good = r#"{"specversion":"1.0","id":"1","source":"s","type":"t"}"#;
    let kind = "application/cloudevents-batch+json";
    assert_eq!(read_as(kind, &format!("[{good},{good}]")).unwrap().len(), 2);
    assert_eq!(read_as(kind, "[]").unwrap().len(), 0);
    let wrong = read_as(kind, &format!(r#"[{good},{{"id":"2"}}]"#)).unwrap_err();
    assert!(wrong.contains("event 1 of the batch"), "{wrong}");
    let many = vec![good; CLOUD_EVENT_BATCH + 1].join(",");
    assert!(
        read_as(kind, &format!("[{many}]"))
            .unwrap_err()
            .contains("at most 1000")
    );
}

#[test]
fn what_is_no_event_is_refused_with_its_reason() {
    for (body, reason) in [
        ("{", "cannot be read"),
        (
            r#"{"specversion":"0.3","id":"1","source":"s","type":"t"}"#,
            "specversion",
        ),
        (
            r#"{"specversion":"1.0","id":"","source":"s","type":"t"}"#,
            "`id` must be",
        ),
        (
            r#"{"specversion":"1.0","id":"1","source":"s"}"#,
            "`type` must be",
        ),
        (
            r#"{"specversion":"1.0","id":"1","source":"s","type":"t","Bad_Name":"x"}"#,
            "no attribute name",
        ),
        (
            r#"{"specversion":"1.0","id":"1","source":"s","type":"t","x":{}}"#,
            "`x` must be",
        ),
        (
            r#"{"specversion":"1.0","id":"1","source":"s","type":"t","data":1,"data_base64":""}"#,
            "not both",
        ),
        (
            r#"{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"?"}"#,
            "not base64",
        ),
    ] {
        let refused = one(body).unwrap_err();
        assert!(refused.contains(reason), "{body}: {refused}");
    }
    assert!(
        read_as("application/json", "{}")
            .unwrap_err()
            .contains("no CloudEvent")
    );
}

#[test]
fn an_envelope_that_never_was_one_has_all_required_attributes() {
    let mut envelope = Envelope::new(mint::stamp(), EventType::from("order.paid"));
    envelope.from = "shop 7".into();
    envelope.payload = Some(Payload::text("thanks"));
    let event: Value = serde_json::from_slice(&write(&envelope)).unwrap();
    assert_eq!(event["specversion"], "1.0");
    assert_eq!(event["source"], "/agents/shop%207");
    assert_eq!(event["type"], "order.paid");
    assert_eq!(event["data"], "thanks");
    assert_eq!(event["datacontenttype"], "application/json");
    assert_eq!(event["id"], envelope.event_id.with_str(str::to_owned));
    assert!(event["time"].as_str().unwrap().ends_with('Z'), "{event}");
}

#[test]
fn a_binary_answer_is_read_as_the_event_that_it_was() {
    for (content_type, data, body) in [
        (
            "application/json",
            r#""data":{"n":1.0}"#,
            r#"{"n":1.0}"#.as_bytes(),
        ),
        (
            "application/x+json",
            r#""data":"text""#,
            b"\"text\"".as_slice(),
        ),
        (
            "text/plain; charset=utf-8",
            r#""data":"say \"h\u00e9\"""#,
            "say \"hé\"".as_bytes(),
        ),
        (
            "image/png",
            r#""data_base64":"iVBORw==""#,
            b"\x89PNG".as_slice(),
        ),
    ] {
        let text = format!(
            r#"{{"specversion":"1.0","id":"1","source":"/s","type":"a.b","time":"2026-11-21T08:00:00Z",
            "subject":"Grüße \"100 %\"\n","priority":"3","datacontenttype":"{content_type}",{data}}}"#
        );
        let event = one(&text).unwrap();
        let (headers, answer) = binary_answer(&envelope_of(event));
        assert_eq!(headers["content-type"], content_type);
        assert_eq!(
            headers["ce-subject"],
            "Gr%C3%BC%C3%9Fe%20%22100%20%25%22%0A"
        );
        assert!(!headers.contains_key("ce-datacontenttype"), "{headers:?}");
        assert_eq!(answer, body, "{content_type}");
        let again = read(&headers, &answer).unwrap().remove(0);
        assert_eq!(out(again), serde_json::from_str::<Value>(&text).unwrap());
    }
}

#[test]
fn what_headers_cannot_say_is_answered_in_json() {
    let mut envelope = Envelope::new(mint::stamp(), EventType::from("order.paid"));
    envelope.payload = Some(Payload::text("thanks"));
    assert!(is_answered_in_binary(&envelope));
    let structured = |name: &str, value: &str| {
        let mut envelope = envelope.clone();
        let key = format!("cloudevents.{name}");
        envelope.metadata.insert_text(key, value);
        !is_answered_in_binary(&envelope)
    };
    assert!(structured("long", &"x".repeat(CLOUD_EVENT_HEADER_BYTES)));
    assert!(!structured(
        "short",
        &"x".repeat(CLOUD_EVENT_HEADER_BYTES / 2)
    ));
    // A reader would take the answer for a structured event, or a batch of them.
    assert!(structured(
        "datacontenttype",
        "Application/CloudEvents-Batch+JSON"
    ));
    assert!(structured("datacontenttype", "text/plain\r\nx: y"));
    envelope.payload = Some(Payload::json(&[1]).unwrap());
    let mut wrong = envelope.clone();
    wrong
        .metadata
        .insert_text("cloudevents.datacontenttype", "text/plain");
    assert!(!is_answered_in_binary(&wrong), "a list is no text");
}

#[test]
fn metadata_that_is_no_attribute_stays_in_the_envelope() {
    let mut envelope = Envelope::new(mint::stamp(), EventType::from("order.paid"));
    envelope.payload = Some(Payload::text("thanks"));
    for name in ["data", "specversion", "Upper", "a_b", ""] {
        let key = format!("cloudevents.{name}");
        envelope.metadata.insert_text(key, "forged");
    }
    let text = String::from_utf8(write(&envelope)).unwrap();
    assert!(!text.contains("forged"), "{text}");
    assert!(is_answered_in_binary(&envelope));
    let named = headers(&[
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/s"),
        ("ce-type", "a.b"),
        ("ce-data", "forged"),
    ]);
    assert!(read(&named, &Bytes::new()).is_err());
}
