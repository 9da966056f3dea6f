//! Replays what AgentChatBus 0.1.8 was asked, and compares status, keys, types and meaning.
//!
//! Ids and tokens differ from run to run, so each that the captured server has made is replaced by
//! the one that ours makes at the same place, from then on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use agentbus_chat::ChatConfig;
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::{Answer, Host, quiet};
use super::live::Events;

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
const FILES: [&str; 10] = [
    "misc",
    "agents",
    "templates",
    "threads",
    "messages",
    "reactions",
    "search",
    "upload",
    "lifecycle",
    "metrics",
];

/// Files whose pairs another test makes again, and which.
const ELSEWHERE: [(&str, &str); 2] = [
    ("rate_limit", "the_captured_rate_limit_is_ours"),
    ("sse_events", "captured_exchanges_are_answered_alike"),
];

/// How ours answers a pair otherwise, on purpose.
#[derive(Debug, Clone, Copy)]
enum Otherwise {
    /// With another status.
    Status(u16),
    /// With something else at these places, and below them.
    At(&'static [&'static str]),
    /// Without the rows of this content.
    Without(&'static str),
}

use Otherwise::{At, Status, Without};

/// The pairs that ours answers otherwise. All others are alike.
const DECIDED: [(&str, Otherwise, &str); 15] = [
    (
        "misc: diagnostics",
        At(&[".logs"]),
        "sentences for people, of which ours are fewer",
    ),
    (
        "misc: CORS preflight",
        Status(403),
        "foreign origins are refused",
    ),
    (
        "misc: foreign Host header",
        Status(403),
        "names that are not ours are refused",
    ),
    (
        "agents: list after kick",
        Status(200),
        "a defect: the list broke for good",
    ),
    (
        "threads: agents 404",
        At(&[".detail.pid", ".detail.port", ".detail.db_path"]),
        "an error tells nothing of the machine",
    ),
    (
        "threads: get single thread via REST (no such route in 0.1.8)",
        Status(200),
        "the route is there",
    ),
    (
        "messages: unknown author role=system is accepted",
        Status(400),
        "a defect: a stranger passed for the bus",
    ),
    (
        "messages: list",
        Without("x sys"),
        "the stranger's message is not there",
    ),
    (
        "messages: list with system prompt",
        At(&["[0].content"]),
        "what every agent is told is in our own words",
    ),
    (
        "messages: list after_seq",
        At(&["[0]", "[1]"]),
        "the stranger's message is not there, so the page begins one later",
    ),
    (
        "messages: after bad-stop thread list",
        Without("bad stop"),
        "a defect: what was refused was kept",
    ),
    (
        "lifecycle: bad state",
        At(&[".detail"]),
        "a set that was printed in no order",
    ),
    (
        "lifecycle: post to closed thread",
        Status(400),
        "closed threads take no messages",
    ),
    (
        "lifecycle: export",
        At(&[":"]),
        "a document of messages that were edited in between, which was not captured",
    ),
    (
        "metrics: metrics after traffic",
        At(&[".messages.total", ".messages.stop_reasons.weird"]),
        "traffic that was not captured, and a defect: what was refused was kept",
    ),
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
                            // Lists that differ must not teach another name for the same.
                            let known = self.0.entry(old.to_owned());
                            known.or_insert_with(|| new.to_owned());
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

/// Asks ours the same, with so many bytes more in each part of a form.
async fn ask(host: &Host, names: &Names, asked: &Asked, filler: usize) -> Answer {
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
                form(parts, filler),
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

fn form(parts: &BTreeMap<String, (String, String, String)>, filler: usize) -> Vec<u8> {
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
        body.resize(body.len() + filler, b'x');
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--X--\r\n");
    body
}

/// What must be the same: every key that was there, with a value of the same type, and lists in
/// length and order.
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
            if theirs.len() != ours.len() {
                let lengths = (theirs.len(), ours.len());
                found.push(format!("{at}: {} became {} elements", lengths.0, lengths.1));
            }
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn captured_exchanges_are_answered_alike() {
    if !is_there() {
        return;
    }
    let host = Host::start(quiet()).await;
    let mut again = Again::default();
    let all = FILES
        .iter()
        .flat_map(|file| pairs(file).into_iter().map(move |pair| (*file, pair)));
    let (last, first): (Vec<_>, Vec<_>) = all.partition(|(file, pair)| goes_last(file, &pair.note));
    for (file, pair) in first.into_iter().chain(last) {
        again.make(&host, file, &pair).await;
    }
    again.hear(&host).await;
    let problems = &again.problems;
    let compared = again.compared.len();
    assert!(
        problems.is_empty(),
        "{} differences in {compared} pairs:\n{}",
        problems.len(),
        problems.join("\n")
    );
    let gone = DECIDED
        .iter()
        .filter(|(place, ..)| !again.compared.contains(*place));
    assert_eq!(gone.count(), 0, "a pair that was decided is not captured");
    println!("{compared} captured exchanges are answered alike, of which otherwise on purpose:");
    for (place, otherwise, reason) in DECIDED {
        println!("{place}: {otherwise:?}: {reason}");
    }
    host.server.shutdown().await;
}

/// Nothing that was captured is forgotten: every file is made again.
#[test]
fn every_captured_file_is_made_again() {
    if !is_there() {
        return;
    }
    let mut files = BTreeSet::new();
    for file in std::fs::read_dir(directory()).unwrap() {
        let path = file.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        files.extend(stem.strip_prefix("py018-rest-").map(str::to_owned));
    }
    let elsewhere = ELSEWHERE.iter().map(|(file, _)| *file);
    let known = FILES.into_iter().chain(elsewhere).map(str::to_owned);
    assert_eq!(files, known.collect::<BTreeSet<_>>());
}

fn is_there() -> bool {
    let directory = directory();
    if !directory.is_dir() {
        println!("skipped: {} is not there", directory.display());
    }
    directory.is_dir()
}

fn pairs(file: &str) -> Vec<Pair> {
    let text = std::fs::read(directory().join(format!("py018-rest-{file}.json"))).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// The captured script removes its agents in the second file, and goes on with others that it does
/// not show; here they go last.
fn goes_last(file: &str, note: &str) -> bool {
    file == "agents"
        && ["unregister", "kick", "list after"]
            .iter()
            .any(|one| note.starts_with(one))
}

/// What was asked again, and what came of it.
#[derive(Default)]
struct Again {
    names: Names,
    compared: BTreeSet<String>,
    problems: Vec<String>,
}

impl Again {
    async fn make(&mut self, host: &Host, file: &str, pair: &Pair) {
        let place = format!("{file}: {}", pair.note);
        // A file that was too big was not captured whole.
        let filler = match pair.note == "too big" {
            true => ChatConfig::default().max_image_bytes,
            false => 0,
        };
        let answer = ask(host, &self.names, &pair.request, filler).await;
        let decided = DECIDED.iter().find(|(known, ..)| *known == place);
        let otherwise = decided.map(|(_, otherwise, _)| *otherwise);
        let mut theirs = pair.response.body.clone();
        if let (Some(Without(content)), Value::Array(rows)) = (otherwise, &mut theirs) {
            let before = rows.len();
            rows.retain(|row| row["content"] != content);
            assert_ne!(rows.len(), before, "{place}: there is no such row");
        }
        self.names.learn(&theirs, &answer.body);
        let theirs = self.names.ours(&theirs.to_string());
        let theirs = serde_json::from_str(&theirs).unwrap();
        let found = compare(otherwise, pair.response.status, &theirs, &answer);
        let found = found.into_iter().map(|one| format!("{place}{one}"));
        self.problems.extend(found);
        self.compared.insert(place);
    }
}

impl Again {
    /// Compares the first event of every kind that was captured with ours.
    async fn hear(&mut self, host: &Host) {
        // The script edited as well, which it does not show.
        let threads = host.get("/api/threads").await.body;
        let thread = threads["threads"][0]["id"].as_str().unwrap();
        let (path, post) = (
            format!("/api/threads/{thread}/messages"),
            json!({ "content": "last" }),
        );
        let posted = host.json("POST", &path, post).await.body;
        let path = format!("/api/messages/{}", posted["id"].as_str().unwrap());
        let edit = json!({ "content": "hi edited", "edited_by": "human" });
        assert_eq!(host.json("PUT", &path, edit).await.status, 200);
        let mut events = Events::open(host, "?replay=1", None).await;
        let mut ours = BTreeMap::new();
        while !ours.contains_key("msg.edit") {
            first_of_its_kind(&mut ours, events.next().await.1);
        }
        for (kind, payload) in captured_events() {
            let own = ours.get(&kind).unwrap_or(&Value::Null);
            differences(
                &format!("sse_events: {kind}"),
                &payload,
                own,
                &mut self.problems,
            );
        }
    }
}

fn captured_events() -> BTreeMap<String, Value> {
    let text = std::fs::read(directory().join("py018-rest-sse_events.json")).unwrap();
    let captured: Value = serde_json::from_slice(&text).unwrap();
    let mut events = BTreeMap::new();
    for line in captured[0]["lines"].as_array().unwrap() {
        if let Some(event) = line.as_str().unwrap().strip_prefix("data: ") {
            first_of_its_kind(&mut events, serde_json::from_str(event).unwrap());
        }
    }
    events
}

fn first_of_its_kind(events: &mut BTreeMap<String, Value>, mut event: Value) {
    let kind = event["type"].as_str().unwrap().to_owned();
    events.entry(kind).or_insert(event["payload"].take());
}

/// What differs and should not, and what should and does not.
fn compare(
    otherwise: Option<Otherwise>,
    status: u16,
    theirs: &Value,
    answer: &Answer,
) -> Vec<String> {
    let expected = match otherwise {
        Some(Status(decided)) => decided,
        _ => status,
    };
    if answer.status != expected {
        let (ours, text) = (answer.status, &answer.text);
        return vec![format!(": {ours} instead of {expected}: {text}")];
    }
    let mut found = Vec::new();
    match otherwise {
        Some(Status(_)) if status == expected => found.push(": it has the same status".to_owned()),
        Some(Status(_)) => {}
        _ => differences("", theirs, &answer.body, &mut found),
    }
    if let Some(At(places)) = otherwise {
        for place in places {
            let before = found.len();
            found.retain(|one| !one.starts_with(*place));
            if found.len() == before {
                found.push(format!(": it is alike at {place}"));
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_captured_rate_limit_is_ours() {
    if !is_there() {
        return;
    }
    let host = Host::start(ChatConfig::default()).await;
    let thread = host.thread("t").await;
    let post = format!("/api/threads/{thread}/messages");
    for pair in pairs("rate_limit") {
        let body = pair.request.json.clone().unwrap();
        let expected = &pair.response;
        let accepted = if expected.status == 429 { 30 } else { 0 };
        for _ in 0..accepted {
            assert_eq!(host.json("POST", &post, body.clone()).await.status, 201);
        }
        let answer = host.json("POST", &post, body).await;
        let found = compare(None, expected.status, &expected.body, &answer);
        assert_eq!(found, [""; 0], "{}", pair.note);
        if answer.status == 429 {
            assert_eq!(answer.headers["retry-after"], "60");
        }
    }
    host.server.shutdown().await;
}
