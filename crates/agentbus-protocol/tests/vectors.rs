//! The schema and the vectors in `spec/`, which all languages share.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use agentbus_protocol::{
    Envelope, ErrorCode, ErrorPayload, EventId, EventType, Payload, Stamp, Timestamp,
};
use bytes::Bytes;
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Vectors {
    received_at: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    read: Option<Box<RawValue>>,
    rewritten: Option<Box<RawValue>>,
    refused: Option<Box<RawValue>>,
}

fn bytes(raw: &RawValue) -> Bytes {
    Bytes::copy_from_slice(raw.get().as_bytes())
}

/// Compares JSON texts as values, but numbers by their digits.
fn same_json(a: &str, b: &str) -> bool {
    fn canonical(text: &str) -> String {
        let fields: std::collections::BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(text).unwrap();
        fields
            .iter()
            .map(|(key, value)| format!("{key}={}\n", value.get()))
            .collect()
    }
    canonical(a) == canonical(b)
}

#[test]
fn vectors_are_read_and_written_as_they_say() {
    let vectors: Vectors =
        serde_json::from_str(include_str!("../../../spec/vectors/envelopes.json")).unwrap();
    let received_at = Timestamp::parse(&vectors.received_at).unwrap();
    for case in vectors.cases {
        if let Some(refused) = case.refused {
            let read = Envelope::decode(&bytes(&refused), received_at);
            assert!(read.is_err(), "{}: {read:?}", case.name);
            continue;
        }
        let read = Envelope::decode(&bytes(&case.read.unwrap()), received_at).unwrap();
        let written = String::from_utf8(read.encode()).unwrap();
        let wanted = case.rewritten.unwrap();
        assert!(
            same_json(&written, wanted.get()),
            "{}:\n{written}\n{wanted}",
            case.name
        );
    }
}

fn validator() -> jsonschema::Validator {
    let schema: Value =
        serde_json::from_str(include_str!("../../../spec/envelope.schema.json")).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

fn stamp(random: [u8; 10]) -> Stamp {
    Stamp {
        event_id: EventId::v7(1_700_000_000_000, &random),
        occurred_at: Timestamp::UNIX_EPOCH,
    }
}

#[test]
fn everything_that_is_written_fits_the_schema() {
    let schema = validator();
    let request = Envelope::request(stamp([1; 10]), "a".into(), "b".into(), None);
    let mut all = vec![
        request.clone(),
        request.final_reply(stamp([2; 10]), "b".into(), Some(Payload::text("x"))),
        request.reply_shell(stamp([3; 10]), "b".into(), EventType::RESPONSE_DELTA),
        Envelope::new(stamp([4; 10]), EventType::from("order.paid")),
    ];
    all.extend(ErrorCode::CLOSED_SET.into_iter().map(|code| {
        request.error_reply(stamp([5; 10]), "b".into(), &ErrorPayload::new(code, "why"))
    }));
    for envelope in all {
        let value: Value = serde_json::from_slice(&envelope.encode()).unwrap();
        let problems: Vec<_> = schema.iter_errors(&value).map(|e| e.to_string()).collect();
        assert!(problems.is_empty(), "{value}: {problems:?}");
    }
    let bad: Value = serde_json::json!({"event_type": "agent.response.error"});
    assert!(
        !schema.is_valid(&bad),
        "a schema that accepts anything proves nothing"
    );
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-z.]{1,12}", "\\PC{0,40}", ".{0,20}"]
}

fn payload() -> impl Strategy<Value = Option<Payload>> {
    let json = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        "\\PC{0,30}".prop_map(|text| Value::from(text).to_string()),
        Just("[1,\n {\"a\": \"\\n \\\" \"}]\r\n".to_owned()),
        Just("1e400".to_owned()),
        Just(String::new()),
    ];
    json.prop_map(|json| Payload::from_bytes(&Bytes::from(json)).unwrap())
}

prop_compose! {
    fn envelopes()(
        random in any::<[u8; 10]>(),
        nanos in -62_135_596_800_000_000_000_i128..253_402_207_200_000_000_000,
        names in proptest::collection::vec(text(), 14),
        seq in any::<u64>(),
        is_final in any::<bool>(),
        payload in payload(),
        metadata in proptest::collection::btree_map("[a-z.]{1,8}", any::<i64>(), 0..4),
    ) -> Envelope {
        let event_id = EventId::v7(u64::from(random[0]), &random);
        let occurred_at = Timestamp::from_unix_nanos(nanos);
        let mut envelope =
            Envelope::new(Stamp { event_id, occurred_at }, EventType::from(names[0].as_str()));
        envelope.frame_type = names[1].as_str().into();
        envelope.reply_to = names[2].as_str().into();
        envelope.from = names[3].as_str().into();
        envelope.to = names[4].as_str().into();
        envelope.correlation_id = EventId::parse(&names[5]);
        let context = envelope.context.edit();
        context.trace_id = names[6].as_str().into();
        context.span_id = names[7].as_str().into();
        context.traceparent = names[8].as_str().into();
        context.session_id = names[9].as_str().into();
        context.conversation_id = names[10].as_str().into();
        context.channel = names[11].as_str().into();
        context.tenant_id = names[12].as_str().into();
        context.user_id = names[13].as_str().into();
        envelope.seq = seq;
        envelope.is_final = is_final;
        envelope.payload = payload;
        for (key, value) in metadata {
            envelope.metadata.insert(key, &value).unwrap();
        }
        envelope
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_back_the_same(envelope in envelopes()) {
        let written = Bytes::from(envelope.encode());
        let read = Envelope::decode(&written, Timestamp::UNIX_EPOCH).unwrap();
        prop_assert!(!written.contains(&b'\n'), "an envelope is one line");
        prop_assert_eq!(read, envelope);
    }

    #[test]
    fn bytes_of_strangers_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Envelope::decode(&Bytes::from(bytes), Timestamp::UNIX_EPOCH);
    }
}
