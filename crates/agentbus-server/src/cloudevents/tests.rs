//! CloudEvents in and out, attribute by attribute.

use agentbus::mint;
use agentbus::protocol::EventType;
use axum::http::{HeaderName, HeaderValue};

use super::*;

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

/// What a reader gets of what was published.
fn out(event: Incoming) -> Value {
    let event_type = EventType::new(event.event_type);
    let mut envelope = Envelope::new(mint::stamp(), event_type);
    envelope.payload = event.payload;
    envelope.metadata = event.metadata;
    serde_json::from_slice(&write(&envelope)).unwrap()
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
