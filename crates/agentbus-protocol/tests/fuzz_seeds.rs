//! What the fuzz targets promise, at the seeds and all around them: the targets themselves need a
//! sanitizer build and run by `cargo xtask fuzz`, their bodies are compiled and run here.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should say where"
)]

#[path = "../../../fuzz/bodies/envelope.rs"]
mod envelope;
#[path = "../../../fuzz/bodies/jsonrpc.rs"]
mod jsonrpc;
#[path = "../../../fuzz/bodies/subject.rs"]
mod subject;

use serde_json::Value;

/// Bytes that mean something to one of the parsers, or to none.
const BYTES: [u8; 10] = [0, b'"', b'{', b'}', b'\\', b'.', b'>', b' ', b'7', 0xff];

/// Checks a seed, all its beginnings, and it with each byte changed.
fn around(seed: &[u8], check: impl Fn(&[u8])) {
    for end in 0..=seed.len() {
        check(&seed[..end]);
    }
    let mut changed = seed.to_vec();
    for at in 0..seed.len() {
        for byte in BYTES {
            changed[at] = byte;
            check(&changed);
        }
        changed[at] = seed[at];
    }
}

#[test]
fn envelopes_near_the_vectors() {
    let vectors = include_str!("../../../spec/vectors/envelopes.json");
    let vectors: Value = serde_json::from_str(vectors).unwrap();
    let mut seeds = 0;
    for case in vectors["cases"].as_array().unwrap() {
        for key in ["read", "rewritten", "refused"] {
            if let Some(seed) = case.get(key) {
                around(seed.to_string().as_bytes(), envelope::check);
                seeds += 1;
            }
        }
    }
    assert!(seeds > 10, "{seeds} seeds");
}

#[test]
fn lines_near_those_of_agents() {
    for line in [
        r#"{"jsonrpc":"2.0","id":1,"method":"session/prompt","params":{"a":[1,{"id":2}]},"sessionId":"s"}"#,
        r#"{"sessionId":"\u00e9\"s","pool":"p","agentId":"a","id":"x-1","result":null}"#,
        r#" { "error" : {"code":-32600,"message":"no"} , "id" : null } "#,
        r#"{"id":1.5e3,"result":{"deep":[[[[]]],"\\\"",true,false]},"method":""}"#,
        "{}",
    ] {
        around(line.as_bytes(), jsonrpc::check);
    }
}

#[test]
fn subjects_near_real_ones() {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let seeds = [
        "acp.v1",
        "acme",
        "acp.v1.invoke.echo",
        "acp.v1.events.order.*",
        "a.>",
        TRACE,
    ];
    for seed in seeds {
        for other in seeds {
            around(seed.as_bytes(), |bytes| {
                let one = String::from_utf8_lossy(bytes);
                subject::check((&*one, other));
                subject::check((other, &*one));
            });
        }
    }
}
