//! The quick reader beside the tolerant one.

use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// What each reader makes of a text; `None` where the quick one gives up.
fn both(text: &str) -> (Option<Envelope>, Result<Envelope, String>) {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    let text = std::str::from_utf8(&bytes).unwrap();
    let envelope = |found: Found<'_>| {
        let envelope = found.into_envelope(&bytes);
        envelope.map_err(|error| error.to_string())
    };
    let quick = quick(text, NOW).ok().map(envelope);
    let tolerant = tolerant(Deserializer::from_str(text), NOW);
    let tolerant = tolerant.map_err(|error| error.to_string());
    let tolerant = tolerant.and_then(envelope);
    match quick {
        // What is wrong about a value is found by both alike.
        Some(Err(error)) => {
            assert_eq!(tolerant, Err(error));
            (None, tolerant)
        }
        quick => (quick.and_then(Result::ok), tolerant),
    }
}

#[test]
fn what_we_write_is_read_quickly() {
    let text = r#"{"spec_version":"acp/1.0","schema_version":1,
        "event_id":"01890a5d-ac96-774b-bcce-b302099a8057","event_type":"agent.response.delta",
        "occurred_at":"2026-01-31T12:00:00.5Z","session_id":"s","seq":7,"is_final":true,
        "payload":{"text":"a \"b\""},"metadata":{"k":[1.0,null]},"news":[{}] } "#;
    let (quick, tolerant) = both(text);
    let quick = quick.expect("nothing in it is unusual");
    assert_eq!((quick.seq, quick.is_final), (7, true));
    assert_eq!(Ok(quick), tolerant);
}

#[test]
fn what_is_unusual_is_left_to_the_tolerant_reader() {
    for text in [
        "",
        "{}",
        "[]",
        "{\"from\"",
        "{\"from\":\"a\"",
        "{\"from\":\"a\"}x",
        "{\"from\":\"a\",}",
        "{\"from\":\"a\" \"to\":\"b\"}",
        "{\"from\":null}",
        "{\"from\":\"a\\n\"}",
        "{\"from\":\"a\nb\"}",
        "{\"fr\\u006fm\":\"a\"}",
        "{\"seq\":-1}",
        "{\"seq\":1.0}",
        "{\"seq\":1e3}",
        "{\"seq\":01}",
        "{\"seq\":}",
        "{\"seq\":18446744073709551616}",
        "{\"seq\":\"1\"}",
        "{\"schema_version\":4294967296}",
        "{\"is_final\":null}",
        "{\"is_final\":1}",
        "{\"payload\":}",
        "{\"payload\":{\"a\":}}",
        "{\"metadata\":null,\"metadata\":[]}",
        "{\"news\":tru}",
        "\u{feff}{\"from\":\"a\"}",
    ] {
        assert_eq!(both(text).0, None, "{text}");
    }
}

/// Members as peers might write them, good and bad.
fn member() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "spec_version",
        "schema_version",
        "event_id",
        "event_type",
        "frame_type",
        "occurred_at",
        "trace_id",
        "user_id",
        "correlation_id",
        "reply_to",
        "from",
        "to",
        "seq",
        "is_final",
        "payload",
        "metadata",
        "news",
    ]);
    let text = prop_oneof!["[ -~é]{0,20}", "\\PC{0,9}"].prop_map(|text| {
        let text = serde_json::to_string(&text);
        text.unwrap()
    });
    let value = prop_oneof![
        4 => text,
        2 => any::<u64>().prop_map(|number| number.to_string()),
        1 => any::<i32>().prop_map(|number| number.to_string()),
        1 => any::<f64>().prop_map(|number| format!("{number:?}")),
        2 => prop::sample::select(vec![
            "true", "false", "null", "{}", "[]", "{\"a\":[1,{}]}", "\"a\\tb\"", "\"2026-01-31T12:00:00Z\"",
            "\"01890a5d-ac96-774b-bcce-b302099a8057\"", "nul", "{", "\"", "0x1", "\"\\ud800\"",
        ]).prop_map(str::to_owned),
    ];
    let blank = || prop::sample::select(vec!["", "", "", " ", "\n\t", "\r\n", "\u{a0}"]);
    (blank(), key, blank(), value, blank())
        .prop_map(|(one, key, two, value, three)| format!("{one}\"{key}\"{two}:{value}{three}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn both_readers_read_the_same(members in prop::collection::vec(member(), 0..6), end in "[}]?[ x]?") {
        let text = format!("{{{}{end}", members.join(","));
        if let (Some(quick), tolerant) = both(&text) {
            prop_assert_eq!(Ok(quick), tolerant);
        }
    }
}
