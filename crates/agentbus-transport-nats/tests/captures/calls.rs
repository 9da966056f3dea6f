//! Recorded calls that nobody answered, that were left, that made others, or that failed.

use std::sync::Arc;
use std::time::Duration;

use agentbus::middleware::{Backoff, DeadLetter, Retry};
use agentbus::{Bus, Envelope, Error, ErrorCode, ErrorPayload, Request};
use agentbus_protocol::Timestamp;
use agentbus_transport::dead_letter::{ATTEMPTS, LAST_ERROR, ORIGINAL_EVENT_TYPE};
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::Value;
use tokio::sync::Barrier;

use super::support::Server;
use super::table::{Part, played_as};
use super::{
    Limits, PATIENT, act, answer, answers, bus, call, comparable, echo, envelope, exchanges, load,
    parts, replay, within,
};

/// The recorded callers waited until their time was over; ours need not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_silence_is_an_error_at_once() {
    let server = Server::start();
    for name in played_as(Part::Silence) {
        let Some(capture) = load(name) else { return };
        let mut unanswered = exchanges(&capture);
        unanswered.retain(|exchange| exchange.replies.is_empty());
        assert_eq!(unanswered.len(), 1, "{name}");
        for exchange in unanswered {
            let (caller, target) = bus(&server, &exchange.subject).await;
            let called = caller.invoke(target, &exchange.request["payload"]).send();
            let outcome = within("an outcome", called).await;
            let known = matches!(outcome, Err(Error::NoHandler { .. }));
            assert!(known, "{name}: {outcome:?}");
        }
    }
}

/// The recorded agent served one call at a time; ours answers none before it has all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_callers_are_served_side_by_side() {
    let server = Server::start();
    let client = async_nats::connect(server.url()).await.unwrap();
    for name in played_as(Part::Crowd) {
        let Some(capture) = load(name) else { return };
        let all = exchanges(&capture);
        assert!(all.len() > 1, "{name}");
        let (agent, target) = bus(&server, &all[0].subject).await;
        let (recorded, together) = (answers(&all), Arc::new(Barrier::new(all.len())));
        agent
            .handle(target, move |request: Request| {
                let (recorded, together) = (Arc::clone(&recorded), Arc::clone(&together));
                async move {
                    together.wait().await;
                    act(&recorded, &request)
                }
            })
            .await
            .unwrap();
        let replays = all.iter().map(|exchange| replay(&client, exchange));
        futures_util::future::join_all(replays).await;
    }
}

/// The recorded agent never learned that its caller had left; ours is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorded_stream_that_is_left_is_cancelled() {
    let server = Server::start();
    let client = async_nats::connect(server.url()).await.unwrap();
    for name in played_as(Part::Leaving) {
        let Some(capture) = load(name) else { return };
        let exchange = exchanges(&capture).remove(0);
        let mut begun = exchange.clone();
        let rest = begun.replies.split_off(2);
        let (caller, target) = bus(&server, &exchange.subject).await;
        let mut requests = client.subscribe(exchange.subject.clone()).await.unwrap();
        let cancelling = exchange.subject.replace(".invoke.", ".cancel.");
        let mut cancels = client.subscribe(cancelling).await.unwrap();
        echo(&client).await;
        let reading = async {
            let mut frames = caller
                .stream(target, &exchange.request["payload"])
                .await
                .unwrap();
            for n in 0..2 {
                assert_eq!(frames.next().await.unwrap().unwrap().seq, n);
            }
            frames.request_id().clone()
        };
        let (id, ()) = within("the exchange", async {
            tokio::join!(reading, answer(&client, &mut requests, &begun))
        })
        .await;
        let cancel = within("a cancellation", cancels.next()).await.unwrap();
        let cancel = decoded(&cancel.payload);
        assert_eq!(cancel.correlation_id, id);
        // What the agent still says is met by nobody, and harms nobody.
        for frame in rest {
            let inbox = cancel.reply_to.to_string();
            client.publish(inbox, frame.into()).await.unwrap();
        }
        let (seen, failure) = call(&server, &exchange, Limits::default(), PATIENT).await;
        assert_eq!((seen.len(), failure), (exchange.replies.len(), None));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_nested_calls_carry_the_recorded_context() {
    let server = Server::start();
    let client = async_nats::connect(server.url()).await.unwrap();
    for name in played_as(Part::Nested) {
        let Some(capture) = load(name) else { return };
        let all = exchanges(&capture);
        let (outer, inner) = (&all[0], &all[1]);
        let (agent, target) = bus(&server, &outer.subject).await;
        let (_, _, nested) = parts(&inner.subject);
        let payload = inner.request["payload"].clone();
        agent
            .handle(target, move |request: Request| {
                let (nested, payload) = (nested.clone(), payload.clone());
                async move {
                    let reply = request.bus().invoke(nested, &payload).await?;
                    Ok(reply.payload)
                }
            })
            .await
            .unwrap();
        let mut requests = client.subscribe(inner.subject.clone()).await.unwrap();
        echo(&client).await;
        let backend = async {
            let request = requests.next().await.unwrap();
            let seen = String::from_utf8(request.payload.to_vec()).unwrap();
            let inbox = envelope(&seen).reply_to.to_string();
            let reply = inner.replies[0].clone();
            client.publish(inbox, reply.into()).await.unwrap();
            seen
        };
        let ((), seen) = within("the exchange", async {
            tokio::join!(replay(&client, outer), backend)
        })
        .await;
        let recorded = inner.request.to_string();
        assert_eq!(inherited(&seen), inherited(&recorded), "{name}");
        agent.close(Duration::ZERO).await;
    }
}

/// What a nested request says, but for where it is answered and which span of the trace it is.
fn inherited(text: &str) -> Vec<(String, Value)> {
    let mut fields = comparable(text);
    fields.remove("reply_to");
    if let Some(Value::String(traceparent)) = fields.get_mut("traceparent") {
        let trace = traceparent.split('-').nth(1).unwrap_or_default();
        *traceparent = trace.to_owned();
    }
    fields.into_iter().collect()
}

/// Fails as the recorded handler did.
async fn fail(request: Request) -> Result<(), Error> {
    let message = format!("fail attempt {}", request.attempt());
    let mut told = ErrorPayload::new(ErrorCode::AgentUnavailable, message);
    told.retryable = false;
    Err(Error::Remote(told))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_failures_leave_the_recorded_letters() {
    let server = Server::start();
    let client = async_nats::connect(server.url()).await.unwrap();
    for name in played_as(Part::Letters) {
        let Some(capture) = load(name) else { return };
        let pause = Backoff::Constant(Duration::from_millis(10));
        let agent = Bus::builder("flaky")
            .transport(server.url())
            .layer(DeadLetter)
            .layer(Retry::attempts(3).backoff(pause).when(|_| true))
            .connect()
            .await
            .unwrap();
        agent.handle("flaky", fail).await.unwrap();
        agent.on("bad.event", fail).await.unwrap();
        let mut letters = client.subscribe("acp.v1.dlq.>").await.unwrap();
        echo(&client).await;
        for exchange in exchanges(&capture) {
            replay(&client, &exchange).await;
        }
        let text = |message: &Value, key: &str| message[key].as_str().unwrap().to_owned();
        for message in capture["tap_messages"].as_array().unwrap() {
            let subject = text(message, "subject");
            if subject.contains(".events.") {
                let event = text(message, "payload_text").into();
                client.publish(subject, event).await.unwrap();
            } else if subject.contains(".dlq.") {
                let letter = within("a dead letter", letters.next()).await.unwrap();
                assert_eq!(letter.subject.as_str(), subject);
                let recorded = envelope(&text(message, "payload_text"));
                check_letter(&decoded(&letter.payload), &recorded);
            }
        }
    }
}

fn decoded(bytes: &Bytes) -> Envelope {
    Envelope::decode(bytes, Timestamp::UNIX_EPOCH).unwrap()
}

/// A letter is the envelope as it was, and says what became of it.
fn check_letter(ours: &Envelope, recorded: &Envelope) {
    let said = |letter: &Envelope| Envelope {
        metadata: agentbus::Metadata::default(),
        ..letter.clone()
    };
    assert_eq!(said(ours), said(recorded));
    for key in ["biz", ORIGINAL_EVENT_TYPE] {
        let value = |letter: &Envelope| letter.metadata.get::<String>(key);
        assert_eq!(value(ours), value(recorded), "{key}");
    }
    let attempts = recorded.metadata.get::<u32>("acp.retry.attempt");
    assert_eq!(ours.metadata.get::<u32>(ATTEMPTS), attempts);
    let last: String = ours.metadata.get(LAST_ERROR).unwrap();
    let recorded: String = recorded.metadata.get(LAST_ERROR).unwrap();
    assert!(last.ends_with(&recorded), "{last}");
}
