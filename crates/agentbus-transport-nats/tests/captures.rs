//! Exchanges that other implementations had over NATS, played again with AgentBus on one side.
//!
//! The recordings lie outside of this repository; without them nothing is played, and it is said.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test that cannot go on, or is skipped, should say so"
)]

mod support;

#[path = "captures/calls.rs"]
mod calls;
#[path = "captures/table.rs"]
mod table;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agentbus::protocol::reassembly::Limits;
use agentbus::{
    Bus, Context, Envelope, Error, ErrorCode, ErrorPayload, EventId, Payload, Reply, Request, Text,
};
use agentbus_protocol::Timestamp;
use futures_util::StreamExt;
use serde_json::Value;

use support::Server;
use table::{Part, only, played_as};

/// Longest time for any step.
const GUARD: Duration = Duration::from_secs(60);

/// Silence after which a stream ends that was recorded to end so.
const SHORT_IDLE: Duration = Duration::from_secs(1);

/// Time after which a stream ends that was recorded to end so.
const OVERALL: Duration = Duration::from_secs(3);

/// How long a caller waits, for the next frame and in all.
#[derive(Debug, Clone, Copy)]
struct Patience {
    idle: Duration,
    overall: Duration,
}

const PATIENT: Patience = Patience {
    idle: GUARD,
    overall: GUARD,
};

async fn within<T>(what: &str, step: impl Future<Output = T>) -> T {
    match tokio::time::timeout(GUARD, step).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen within {GUARD:?}"),
    }
}

fn load(name: &str) -> Option<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/openagentio");
    let path: PathBuf = folder.join(format!("{name}.json"));
    if !path.exists() {
        println!("skipped: no recording at {}", path.display());
        return None;
    }
    Some(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
}

/// One call of a recording: the request, and all that was sent to its inbox.
#[derive(Debug, Clone)]
struct Exchange {
    subject: String,
    request: Value,
    replies: Vec<String>,
}

fn exchanges(capture: &Value) -> Vec<Exchange> {
    let text = |message: &Value, key: &str| message[key].as_str().unwrap().to_owned();
    let messages = capture["tap_messages"].as_array().unwrap();
    let requests = messages
        .iter()
        .filter(|message| text(message, "subject").contains(".invoke."));
    requests
        .map(|message| {
            let request: Value = serde_json::from_str(&text(message, "payload_text")).unwrap();
            let inbox = request["reply_to"].as_str().unwrap_or_default();
            let replies = messages.iter().filter(|reply| reply["subject"] == inbox);
            Exchange {
                subject: text(message, "subject"),
                replies: replies.map(|reply| text(reply, "payload_text")).collect(),
                request,
            }
        })
        .collect()
}

/// Splits `{prefix}[.{tenant}].invoke.{target}`.
fn parts(subject: &str) -> (String, String, String) {
    let (space, target) = subject.split_once(".invoke.").unwrap();
    let tokens: Vec<_> = space.split('.').collect();
    let tenant = tokens.get(2).copied().unwrap_or_default();
    (tokens[..2].join("."), tenant.to_owned(), target.to_owned())
}

async fn bus(server: &Server, subject: &str) -> (Bus, String) {
    let (prefix, tenant, target) = parts(subject);
    let builder = Bus::builder("agentbus").transport(server.url());
    let builder = builder.subject_prefix(prefix).tenant(tenant);
    (builder.connect().await.unwrap(), target)
}

/// Plays the recorded agent: answers the next request with the recorded bytes.
async fn answer(
    client: &async_nats::Client,
    requests: &mut async_nats::Subscriber,
    exchange: &Exchange,
) {
    let request = requests.next().await.unwrap();
    let request = Envelope::decode(&request.payload, Timestamp::UNIX_EPOCH).unwrap();
    for reply in &exchange.replies {
        let subject = request.reply_to.to_string();
        client.publish(subject, reply.clone().into()).await.unwrap();
    }
}

/// Waits until the server has seen the subscriptions of a client.
async fn echo(client: &async_nats::Client) {
    let inbox = client.new_inbox();
    let mut echo = client.subscribe(inbox.clone()).await.unwrap();
    client.publish(inbox, "".into()).await.unwrap();
    within("an echo", echo.next()).await.unwrap();
}

/// What a caller on our side makes of the recorded answers.
async fn call(
    server: &Server,
    exchange: &Exchange,
    limits: Limits,
    patience: Patience,
) -> (Vec<Value>, Option<Error>) {
    let (bus, target) = bus(server, &exchange.subject).await;
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut requests = client.subscribe(exchange.subject.clone()).await.unwrap();
    echo(&client).await;
    let (mut seen, mut failure) = (Vec::new(), None);
    let reading = async {
        let call = bus.stream(target, &exchange.request["payload"]);
        let mut frames = call
            .idle_timeout(patience.idle)
            .timeout(patience.overall)
            .reorder_limits(limits)
            .await
            .unwrap();
        while let Some(frame) = frames.next().await {
            match frame {
                Ok(frame) => seen.push(serde_json::from_slice(&frame.encode()).unwrap()),
                Err(error) => failure = Some(error),
            }
        }
    };
    within("the exchange", async {
        tokio::join!(reading, answer(&client, &mut requests, exchange))
    })
    .await;
    (seen, failure)
}

/// How the recorded caller was set up: with a small buffer in one case.
fn limits_of(name: &str) -> Limits {
    match name {
        "nats-14c-stream-pending-full" => Limits {
            pending_frames_max: 3,
            sequence_gap_max: 0,
        },
        _ => Limits::default(),
    }
}

/// How the recorded stream failed for its caller, and how long that caller waited.
fn recorded_end(ended: &str) -> (Option<ErrorCode>, Patience) {
    match ended.split(':').next() {
        Some("BackpressureDropError") => (Some(ErrorCode::BackpressureDrop), PATIENT),
        Some("ErrIdleTimeout") => {
            let idle = SHORT_IDLE;
            (Some(ErrorCode::AgentTimeout), Patience { idle, ..PATIENT })
        }
        Some("TimeoutError") => {
            let overall = OVERALL;
            let patience = Patience { overall, ..PATIENT };
            (Some(ErrorCode::AgentTimeout), patience)
        }
        _ => (None, PATIENT),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_agents_are_understood() {
    let server = Server::start();
    for name in played_as(Part::Agent) {
        let Some(capture) = load(name) else { return };
        for exchange in exchanges(&capture) {
            let ended = capture["ended"].as_str().unwrap_or("StopAsyncIteration");
            let (expected, patience) = recorded_end(ended);
            let (seen, failure) = call(&server, &exchange, limits_of(name), patience).await;
            let code = failure.as_ref().map(Error::code);
            // A frame that cannot be read ends the stream too, though not under the same code.
            let unreadable = name.contains("negative") && code == Some(ErrorCode::AgentUnavailable);
            assert!(
                code == expected || unreadable,
                "{name}: {failure:?} for {ended}"
            );
            let yielded = capture["caller_yielded"].as_array().map(Vec::len);
            let count = yielded.unwrap_or(exchange.replies.len());
            assert_eq!(seen.len(), count, "{name}: {seen:?}");
            let mut recorded: Vec<Value> = exchange
                .replies
                .iter()
                .map(|reply| serde_json::from_str(reply).unwrap())
                .collect();
            recorded.sort_by_key(|frame| frame["seq"].as_i64().unwrap_or_default());
            for (seen, recorded) in seen.iter().zip(&recorded) {
                for key in [
                    "event_id",
                    "event_type",
                    "payload",
                    "correlation_id",
                    "from",
                ] {
                    assert_eq!(seen.get(key), recorded.get(key), "{name}: {key}");
                }
            }
        }
    }
}

/// The recorded reply to each request; one that was sent on keeps its id, so the target counts too.
type Answers = Arc<HashMap<(String, String), Envelope>>;

/// The recorded answers of those exchanges that had one.
fn answers(all: &[Exchange]) -> Answers {
    let text = |exchange: &Exchange, key: &str| exchange.request[key].as_str().unwrap().to_owned();
    let answered = all.iter().filter_map(|exchange| {
        let reply = envelope(exchange.replies.first()?);
        Some(((text(exchange, "event_id"), text(exchange, "to")), reply))
    });
    Arc::new(answered.collect())
}

/// Answers as the recorded agent did, through the bus.
fn act(recorded: &Answers, request: &Request) -> Result<Reply, Error> {
    let request = request.envelope();
    let id = request.event_id.with_str(str::to_owned);
    let reply = &recorded[&(id, request.to.to_string())];
    // Agents of this name returned envelopes of their own making.
    if request.to == "adopt" {
        return Ok(Reply::Envelope(Box::new(as_returned(reply))));
    }
    match ErrorPayload::of(reply) {
        Some(error) => Err(Error::Remote(error)),
        None => Ok(reply.payload.clone().into()),
    }
}

/// What the recorded handler returned, without what the bus filled in.
fn as_returned(reply: &Envelope) -> Envelope {
    Envelope {
        context: Context::default(),
        correlation_id: EventId::ABSENT,
        from: Text::default(),
        to: Text::default(),
        frame_type: Text::default(),
        is_final: false,
        ..reply.clone()
    }
}

fn envelope(text: &str) -> Envelope {
    Envelope::decode(&text.to_owned().into(), Timestamp::UNIX_EPOCH).unwrap()
}

/// What must be equal: everything but the identity of the reply and of its sender.
fn comparable(text: &str) -> BTreeMap<String, Value> {
    let mut fields: BTreeMap<String, Value> = serde_json::from_str(text).unwrap();
    for own in ["event_id", "occurred_at", "from"] {
        fields.remove(own);
    }
    if let Some(Value::Object(payload)) = fields.get_mut("payload")
        && payload.contains_key("code")
    {
        // Python writes an empty cause, and older ones no `retryable`.
        payload.remove("cause");
        // An error without words gets some on its way through.
        if payload["message"] == "" {
            payload.insert("message".to_owned(), "agent error".into());
        }
    }
    fields
}

/// Sends a recorded request as it was, and compares what our handler answers.
async fn replay(client: &async_nats::Client, exchange: &Exchange) {
    let inbox = exchange.request["reply_to"].as_str().unwrap().to_owned();
    let mut replies = client.subscribe(inbox).await.unwrap();
    let bytes = exchange.request.to_string();
    client
        .publish(exchange.subject.clone(), bytes.into())
        .await
        .unwrap();
    for recorded in &exchange.replies {
        let reply = within("a reply", replies.next()).await.unwrap();
        let reply = String::from_utf8(reply.payload.to_vec()).unwrap();
        assert_eq!(
            comparable(&reply),
            comparable(recorded),
            "{}",
            exchange.request
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_callers_get_the_recorded_answers() {
    let server = Server::start();
    let client = async_nats::connect(server.url()).await.unwrap();
    for name in played_as(Part::Callers) {
        let Some(capture) = load(name) else { return };
        let mut all = exchanges(&capture);
        all.retain(|exchange| !exchange.replies.is_empty());
        let recorded = answers(&all);
        let mut agents = BTreeMap::new();
        for exchange in &all {
            if !agents.contains_key(&exchange.subject) {
                let (agent, target) = bus(&server, &exchange.subject).await;
                let recorded = Arc::clone(&recorded);
                let serving = agent.handle(target, move |request: Request| {
                    std::future::ready(act(&recorded, &request))
                });
                serving.await.unwrap();
                agents.insert(exchange.subject.clone(), agent);
            }
            replay(&client, exchange).await;
        }
        for agent in agents.values() {
            agent.close(GUARD).await;
        }
        println!("{name}: {} exchanges", all.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_garbage_is_met_as_recorded() {
    let name = only(Part::Garbage);
    let Some(capture) = load(name) else { return };
    let server = Server::start();
    let client = async_nats::connect(server.url()).await.unwrap();
    let (agent, _) = bus(&server, "acp.v1.invoke.t").await;
    agent
        .handle("t", |_: Request| async move {
            Ok(Some(Payload::json(&serde_json::json!({"ok": 1}))?))
        })
        .await
        .unwrap();
    // Replies go to inboxes and events only, so the recorded subjects become inboxes.
    let mut answers = client.subscribe("_INBOX.R.*").await.unwrap();
    let (mut expected, mut answered) = (Vec::new(), Vec::new());
    for message in capture["tap_messages"].as_array().unwrap() {
        let (subject, text) = (
            message["subject"].as_str().unwrap(),
            message["payload_text"].as_str().unwrap(),
        );
        if subject.starts_with("R.") {
            expected.push(format!("_INBOX.{subject}"));
            continue;
        }
        let text = text.replace(r#""R."#, r#""_INBOX.R."#);
        match message["reply"].as_str().filter(|reply| !reply.is_empty()) {
            Some(reply) => {
                let reply = format!("_INBOX.{reply}");
                client
                    .publish_with_reply(subject.to_owned(), reply, text.into())
                    .await
                    .unwrap();
            }
            None => client
                .publish(subject.to_owned(), text.into())
                .await
                .unwrap(),
        }
    }
    // The last of all: once it is answered, everything before it is.
    let last =
        r#"{"event_id":"x","event_type":"agent.message.received","reply_to":"_INBOX.R.last"}"#;
    client
        .publish("acp.v1.invoke.t", last.into())
        .await
        .unwrap();
    while answered.last().is_none_or(|last| last != "_INBOX.R.last") {
        let answer = within("an answer", answers.next()).await.unwrap();
        answered.push(answer.subject.to_string());
    }
    answered.pop();
    answered.sort();
    expected.sort();
    assert_eq!(answered, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_events_reach_the_recorded_patterns() {
    let name = only(Part::Patterns);
    let Some(capture) = load(name) else { return };
    let server = Server::start();
    let client = async_nats::connect(server.url()).await.unwrap();
    let bus = Bus::builder("agentbus")
        .transport(server.url())
        .connect()
        .await
        .unwrap();
    let mut subscriptions = BTreeMap::new();
    let mut expected = BTreeMap::<String, Vec<String>>::new();
    for delivery in capture["deliveries"].as_array().unwrap() {
        let (pattern, event) = (delivery[0].as_str().unwrap(), delivery[1].as_str().unwrap());
        if !subscriptions.contains_key(pattern) {
            subscriptions.insert(pattern.to_owned(), bus.subscribe(pattern).await.unwrap());
        }
        expected
            .entry(pattern.to_owned())
            .or_default()
            .push(event.to_owned());
    }
    for message in capture["tap_messages"].as_array().unwrap() {
        let (subject, text) = (
            message["subject"].as_str().unwrap(),
            message["payload_text"].as_str().unwrap(),
        );
        client
            .publish(subject.to_owned(), text.to_owned().into())
            .await
            .unwrap();
    }
    for (pattern, events) in expected {
        let subscription = subscriptions.get_mut(&pattern).unwrap();
        for event in events {
            let delivery = within("an event", subscription.next()).await.unwrap();
            assert_eq!(delivery.envelope().event_type.as_str(), event, "{pattern}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_on_the_wire_has_the_recorded_form() {
    let name = only(Part::Wire);
    let Some(capture) = load(name) else { return };
    let server = Server::start();
    let client = async_nats::connect(server.url()).await.unwrap();
    let bus = Bus::builder("svc")
        .transport(server.url())
        .connect()
        .await
        .unwrap();
    let mut tap = client.subscribe("acp.>").await.unwrap();
    echo(&client).await;
    for recorded in capture["tap_messages"].as_array().unwrap() {
        let text = recorded["payload_text"].as_str().unwrap();
        let sent = envelope(text);
        let reply_to = sent.reply_to.clone();
        let event = bus.publish_payload(sent.event_type.as_str(), sent.payload.clone());
        event.reply_to(reply_to).await.unwrap();
        let message = within("the event", tap.next()).await.unwrap();
        assert_eq!(message.subject.as_str(), recorded["subject"]);
        assert_eq!(
            message.reply.as_deref().unwrap_or_default(),
            recorded["reply"]
        );
        assert!(
            message.headers.is_none(),
            "an ordinary event has no headers"
        );
        let ours: Value = serde_json::from_slice(&message.payload).unwrap();
        let theirs: Value = serde_json::from_str(text).unwrap();
        for key in [
            "spec_version",
            "schema_version",
            "event_type",
            "payload",
            "reply_to",
        ] {
            assert_eq!(ours.get(key), theirs.get(key), "{key}");
        }
    }
}
