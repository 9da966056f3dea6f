//! The real OpenAgentIO package and AgentBus on one NATS server, in both directions.
//!
//! The package on the index is older than its repository: it writes no `frame_type`, and some of
//! its errors carry no `retryable`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use std::time::Duration;

use agentbus::{Bus, Error, ErrorCode, ErrorPayload, Metadata, Request};
use serde_json::{Value, json};

use support::Server;
use support::openagentio::Peer;

/// Longest time for what the other side does.
const GUARD: Duration = Duration::from_secs(120);

struct Pair {
    bus: Bus,
    peer: Peer,
    _server: Server,
}

async fn pair(tenant: &str) -> Pair {
    let server = Server::start();
    let bus = Bus::builder("rust")
        .transport(server.url())
        .tenant(tenant.to_owned())
        .connect()
        .await
        .unwrap();
    let peer = Peer::start(&server.url(), "python", tenant).await;
    Pair {
        bus,
        peer,
        _server: server,
    }
}

impl Pair {
    /// Has the peer serve a target, and waits until the server knows: the peer's own flush is
    /// known to overtake its subscription.
    async fn peer_serves(&mut self, operation: Value) {
        let target = operation["target"].as_str().unwrap().to_owned();
        self.peer.run(operation).await;
        tokio::time::timeout(GUARD, async {
            while let Err(Error::NoHandler { .. }) =
                self.bus.invoke(target.clone(), &json!(0)).await
            {}
        })
        .await
        .expect("the peer does not serve");
    }

    /// Has the peer subscribe, and waits until the server knows.
    async fn peer_subscribes(&mut self, operation: Value, probe: &str) {
        self.peer.run(operation).await;
        tokio::time::timeout(GUARD, async {
            while self
                .bus
                .publish(probe, &json!("probe"))
                .confirm()
                .await
                .is_err()
            {}
        })
        .await
        .expect("the peer does not listen");
        assert_eq!(self.peer.event().await["event"]["payload"], "probe");
    }
}

async fn context(request: Request) -> Result<Option<agentbus::Payload>, Error> {
    let envelope = request.envelope();
    Ok(Some(agentbus::Payload::json(&json!({
        "from": envelope.from.as_str(),
        "to": envelope.to.as_str(),
        "session": envelope.context.session_id.as_str(),
        "tenant": envelope.context.tenant_id.as_str(),
    }))?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rust_calls_python() {
    let mut pair = pair("").await;
    pair.peer_serves(json!({"op": "handle", "target": "py.echo", "does": "echo"}))
        .await;
    for payload in [
        json!({"n": 1}),
        json!([]),
        json!(false),
        json!("grün"),
        json!(12345678901234567u64),
    ] {
        let reply = pair.bus.invoke("py.echo", &payload).await.unwrap();
        let echoed = reply.payload.as_ref().unwrap().decode::<Value>();
        assert_eq!(echoed.unwrap(), payload);
        assert_eq!((reply.from.as_str(), reply.to.as_str()), ("python", "rust"));
        assert!(reply.is_final);
        // The older dialect does not write it, so it is known from the event type.
        assert_eq!(reply.effective_frame_type(), "response.final");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_of_python_reach_rust() {
    let mut pair = pair("").await;
    pair.peer_serves(json!({"op": "handle", "target": "refuse", "does": "refuse"}))
        .await;
    pair.peer_serves(json!({"op": "handle", "target": "crash", "does": "crash"}))
        .await;
    for (target, code, text) in [
        ("refuse", ErrorCode::InvalidRequest, "no such order"),
        ("crash", ErrorCode::AgentUnavailable, "boom"),
    ] {
        let Error::Remote(error) = pair.bus.invoke(target, &json!({})).await.unwrap_err() else {
            panic!("{target} did not answer with an error");
        };
        assert_eq!((error.code, error.retryable), (code, false));
        assert!(error.message.contains(text), "{}", error.message);
    }
    let nobody = pair.bus.invoke("nobody", &json!({})).await.unwrap_err();
    assert!(matches!(nobody, Error::NoHandler { .. }), "{nobody}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_python_reach_rust() {
    let mut pair = pair("").await;
    pair.peer_serves(json!({"op": "handle_stream", "target": "talk", "does": "talk"}))
        .await;
    pair.peer_serves(json!({"op": "handle_stream", "target": "stumble", "does": "stumble"}))
        .await;
    for (target, count, last) in [
        ("talk", 4, "agent.response.final"),
        ("stumble", 2, "agent.response.error"),
    ] {
        let mut stream = pair
            .bus
            .stream(target, &json!({"text": "hi"}))
            .await
            .unwrap();
        let mut frames = Vec::new();
        while let Some(frame) = stream.next().await {
            frames.push(frame.unwrap());
        }
        let numbers: Vec<_> = frames.iter().map(|frame| frame.seq).collect();
        assert_eq!(numbers, (0..count).collect::<Vec<_>>());
        let end = frames.last().unwrap();
        assert!(end.is_final);
        assert_eq!(end.event_type.as_str(), last);
        let error = ErrorPayload::of(end).map(|error| error.code);
        assert_eq!(
            error,
            (target == "stumble").then_some(ErrorCode::InvalidRequest)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_calls_rust() {
    let mut pair = pair("").await;
    pair.bus
        .handle("rs.echo", |request: Request| async move {
            Ok(request.payload().cloned())
        })
        .await
        .unwrap();
    pair.bus
        .handle("rs.refuse", |_: Request| async move {
            Err::<(), _>(Error::invalid_request("no such order"))
        })
        .await
        .unwrap();
    let asked = json!({"op": "invoke", "target": "rs.echo", "payload": {"msg": "hi"},
        "session_id": "s-1", "trace_id": "t-1", "user_id": "u-1",
        "metadata": {"channel.id": "c", "acp.retry.attempt": 2}});
    let reply = pair.peer.run(asked).await["ok"].take();
    assert_eq!(reply["event_type"], "agent.response.final");
    assert_eq!(reply["payload"], json!({"msg": "hi"}));
    assert_eq!(
        (&reply["from"], &reply["to"]),
        (&json!("rust"), &json!("python"))
    );
    assert_eq!(
        (&reply["session_id"], &reply["user_id"]),
        (&json!("s-1"), &json!("u-1"))
    );
    // What begins with `acp.` is not inherited by a reply.
    assert_eq!(reply["metadata"], json!({"channel.id": "c"}));
    let refused = pair
        .peer
        .run(json!({"op": "invoke", "target": "rs.refuse", "payload": {}}))
        .await;
    assert_eq!(refused["ok"]["event_type"], "agent.response.error");
    assert_eq!(refused["ok"]["payload"]["code"], "INVALID_REQUEST");
    assert_eq!(refused["ok"]["payload"]["retryable"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_reads_streams_of_rust() {
    let mut pair = pair("").await;
    pair.bus
        .handle_stream("count", |_, out| async move {
            out.started(&json!({"meta": {}})).await?;
            for n in 1..=20 {
                out.delta(&json!({"n": n})).await?;
            }
            out.finish(&json!({"result": {"total": 20}})).await
        })
        .await
        .unwrap();
    let read = pair
        .peer
        .run(json!({"op": "stream", "target": "count", "payload": {}}))
        .await;
    let frames = read["ok"].as_array().unwrap();
    assert_eq!(frames.len(), 22);
    // The number of the first frame is left out because it is zero.
    assert_eq!(frames[0].get("seq"), None);
    assert_eq!(frames[21]["seq"], 21);
    assert_eq!(frames[21]["is_final"], true);
    assert_eq!(frames[21]["payload"], json!({"result": {"total": 20}}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_in_python_hears_that_its_handler_has_gone() {
    let mut pair = pair("").await;
    let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
    pair.bus
        .handle("hang", move |_: Request| {
            begun.send(()).unwrap();
            std::future::pending::<Result<(), Error>>()
        })
        .await
        .unwrap();
    let call = pair
        .peer
        .begin(json!({"op": "invoke", "target": "hang", "payload": {}, "timeout": 60}));
    begins.recv().await.unwrap();
    pair.bus.close(Duration::ZERO).await;
    let reply = pair.peer.result(call).await;
    assert_eq!(
        reply["ok"]["payload"]["code"], "AGENT_UNAVAILABLE",
        "{reply}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_go_both_ways() {
    let mut pair = pair("").await;
    pair.peer_subscribes(
        json!({"op": "subscribe", "name": "all", "type": "order.*"}),
        "order.probe",
    )
    .await;
    pair.bus
        .publish("order.paid", &json!({"n": 1}))
        .await
        .unwrap();
    let event = pair.peer.event().await;
    assert_eq!(event["event"]["event_type"], "order.paid");
    assert_eq!(event["event"]["payload"], json!({"n": 1}));

    let mut orders = pair.bus.subscribe("order.>").await.unwrap();
    pair.peer
        .run(json!({"op": "publish", "type": "order.sent", "payload": {"n": 2}}))
        .await;
    let delivery = tokio::time::timeout(GUARD, orders.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(delivery.envelope().event_type.as_str(), "order.sent");
    assert_eq!(
        delivery.envelope().payload.as_ref().unwrap().as_str(),
        r#"{"n":2}"#
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_group_may_have_members_of_both_kinds() {
    let mut pair = pair("").await;
    pair.peer_subscribes(
        json!({"op": "subscribe", "name": "member", "type": "job", "queue": "workers"}),
        "job",
    )
    .await;
    let mut member = pair.bus.subscribe("job").queue("workers").await.unwrap();
    const JOBS: usize = 60;
    for n in 0..JOBS {
        pair.bus.publish("job", &n).await.unwrap();
    }
    let mut seen = vec![0; JOBS];
    let (mut ours, mut theirs) = (0, 0);
    while ours + theirs < JOBS {
        let n = tokio::select! {
            delivery = member.next() => {
                ours += 1;
                delivery.unwrap().envelope().payload.as_ref().unwrap().decode::<usize>().unwrap()
            }
            event = pair.peer.event() => {
                theirs += 1;
                usize::try_from(event["event"]["payload"].as_u64().unwrap()).unwrap()
            }
        };
        seen[n] += 1;
    }
    assert!(seen.iter().all(|count| *count == 1), "{seen:?}");
    assert!(ours > 0 && theirs > 0, "{ours} and {theirs}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_are_kept_apart() {
    let mut pair = pair("acme").await;
    let other = Bus::builder("other")
        .transport(pair._server.url())
        .connect()
        .await
        .unwrap();
    pair.peer_serves(json!({"op": "handle", "target": "echo", "does": "echo"}))
        .await;
    let stranger = other.invoke("echo", &json!({})).await.unwrap_err();
    assert!(matches!(stranger, Error::NoHandler { .. }), "{stranger}");

    pair.bus.handle("who", context).await.unwrap();
    let reply = pair
        .peer
        .run(json!({"op": "invoke", "target": "who", "payload": {}}))
        .await;
    let said = &reply["ok"]["payload"];
    assert_eq!(
        (&said["from"], &said["to"]),
        (&json!("python"), &json!("who"))
    );
    assert_eq!(said["tenant"], "acme");
    assert_eq!(reply["ok"]["tenant_id"], "acme");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn session_and_metadata_pass_through_both() {
    let mut pair = pair("").await;
    pair.bus.handle("who", context).await.unwrap();
    pair.peer_serves(json!({"op": "handle", "target": "relay", "does": "nested", "to": "who"}))
        .await;
    pair.peer_serves(json!({"op": "handle", "target": "echo", "does": "echo"}))
        .await;
    pair.peer_serves(json!({"op": "handle", "target": "adopt", "does": "adopted"}))
        .await;
    let reply = pair
        .bus
        .invoke("relay", &json!({}))
        .session("s-9")
        .await
        .unwrap();
    let nested: Value = reply.payload.unwrap().decode().unwrap();
    assert_eq!(nested["payload"]["session"], "s-9", "{nested}");
    assert_eq!(nested["payload"]["from"], "python");

    // A reply inherits what its request carried, but not what begins with `acp.`.
    let mut metadata = Metadata::default();
    metadata.insert_text("team", "blue");
    metadata.insert_text("acp.retry.attempt", "2");
    let echoed = pair.bus.invoke("echo", &json!({})).metadata(metadata);
    let echoed = echoed.await.unwrap();
    let kept: Vec<_> = echoed.metadata.iter().map(|(key, _)| key).collect();
    assert_eq!(kept, ["team"]);
    // An envelope that the handler made itself is adopted; the older dialect adds nothing to it.
    let adopted = pair.bus.invoke("adopt", &json!({})).await.unwrap();
    assert_eq!(adopted.payload.unwrap().as_str(), r#"{"adopted":true}"#);
    assert!(adopted.metadata.iter().any(|(key, _)| key == "mine"));
}
