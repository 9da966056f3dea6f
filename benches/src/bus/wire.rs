//! What the wire costs: the envelope as JSON, and the routing fields of a line.

use std::hint::black_box;
use std::time::Instant;

use agentbus_protocol::{Envelope, Payload, Timestamp, jsonrpc};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::report::{Report, percentile};

/// Times of one work, of which the median counts.
const SAMPLES: usize = 2000;

/// Envelopes of one sample: a single one is too quick for the clock.
const ENVELOPES: u32 = 100;

/// Microseconds that one round takes at the median.
fn time(run: &dyn Fn()) -> f64 {
    let sample = |_| {
        let begun = Instant::now();
        run();
        begun.elapsed()
    };
    let mut samples: Vec<_> = (0..SAMPLES).map(sample).collect();
    percentile(&mut samples, 50)
}

/// A request as callers write it, in a trace and a session.
fn request() -> Envelope {
    let stamp = agentbus::mint::stamp();
    let mut request = Envelope::request(
        stamp,
        "caller".into(),
        "echo".into(),
        Some(Payload::json(&json!({"order": 1, "total": 12.5})).unwrap()),
    );
    request.reply_to = "_INBOX.Zk3yqfxW9aPz0TcB.mNq8R4xLw2Vd7YbE".into();
    let context = request.context.edit();
    context.traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into();
    context.session_id = "session-1".into();
    request
}

/// An envelope written as JSON, and read again.
pub(crate) fn envelopes(report: &mut Report) {
    let (envelope, now) = (request(), Timestamp::UNIX_EPOCH);
    let bytes = Bytes::from(envelope.encode());
    let value: Value = serde_json::from_slice(&bytes).unwrap();
    let each = |run: &dyn Fn()| {
        let all = time(&|| (0..ENVELOPES).for_each(|_| run()));
        all / f64::from(ENVELOPES)
    };
    let ours = each(&|| drop(black_box(black_box(&envelope).encode())));
    let raw = each(&|| drop(black_box(serde_json::to_vec(black_box(&value)).unwrap())));
    let what = "envelope written (baseline: serde_json writing the same as a Value)";
    report.latency(what, ours, raw, "");
    let ours = each(&|| drop(black_box(Envelope::decode(black_box(&bytes), now).unwrap())));
    let raw = each(&|| {
        let value: Value = serde_json::from_slice(black_box(&bytes)).unwrap();
        drop(black_box(value));
    });
    let what = "envelope read (baseline: serde_json reading it as a Value)";
    report.latency(what, ours, raw, "");
}

/// Bytes of a line that is scanned.
const LINE: usize = 64 * 1024;

/// Routing fields of a 64 KiB line with the keys last.
pub(crate) fn scan_lines(report: &mut Report) {
    const KEYS: &str = r#""jsonrpc":"2.0","id":7,"method":"m","sessionId":"s"}"#;
    const OBJECT: &str = r#"{"role":"user","n":1},"#;
    let text = |room: usize| format!(r#"{{"params":{{"text":"{}"}},"#, "x".repeat(room));
    let many = |room: usize| {
        let objects = OBJECT.repeat(room / OBJECT.len());
        let list = objects.trim_end_matches(',');
        format!(r#"{{"params":[{list:room$}],"#)
    };
    let room = |head: &dyn Fn(usize) -> String| LINE - KEYS.len() - head(0).len();
    for (what, head) in [
        ("one long string", &text as &dyn Fn(usize) -> String),
        ("2975 small objects", &many),
    ] {
        let line = head(room(head)) + KEYS;
        assert_eq!(line.len(), LINE);
        let ours = time(&|| {
            let found = jsonrpc::scan(line.as_bytes()).unwrap();
            assert_eq!(found.method.as_deref(), Some("m"));
        });
        let raw = time(&|| {
            serde_json::from_str::<serde::de::IgnoredAny>(&line).unwrap();
        });
        let what = format!("scan of a 64 KiB line, {what} (baseline: serde_json skipping it)");
        report.latency(&what, ours, raw, "≤ 6 us");
    }
}
