//! Replays what AgentChatBus 0.1.8 was asked, and compares status, keys, types and meaning.
//!
//! Ids and tokens differ from run to run, so each that the captured server has made is replaced by
//! the one that ours makes at the same place, from then on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use agentbus_chat::ChatConfig;
use serde::Deserialize;
use serde_json::Value;

use super::client::{Answer, Host};

#[derive(Deserialize)]
struct Pair {
    note: String,
    request: Asked,
    response: Expected,
}

#[derive(Deserialize)]
struct Asked {
    method: String,
    path: String,
    json: Option<Value>,
    #[serde(default)]
    params: BTreeMap<String, Value>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    multipart: Option<BTreeMap<String, (String, String, String)>>,
}

#[derive(Deserialize)]
struct Expected {
    status: u16,
    body: Value,
}

/// Files in the order in which they were captured, for the state that each finds.
const FILES: [&str; 9] = [
    "misc",
    "agents",
    "templates",
    "threads",
    "messages",
    "reactions",
    "search",
    "upload",
    "lifecycle",
];

/// Pairs that ours answers otherwise on purpose, with the status it has and the reason.
fn decided(note: &str) -> Option<(u16, &'static str)> {
    Some(match note {
        "unknown author role=system is accepted" => (400, "a stranger must not pass for the bus"),
        "post to closed thread" => (400, "closed threads take no messages"),
        "foreign Host header" => (403, "names that are not ours are refused"),
        "CORS preflight" => (403, "foreign origins are refused"),
        "list after kick" => (200, "the list survives a kick"),
        "get single thread via REST (no such route in 0.1.8)" => (200, "the route is there"),
        _ => return None,
    })
}

/// Pairs whose body rests on one that is decided otherwise: the status is compared all the same.
const STATE_DIFFERS: [&str; 7] = [
    // The stranger's message, and the one with the wrong reason to stop, are not there.
    "messages: list",
    "messages: list with system prompt",
    "messages: list after_seq",
    "messages: after bad-stop thread list",
    "lifecycle: export",
    "lifecycle: delete",
    // The newest comes first, not the best.
    "search: limit 0 clamps to 1",
];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/agentchatbus")
}

/// What the captured server has made, and what ours has made in its place.
#[derive(Default)]
struct Names(BTreeMap<String, String>);

impl Names {
    fn ours(&self, text: &str) -> String {
        let pairs = self.0.iter();
        pairs.fold(text.to_owned(), |text, (theirs, ours)| {
            text.replace(theirs, ours)
        })
    }

    /// Learns from two answers that stand for each other.
    fn learn(&mut self, theirs: &Value, ours: &Value) {
        const MADE: [&str; 8] = [
            "id",
            "agent_id",
            "token",
            "reply_token",
            "msg_id",
            "next_cursor",
            "thread_id",
            "url",
        ];
        match (theirs, ours) {
            (Value::Object(theirs), Value::Object(ours)) => {
                for (key, value) in theirs {
                    let Some(own) = ours.get(key) else { continue };
                    match (value.as_str(), own.as_str()) {
                        (Some(old), Some(new))
                            if MADE.contains(&key.as_str()) && old.len() > 12 =>
                        {
                            self.0.insert(old.to_owned(), new.to_owned());
                        }
                        _ => self.learn(value, own),
                    }
                }
            }
            (Value::Array(theirs), Value::Array(ours)) => {
                for (one, other) in theirs.iter().zip(ours) {
                    self.learn(one, other);
                }
            }
            _ => {}
        }
    }
}

async fn ask(host: &Host, names: &Names, asked: &Asked) -> Answer {
    let mut path = names.ours(&asked.path);
    let escape = |text: &str| {
        text.replace('%', "%25")
            .replace('"', "%22")
            .replace('+', "%2B")
            .replace(' ', "%20")
    };
    for (at, (name, value)) in asked.params.iter().enumerate() {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        let join = if at == 0 { '?' } else { '&' };
        path = format!("{path}{join}{name}={}", escape(&names.ours(&text)));
    }
    let headers: Vec<_> = asked
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), names.ours(value)))
        .collect();
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    if let Some(parts) = &asked.multipart {
        return host
            .send(
                "POST",
                &path,
                &[("content-type", "multipart/form-data; boundary=X")],
                form(parts),
            )
            .await;
    }
    match &asked.json {
        Some(body) => {
            let body = names.ours(&body.to_string());
            let body = serde_json::from_str(&body).unwrap();
            host.json_as(&asked.method, &path, &headers, body).await
        }
        None => host.send(&asked.method, &path, &headers, "").await,
    }
}

fn form(parts: &BTreeMap<String, (String, String, String)>) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, (file, hex, kind)) in parts {
        let head = format!(
            "--X\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file}\"\r\nContent-Type: {kind}\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        let bytes = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
        body.extend(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--X--\r\n");
    body
}

/// What must be the same: every key that was there, with a value of the same type.
fn differences(at: &str, theirs: &Value, ours: &Value, found: &mut Vec<String>) {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            for (key, value) in theirs {
                match ours.get(key) {
                    Some(own) => differences(&format!("{at}.{key}"), value, own, found),
                    None => found.push(format!("{at}.{key} is missing")),
                }
            }
        }
        (Value::Array(theirs), Value::Array(ours)) => {
            for (n, (one, other)) in theirs.iter().zip(ours).enumerate() {
                differences(&format!("{at}[{n}]"), one, other, found);
            }
        }
        // Metadata is an object here unless it is asked for as text.
        (Value::String(text), Value::Object(_)) if at.ends_with(".metadata") => {
            let parsed: Value = serde_json::from_str(text).unwrap();
            differences(at, &parsed, ours, found);
        }
        (theirs, ours) => {
            let other_type = std::mem::discriminant(theirs) != std::mem::discriminant(ours);
            if other_type || (is_meaning(at) && theirs != ours) {
                found.push(format!("{at}: {theirs} became {ours}"));
            }
        }
    }
}

/// Values that must be equal, and not only of one type.
fn is_meaning(at: &str) -> bool {
    let key = at.rsplit('.').next().unwrap_or_default();
    let told = [
        "detail",
        "error",
        "action",
        "status",
        "role",
        "priority",
        "type",
        "msg",
        "name",
        "content",
        "author",
        "author_name",
        "topic",
        "alias_source",
        "reaction",
        "removed",
        "ok",
        "has_more",
        "display_name",
        "pattern",
        "query",
        "is_builtin",
        "total",
        "snippet",
        "limit",
        "window",
        "admin_type",
        "timeout_seconds",
        "missing_fields",
        "no_change",
        "service",
    ];
    // Our own words, or a set that was printed in no order.
    told.contains(&key)
}

fn worded_otherwise(note: &str) -> bool {
    // A set that was printed in no order; prompts, which are our own.
    note == "bad state"
        || ["get code", "get security", "get arch", "get brain"]
            .iter()
            .any(|one| note.starts_with(one))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn captured_exchanges_are_answered_alike() {
    let directory = directory();
    if !directory.is_dir() {
        println!("skipped: {} is not there", directory.display());
        return;
    }
    let host = Host::start(ChatConfig {
        rate_limit: 0,
        ..ChatConfig::default()
    })
    .await;
    let (mut names, mut problems, mut compared) = (Names::default(), Vec::new(), 0);
    let read = |file: &str| {
        let text = std::fs::read(directory.join(format!("py018-rest-{file}.json"))).unwrap();
        serde_json::from_slice::<Vec<Pair>>(&text).unwrap()
    };
    let all = FILES
        .iter()
        .flat_map(|file| read(file).into_iter().map(move |pair| (*file, pair)));
    let (last, first): (Vec<_>, Vec<_>) = all.partition(|(file, pair)| goes_last(file, &pair.note));
    for (file, pair) in first.into_iter().chain(last) {
        if pair.note == "too big" {
            continue;
        }
        let answer = ask(&host, &names, &pair.request).await;
        names.learn(&pair.response.body, &answer.body);
        problems.extend(compare(file, &pair, &answer, &names));
        compared += 1;
    }
    let all: BTreeSet<_> = problems.into_iter().collect();
    assert!(
        all.is_empty(),
        "{} of {compared} pairs differ:\n{}",
        all.len(),
        all.into_iter().collect::<Vec<_>>().join("\n")
    );
    println!("{compared} captured exchanges are answered alike");
    host.server.shutdown().await;
}

/// The captured script removes its agents in the second file, and goes on with others that it does
/// not show; here they go last. What was too big was not captured whole.
fn goes_last(file: &str, note: &str) -> bool {
    file == "agents"
        && ["unregister", "kick", "list after"]
            .iter()
            .any(|one| note.starts_with(one))
}

fn compare(file: &str, pair: &Pair, answer: &Answer, names: &Names) -> Vec<String> {
    let place = format!("{file}: {}", pair.note);
    if let Some((status, reason)) = decided(&pair.note) {
        if answer.status != status {
            return vec![format!(
                "{place}: {} instead of {status}, because {reason}",
                answer.status
            )];
        }
        return Vec::new();
    }
    if answer.status != pair.response.status {
        let (ours, theirs) = (answer.status, pair.response.status);
        return vec![format!(
            "{place}: {ours} instead of {theirs}: {}",
            answer.text
        )];
    }
    let rests_on_others = STATE_DIFFERS.contains(&place.as_str());
    if rests_on_others || worded_otherwise(&pair.note) || pair.note == "agents 404" {
        return Vec::new();
    }
    let mut found = Vec::new();
    let expected = names.ours(&pair.response.body.to_string());
    let expected = serde_json::from_str(&expected).unwrap();
    differences("", &expected, &answer.body, &mut found);
    found
        .into_iter()
        .map(|one| format!("{place}: {one}"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_captured_rate_limit_is_ours() {
    let path = directory().join("py018-rest-rate_limit.json");
    let Ok(text) = std::fs::read(&path) else {
        println!("skipped: {} is not there", path.display());
        return;
    };
    let pairs: Vec<Pair> = serde_json::from_slice(&text).unwrap();
    let host = Host::start(ChatConfig::default()).await;
    let thread = host.thread("t").await;
    let post = format!("/api/threads/{thread}/messages");
    for pair in &pairs {
        let body = pair.request.json.clone().unwrap();
        let accepted = if pair.response.status == 429 { 30 } else { 0 };
        for _ in 0..accepted {
            assert_eq!(host.json("POST", &post, body.clone()).await.status, 201);
        }
        let answer = host.json("POST", &post, body).await;
        assert_eq!(
            compare("rate_limit", pair, &answer, &Names::default()),
            [""; 0]
        );
        if answer.status == 429 {
            assert_eq!(answer.headers["retry-after"], "60");
        }
    }
    host.server.shutdown().await;
}
