//! Texts that come in parts while several are told at a time: to whom each part goes, and what is
//! made of them at the end.

use serde_json::{Value, json};

use crate::harness::*;
use crate::host::{Host, file};

/// Calls at a time.
const CALLS: usize = 4;

#[test]
fn what_a_worker_says_meanwhile_is_streamed_and_its_text_is_gathered() {
    let host = Host::start(&file(1, ""));
    let chunks = r#"{"method":"chunks"}"#;
    let whole = json!({ "stopReason": "end_turn", "text": "Hello" });
    assert_eq!(host.json(&["invoke", "p", chunks]), whole);
    for session in [&[][..], &["--session", "s"]] {
        let said = host.says(&[&["invoke", "--stream", "p", chunks], session].concat());
        let frames: Vec<Value> = said
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(frames.len(), 3, "{said}");
        assert_eq!(frames[1]["params"]["update"]["content"]["text"], "lo");
        assert_eq!(frames[2], whole);
    }
    let (status, events) = host.http("POST", "/v1/agents/p/stream", chunks);
    assert_eq!(status, 200);
    assert_eq!(
        events.matches("event: agent.response.delta").count(),
        2,
        "{events}"
    );
    assert_eq!(
        events.matches("event: agent.response.final").count(),
        1,
        "{events}"
    );
}

/// The parts of the text of one call, which no other call has.
fn parts(round: usize, number: usize) -> [String; 3] {
    [
        format!("call {number} "),
        format!("of round {round}"),
        format!(": {}", 7 * round + number),
    ]
}

/// Asks for a text that the worker begins to tell once all calls of a round have asked, one part of
/// each in turn, and whose answers come in the opposite order. All of them have the same id.
fn request(round: usize, number: usize) -> Value {
    let params = json!({ "parts": parts(round, number), "together": CALLS });
    let session = format!("s{number}");
    json!({ "jsonrpc": "2.0", "id": 1, "method": "chunks", "params": params, "sessionId": session })
}

/// The text of a part.
fn text(news: &Value) -> &str {
    news["params"]["update"]["content"]["text"]
        .as_str()
        .unwrap_or_else(|| panic!("{news}"))
}

/// Calls in one of the four ways; returns the parts that were heard, if they can be, and the end.
fn call(host: &Host, round: usize, number: usize) -> (Option<Vec<String>>, Value) {
    let payload = request(round, number).to_string();
    let invoke = |args: &[&str]| host.says(&[&["invoke", "p", &payload], args].concat());
    let frames: Vec<Value> = match number % CALLS {
        0 => return (None, serde_json::from_str(&invoke(&[])).unwrap()),
        1 => {
            let (status, body) = host.http("POST", "/v1/agents/p/invoke", &payload);
            assert_eq!(status, 200, "{body}");
            return (None, serde_json::from_str(&body).unwrap());
        }
        2 => {
            let said = invoke(&["--stream"]);
            let frames = said.lines().map(serde_json::from_str);
            frames.map(Result::unwrap).collect()
        }
        _ => {
            let (_, events) = host.http("POST", "/v1/agents/p/stream", &payload);
            let data = events
                .lines()
                .filter_map(|line| line.strip_prefix("data: "));
            let envelopes = data.map(|data| serde_json::from_str::<Value>(data).unwrap());
            let payloads = envelopes.map(|envelope| envelope["payload"].clone());
            payloads.filter(|payload| !payload.is_null()).collect()
        }
    };
    let (end, news) = frames.split_last().unwrap();
    let heard = news.iter().map(|news| text(news).to_owned()).collect();
    (Some(heard), end.clone())
}

#[test]
fn calls_at_a_time_hear_only_their_own_text() {
    // One worker tells all of them.
    let host = Host::start(&file(1, ""));
    for round in 0..3 {
        std::thread::scope(|scope| {
            for number in 0..CALLS {
                let host = &host;
                scope.spawn(move || {
                    let (heard, end) = call(host, round, number);
                    let told = parts(round, number);
                    if let Some(heard) = heard {
                        assert_eq!(heard, told);
                    }
                    let whole = json!({ "stopReason": "end_turn", "text": told.concat() });
                    assert_eq!(end, whole);
                });
            }
        });
    }
}

#[test]
fn clients_with_equal_ids_hear_the_parts_of_their_own_session() {
    over(&SOCKETS, &one(1), |bus| {
        let mut clients: Vec<Client> = (0..CALLS).map(|_| bus.client()).collect();
        for round in 0..3 {
            for (number, client) in clients.iter_mut().enumerate() {
                client.send(&request(round, number).to_string());
            }
            for (number, client) in clients.iter_mut().enumerate() {
                for part in parts(round, number) {
                    assert_eq!(text(&client.next()), part);
                }
                let end = client.next();
                assert_eq!(
                    (&end["id"], &end["sessionId"]),
                    (&json!(1), &json!(format!("s{number}")))
                );
                assert_eq!(end["result"], json!({ "stopReason": "end_turn" }));
                client.nothing_before("more");
            }
        }
    });
}

#[test]
fn an_error_after_some_parts_is_only_an_error() {
    let host = Host::start(&file(1, ""));
    let error = json!({ "code": -32602, "message": "no more of it" });
    let params = json!({ "parts": ["lost"], "error": error });
    let payload = json!({ "method": "chunks", "params": params }).to_string();
    for (way, parts) in [(&[][..], 0), (&["--stream"][..], 1)] {
        let output = host.run(&[&["invoke", "p", &payload], way].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(8), "{said}");
        assert!(said.contains("no more of it"), "{said}");
        let heard = String::from_utf8(output.stdout).unwrap();
        assert_eq!(heard.lines().count(), parts, "{heard}");
    }
}

#[test]
fn an_answer_larger_than_may_wait_for_its_caller_is_told_instead_of_given() {
    let host = Host::start(&format!("{}max_output_queue = 1000\n", file(1, "")));
    let big = r#"{"method":"big","params":{"bytes":20000}}"#;
    let output = host.run(&["invoke", "p", big]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(10), "{said}");
    assert!(
        said.contains("more waits for this caller than may"),
        "{said}"
    );
    let (status, body) = host.http("POST", "/v1/agents/p/invoke", big);
    assert_eq!(status, 429, "{body}");
    assert!(body.contains("BACKPRESSURE_DROP"), "{body}");
    assert_eq!(host.says(&["invoke", "p", r#"{"method":"m"}"#]), "ok");
    host.all_have(0);
}
