//! What happens when an agent, a caller or a bus ends in the middle.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agentbus::transport::MemoryTransport;
use agentbus::transport::{Message, PublishOptions, Transport};
use agentbus::{Bus, Envelope, Error, ErrorCode, Request};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

const SOON: Duration = Duration::from_secs(20);

/// Two agents on one broker; closing the broker is not part of closing the first.
async fn two_agents() -> (Bus, Bus) {
    let broker: Arc<dyn Transport> = Arc::new(MemoryTransport::new());
    let agent = |name: &'static str| {
        Bus::builder(name)
            .transport_instance(Arc::clone(&broker))
            .connect()
    };
    (agent("one").await.unwrap(), agent("two").await.unwrap())
}

fn value(envelope: &Envelope) -> Value {
    envelope.payload.as_ref().unwrap().decode().unwrap()
}

#[tokio::test]
async fn callers_of_an_agent_that_ends_are_told_at_once() {
    let (agent, caller) = two_agents().await;
    let started = Arc::new(Notify::new());
    let notify = Arc::clone(&started);
    agent
        .handle("stuck", move |_: Request| {
            notify.notify_one();
            std::future::pending::<Result<(), Error>>()
        })
        .concurrency(1)
        .await
        .unwrap();
    let call = |caller: Bus| async move { caller.invoke("stuck", &1).send().await };
    let running = tokio::spawn(call(caller.clone()));
    started.notified().await;
    let queued = tokio::spawn(call(caller.clone()));
    let streamed = caller.stream("stuck", &1).await.unwrap();
    sleep(Duration::from_millis(20)).await;
    agent.close(Duration::ZERO).await;
    for call in [running, queued] {
        let error = timeout(SOON, call).await.unwrap().unwrap().unwrap_err();
        assert!(matches!(error, Error::Abandoned { .. }), "{error}");
        assert_eq!(error.code(), ErrorCode::AgentUnavailable);
        assert!(error.is_retryable());
    }
    let mut frames = streamed;
    let end = timeout(SOON, frames.next()).await.unwrap().unwrap();
    assert!(matches!(end, Err(Error::Abandoned { .. })), "{end:?}");
}

#[tokio::test]
async fn a_forwarded_request_goes_where_it_is_forwarded() {
    let bus = Bus::builder("t").connect().await.unwrap();
    bus.handle("billing", |request: Request| async move {
        Ok(json!({"to": request.envelope().to.as_str()}))
    })
    .await
    .unwrap();
    bus.handle("router", |request: Request| async move {
        let received = request.envelope().clone();
        let reply = request
            .bus()
            .invoke("billing", &())
            .forward(received)
            .send();
        Ok(reply.await?.payload)
    })
    .await
    .unwrap();
    let reply = timeout(SOON, bus.invoke("router", &json!({})).send()).await;
    // The envelope still says whom the caller asked.
    assert_eq!(value(&reply.unwrap().unwrap()), json!({"to": "router"}));
}

#[tokio::test]
async fn giving_up_a_forwarded_call_does_not_end_the_one_who_forwards() {
    let bus = Bus::builder("t").connect().await.unwrap();
    let ended = Arc::new(Notify::new());
    let notify = Arc::clone(&ended);
    bus.handle("slow", move |_: Request| {
        let dropped = DropNotice(Arc::clone(&notify));
        async move {
            let _dropped = dropped;
            std::future::pending::<Result<(), Error>>().await
        }
    })
    .await
    .unwrap();
    bus.handle("router", |request: Request| async move {
        // The handler must be in a task of its own when the cancellation goes round.
        tokio::task::yield_now().await;
        let received = request.envelope().clone();
        let call = request.bus().invoke("slow", &()).forward(received);
        let outcome = call.timeout(Duration::from_millis(30)).send().await;
        tokio::task::yield_now().await;
        Ok(json!({"timed_out": matches!(outcome, Err(Error::Timeout { .. }))}))
    })
    .await
    .unwrap();
    let reply = timeout(SOON, bus.invoke("router", &json!({})).send()).await;
    assert_eq!(value(&reply.unwrap().unwrap()), json!({"timed_out": true}));
    timeout(SOON, ended.notified()).await.unwrap();
}

struct DropNotice(Arc<Notify>);

impl Drop for DropNotice {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tokio::test]
async fn requests_with_equal_ids_are_cancelled_apart() {
    let bus = Bus::builder("t").connect().await.unwrap();
    let started = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&started);
    bus.handle("wait", move |_: Request| {
        counter.fetch_add(1, Ordering::SeqCst);
        async {
            sleep(Duration::from_millis(200)).await;
            Ok(json!("done"))
        }
    })
    .await
    .unwrap();
    let request = Envelope::new(agentbus::mint::stamp(), "agent.message.received".into());
    let call = |request: Envelope| {
        let bus = bus.clone();
        tokio::spawn(async move { bus.invoke("wait", &1).forward(request).send().await })
    };
    let (first, second) = (call(request.clone()), call(request));
    while started.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    first.abort();
    let reply = timeout(SOON, second).await.unwrap().unwrap().unwrap();
    assert_eq!(value(&reply), json!("done"));
}

#[tokio::test]
async fn a_member_that_leaves_leaves_its_share_to_the_others() {
    let bus = Bus::builder("t").connect().await.unwrap();
    let mut first = bus.subscribe("job").queue("workers").await.unwrap();
    let mut second = bus.subscribe("job").queue("workers").await.unwrap();
    for n in 0..10 {
        bus.publish("job", &n).await.unwrap();
    }
    let taken = timeout(SOON, first.next()).await.unwrap().unwrap();
    assert_eq!(value(taken.envelope()), json!(0));
    drop(first);
    for n in 1..10 {
        let job = timeout(SOON, second.next()).await.unwrap().unwrap();
        assert_eq!(value(job.envelope()), json!(n));
    }
}

#[tokio::test]
async fn a_reply_never_becomes_a_request() {
    let bus = Bus::builder("t").connect().await.unwrap();
    let called = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&called);
    bus.handle("victim", move |_: Request| {
        counter.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Ok(()))
    })
    .await
    .unwrap();
    let answered = Arc::new(Notify::new());
    let notify = Arc::clone(&answered);
    bus.handle("echo", move |request: Request| {
        notify.notify_one();
        std::future::ready(Ok(request.payload().cloned()))
    })
    .await
    .unwrap();
    let space = bus.subjects();
    let stamp = agentbus::mint::stamp();
    let mut request = Envelope::request(stamp, "mallory".into(), "echo".into(), None);
    request.reply_to = space.invoke("victim").unwrap().text().clone();
    let message = Message::new(space.invoke("echo").unwrap(), request);
    let options = PublishOptions::default();
    bus.transport()
        .publish(Arc::new(message), options)
        .await
        .unwrap();
    answered.notified().await;
    bus.invoke("echo", &1).await.unwrap();
    assert_eq!(called.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn closing_ends_a_handler_that_was_told_to_stop() {
    let bus = Bus::builder("t").connect().await.unwrap();
    let started = Arc::new(Notify::new());
    let notify = Arc::clone(&started);
    let registration = bus
        .handle("stuck", move |_: Request| {
            notify.notify_one();
            std::future::pending::<Result<(), Error>>()
        })
        .concurrency(1)
        .await
        .unwrap();
    for _ in 0..3 {
        let caller = bus.clone();
        tokio::spawn(async move { caller.invoke("stuck", &1).send().await });
    }
    started.notified().await;
    registration.stop();
    timeout(SOON, bus.close(Duration::from_millis(50)))
        .await
        .unwrap();
    timeout(SOON, registration.ended()).await.unwrap();
}

#[tokio::test]
async fn a_handler_that_finishes_while_its_bus_closes_may_still_ask_others() {
    let (draining, other) = two_agents().await;
    other
        .handle("echo", |r: Request| async move { Ok(r.payload().cloned()) })
        .await
        .unwrap();
    let started = Arc::new(Notify::new());
    let notify = Arc::clone(&started);
    draining
        .handle("outer", move |request: Request| {
            notify.notify_one();
            async move {
                sleep(Duration::from_millis(50)).await;
                let reply = request.bus().invoke("echo", &"late").await?;
                Ok(reply.payload)
            }
        })
        .await
        .unwrap();
    let caller = other.clone();
    let call = tokio::spawn(async move { caller.invoke("outer", &1).send().await });
    started.notified().await;
    let close = draining.close(SOON);
    let (reply, _) = tokio::join!(call, close);
    assert_eq!(value(&reply.unwrap().unwrap()), json!("late"));
    assert!(
        draining.invoke("echo", &1).await.is_err(),
        "nobody else may"
    );
}

#[tokio::test]
async fn a_frame_that_was_given_up_keeps_its_number() {
    let bus = Bus::builder("t").connect().await.unwrap();
    bus.handle_stream("count", |_, out| async move {
        for n in 0..1000 {
            // The caller reads late, so that some of these wait for room and are given up.
            let _ = timeout(Duration::from_micros(1), out.delta(&n)).await;
        }
        out.finish(&"end").await
    })
    .await
    .unwrap();
    let mut frames = bus.stream("count", &1).await.unwrap();
    let mut next = 0;
    loop {
        sleep(Duration::from_micros(20)).await;
        let frame = timeout(SOON, frames.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(frame.seq, next);
        next += 1;
        if frame.is_final {
            break;
        }
    }
    assert!(timeout(SOON, frames.next()).await.unwrap().is_none());
}
