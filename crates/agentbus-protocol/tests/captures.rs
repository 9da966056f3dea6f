//! Exchanges captured from other implementations, where they are at hand.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on, or is skipped, should say so"
)]

use std::fs;
use std::path::{Path, PathBuf};

use agentbus_protocol::reassembly::{Limits, Reassembly};
use agentbus_protocol::{DecodeError, Envelope, ErrorCode, Metadata, Timestamp};
use bytes::Bytes;
use serde_json::{Map, Value};

fn captures() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/openagentio");
    let found = path.join("index.json").exists();
    if !found {
        println!("skipped: no captures at {}", path.display());
    }
    found.then_some(path)
}

fn load(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn received_at() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

/// What reading and writing again must give: absent for null, empty text, 0 and false; UTC.
fn expected(read: &Map<String, Value>) -> Map<String, Value> {
    let known = [
        "spec_version",
        "schema_version",
        "event_id",
        "event_type",
        "frame_type",
        "occurred_at",
        "trace_id",
        "span_id",
        "traceparent",
        "session_id",
        "conversation_id",
        "correlation_id",
        "reply_to",
        "from",
        "to",
        "channel",
        "tenant_id",
        "user_id",
        "seq",
        "is_final",
        "payload",
        "metadata",
    ];
    let always = [
        "spec_version",
        "schema_version",
        "event_id",
        "event_type",
        "occurred_at",
    ];
    let mut out: Map<String, Value> = read
        .iter()
        .filter(|(key, _)| known.contains(&key.as_str()))
        .filter(|(key, value)| {
            let empty = match value {
                Value::Null => true,
                _ if *key == "payload" => false,
                Value::String(text) => text.is_empty(),
                Value::Object(map) => map.is_empty(),
                Value::Bool(flag) => !flag,
                Value::Number(number) => number.as_u64() == Some(0),
                Value::Array(_) => false,
            };
            !empty || always.contains(&key.as_str())
        })
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let defaults = Envelope::decode(&Bytes::from_static(b"{}"), received_at()).unwrap();
    let defaults: Value = serde_json::from_slice(&defaults.encode()).unwrap();
    for (key, value) in defaults.as_object().unwrap() {
        out.entry(key.clone()).or_insert(value.clone());
    }
    let time = Timestamp::parse(out["occurred_at"].as_str().unwrap()).unwrap();
    out.insert("occurred_at".into(), time.to_string().into());
    out
}

#[test]
fn captured_envelopes_are_read_and_written_by_the_rules() {
    let Some(folder) = captures() else { return };
    let (mut read, mut refused) = (0, 0);
    for entry in fs::read_dir(folder).unwrap() {
        let capture = load(&entry.unwrap().path());
        for message in capture["tap_messages"].as_array().into_iter().flatten() {
            let text = message["payload_text"].as_str().unwrap_or_default();
            let bytes = Bytes::copy_from_slice(text.as_bytes());
            match Envelope::decode(&bytes, received_at()) {
                Ok(envelope) => {
                    read += 1;
                    let written: Value = serde_json::from_slice(&envelope.encode()).unwrap();
                    let source: Value = serde_json::from_str(text).unwrap();
                    let want = expected(source.as_object().unwrap());
                    assert_eq!(written, Value::Object(want), "{text}");
                }
                Err(error) => {
                    refused += 1;
                    assert!(must_be_refused(text), "{text}: {error}");
                }
            }
        }
    }
    println!("read {read}, refused {refused}");
    assert!(read > 200 && refused >= 4);
}

/// What no reader of the protocol takes: no JSON object, a bad time, a bad frame number; and the
/// native requests of one carrier test, which are not envelopes.
fn must_be_refused(text: &str) -> bool {
    let Ok(Value::Object(fields)) = serde_json::from_str(text) else {
        return true;
    };
    let bad_time = fields
        .get("occurred_at")
        .and_then(Value::as_str)
        .is_some_and(|time| Timestamp::parse(time).is_err());
    bad_time || fields.get("seq").is_some_and(|seq| seq.as_u64().is_none())
}

/// Feeds the frames that a capture's server sent into the reader.
fn replay(name: &str, limits: Limits) -> Option<(Vec<u64>, Option<ErrorCode>, Value)> {
    let capture = load(&captures()?.join(name));
    let mut stream = Reassembly::new(limits);
    let (mut read, mut ended) = (Vec::new(), None);
    for message in capture["tap_messages"].as_array().unwrap() {
        if !message["subject"].as_str().unwrap().starts_with("_INBOX.") {
            continue;
        }
        let text = message["payload_text"].as_str().unwrap();
        let accepted = Envelope::decode(&Bytes::copy_from_slice(text.as_bytes()), received_at())
            .map_err(|error: DecodeError| error.code())
            .and_then(|frame| {
                let accepted = stream.accept(frame.seq, frame.is_final, frame.seq);
                accepted.map_err(|_| ErrorCode::BackpressureDrop)
            });
        if let Err(code) = accepted {
            ended = Some(code);
            break;
        }
        read.extend(std::iter::from_fn(|| stream.pop_ready()));
    }
    Some((read, ended, capture))
}

#[test]
fn captured_streams_behave_as_recorded() {
    let three = Limits {
        pending_frames_max: 3,
        sequence_gap_max: 0,
    };
    let cases = [
        ("nats-12-stream-out-of-order.json", Limits::default()),
        ("nats-14-stream-gap-too-large.json", Limits::default()),
        ("nats-14b-stream-gap-just-ok.json", Limits::default()),
        ("nats-14c-stream-pending-full.json", three),
        ("nats-17-stream-final-without-flag.json", Limits::default()),
        ("nats-18-stream-error-frame.json", Limits::default()),
        ("nats-19-stream-negative-seq.json", Limits::default()),
    ];
    for (name, limits) in cases {
        let Some((read, ended, capture)) = replay(name, limits) else {
            return;
        };
        let recorded = capture["ended"].as_str().unwrap_or_default();
        let broke = recorded.starts_with("BackpressureDrop");
        assert_eq!(
            ended == Some(ErrorCode::BackpressureDrop),
            broke,
            "{name}: {recorded}"
        );
        let yielded = capture["caller_yielded"].as_array().map_or(0, Vec::len);
        assert_eq!(read.len(), yielded, "{name}: {read:?}");
    }
}

#[test]
fn replies_inherit_metadata_as_captured() {
    let mut metadata = Metadata::default();
    for key in ["acp.retry.attempt", "acp.x", "ACP.x", "acpx", "channel.id"] {
        metadata.insert_text(key, "v");
    }
    let inherited = metadata.inherited();
    let kept: Vec<_> = inherited.iter().map(|(key, _)| key).collect();
    assert_eq!(kept, ["ACP.x", "acpx", "channel.id"]);
}
