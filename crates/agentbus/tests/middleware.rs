//! The layers around real handlers, and what a bus adds to all that it sends.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentbus::middleware::{
    Backoff, ConcurrencyLimit, DeadLetter, Logging, RateLimit, Retry, Timeout, Trace, dead_letter,
};
use agentbus::protocol::{Pattern, TraceParent};
use agentbus::transport::{Received, Subscribe};
use agentbus::{Bus, Envelope, Error, ErrorCode, ErrorPayload, Metadata, Request, limits};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

fn busy() -> Error {
    ErrorPayload::new(ErrorCode::TransportFailure, "busy").into()
}

/// A handler that fails until its n-th call.
fn succeeds_at(n: u32) -> impl Fn(Request) -> std::future::Ready<Result<Value, Error>> {
    let calls = AtomicU32::new(0);
    move |request| {
        let call = calls.fetch_add(1, Ordering::SeqCst) + 1;
        let attempt: Option<u32> = request.envelope().metadata.get(Metadata::RETRY_ATTEMPT);
        let reply = json!({"call": call, "attempt": attempt});
        std::future::ready(if call < n { Err(busy()) } else { Ok(reply) })
    }
}

#[tokio::test(start_paused = true)]
async fn retries_count_their_attempts_and_stop() {
    let bus = Bus::builder("t")
        .layer(Retry::attempts(3))
        .connect()
        .await
        .unwrap();
    bus.handle("third", succeeds_at(3)).await.unwrap();
    let reply: Value = bus
        .invoke("third", &1)
        .await
        .unwrap()
        .payload
        .unwrap()
        .decode()
        .unwrap();
    assert_eq!(reply, json!({"call": 3, "attempt": 3}));
    bus.handle("fourth", succeeds_at(4)).await.unwrap();
    let error = bus.invoke("fourth", &1).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::TransportFailure);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_pass_is_not_retried() {
    let calls = Arc::new(AtomicUsize::new(0));
    let bus = Bus::builder("t")
        .layer(Retry::attempts(5))
        .connect()
        .await
        .unwrap();
    let count = Arc::clone(&calls);
    bus.handle("bad", move |_: Request| {
        count.fetch_add(1, Ordering::SeqCst);
        async { Err::<(), _>(Error::invalid_request("no")) }
    })
    .await
    .unwrap();
    bus.invoke("bad", &1).await.unwrap_err();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    let count = Arc::clone(&calls);
    bus.handle_stream("frames", move |_, out| {
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            out.delta(&1).await?;
            Err(busy())
        }
    })
    .await
    .unwrap();
    let mut frames = bus.stream("frames", &1).await.unwrap();
    let mut seen = 0;
    while frames.next().await.is_some() {
        seen += 1;
    }
    assert_eq!(
        (calls.load(Ordering::SeqCst), seen),
        (2, 2),
        "a delta and an error, once"
    );
}

#[test]
fn backoff_grows_to_its_maximum_from_the_first_delay_on() {
    let ms = Duration::from_millis;
    let backoff = Backoff::Exponential {
        base: ms(10),
        max: ms(35),
    };
    let ceilings = [1, 2, 3, 40].map(|attempt| backoff.ceiling(attempt));
    assert_eq!(ceilings, [ms(10), ms(20), ms(35), ms(35)]);
    let capped = Backoff::Exponential {
        base: ms(100),
        max: ms(35),
    };
    assert_eq!(capped.ceiling(1), ms(35));
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_for_a_time_drawn_below_the_ceiling() {
    let ceiling = Duration::from_secs(10);
    let retry = Retry::attempts(limits::RETRY_ATTEMPTS_MAX).backoff(Backoff::Constant(ceiling));
    let bus = Bus::builder("t").layer(retry).connect().await.unwrap();
    let tried = Arc::new(Mutex::new(Vec::new()));
    let times = Arc::clone(&tried);
    bus.handle("busy", move |_: Request| {
        times.lock().unwrap().push(Instant::now());
        std::future::ready(Err::<(), _>(busy()))
    })
    .await
    .unwrap();
    let call = bus.invoke("busy", &1).timeout(Duration::from_secs(3600));
    call.await.unwrap_err();
    let tried = tried.lock().unwrap();
    assert_eq!(tried.len(), limits::RETRY_ATTEMPTS_MAX as usize);
    let waits: Vec<_> = tried.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // The clock of the runtime counts whole milliseconds.
    let most = ceiling + Duration::from_millis(2);
    assert!(waits.iter().all(|wait| *wait <= most), "{waits:?}");
    // All of 99 in one half of the range: once in 2 to the power of 98 runs.
    let middle = ceiling / 2;
    assert!(waits.iter().any(|wait| *wait < middle), "{waits:?}");
    assert!(waits.iter().any(|wait| *wait > middle), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_is_cut_off() {
    let limit = Duration::from_millis(50);
    let bus = Bus::builder("t")
        .layer(Timeout::new(limit))
        .connect()
        .await
        .unwrap();
    bus.handle("slow", |_| async {
        sleep(Duration::from_secs(5)).await;
        Ok(())
    })
    .await
    .unwrap();
    let error = bus.invoke("slow", &1).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::AgentTimeout);
    assert!(error.to_string().contains("0.05 s"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_concurrency_limit_is_each_handlers_own() {
    let bus = Bus::builder("t")
        .layer(ConcurrencyLimit::new(2))
        .connect()
        .await
        .unwrap();
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for target in ["a", "b"] {
        let (running, most) = (Arc::clone(&running), Arc::clone(&most));
        bus.handle(target, move |_| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                sleep(Duration::from_millis(10)).await;
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            }
        })
        .await
        .unwrap();
    }
    let calls: Vec<_> = (0..8)
        .map(|n| {
            let bus = bus.clone();
            tokio::spawn(async move { bus.invoke(if n % 2 == 0 { "a" } else { "b" }, &n).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(most.load(Ordering::SeqCst), 4, "two of each");
}

#[tokio::test]
async fn a_rate_limit_refuses_and_says_when_to_come_back() {
    let one = NonZeroU32::MIN;
    let bus = Bus::builder("t")
        .layer(RateLimit::per_second(one))
        .connect()
        .await
        .unwrap();
    bus.handle("x", |_| async { Ok(()) }).await.unwrap();
    bus.invoke("x", &1).await.unwrap();
    let mut refused = None;
    // On a busy machine the second may come a second later, and is let through then.
    for _ in 0..20 {
        if let Err(error) = bus.invoke("x", &1).await {
            refused = Some(error);
            break;
        }
    }
    let error = refused.unwrap();
    assert_eq!(error.code(), ErrorCode::BackpressureDrop);
    assert!(
        error.is_retryable() && error.to_string().contains("try again in"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_tells_its_story_and_can_be_redriven() {
    let retry = Retry::attempts(2).backoff(Backoff::Constant(Duration::ZERO));
    let bus = Bus::builder("t")
        .layer(DeadLetter)
        .layer(retry)
        .connect()
        .await
        .unwrap();
    let pattern = Pattern::parse("acp.v1.dlq.>").unwrap();
    let mut letters = bus
        .transport()
        .subscribe(Subscribe::new(pattern))
        .await
        .unwrap();
    let broken = Arc::new(AtomicUsize::new(0));
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let calls = Arc::clone(&broken);
    bus.on("order.*", move |request: Request| {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        if call >= 2 {
            tell.send(request.envelope().clone()).unwrap();
        }
        async move {
            if call < 2 {
                Err(ErrorPayload::new(ErrorCode::TransportFailure, format!("down {call}")).into())
            } else {
                Ok(())
            }
        }
    })
    .await
    .unwrap();
    bus.publish("order.paid", &json!({"n": 1})).await.unwrap();
    let Some(Received::Live(delivery)) = letters.receive().await else {
        panic!("no letter")
    };
    let letter = delivery.envelope().clone();
    assert_eq!(delivery.subject().as_str(), "acp.v1.dlq.order.paid");
    let text = |key: &str| letter.metadata.get::<String>(key).unwrap();
    assert_eq!(text(dead_letter::ORIGINAL_EVENT_TYPE), "order.paid");
    assert_eq!(
        text(dead_letter::ORIGINAL_SUBJECT),
        "acp.v1.events.order.paid"
    );
    assert_eq!(text(dead_letter::REASON), "max_retries");
    assert!(text(dead_letter::FIRST_ERROR).contains("down 0"));
    assert!(text(dead_letter::LAST_ERROR).contains("down 1"));
    assert_eq!(letter.metadata.get::<u32>(dead_letter::ATTEMPTS), Some(2));

    dead_letter::redrive(&bus, &letter).await.unwrap();
    let again = told.recv().await.unwrap();
    assert_eq!(
        (&again.event_id, &again.payload),
        (&letter.event_id, &letter.payload)
    );
    assert!(again.metadata.is_empty(), "{:?}", again.metadata);
    let mut forged = letter.clone();
    forged
        .metadata
        .insert_text(dead_letter::ORIGINAL_SUBJECT, "_INBOX.somebody");
    let refused = dead_letter::redrive(&bus, &forged).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::InvalidRequest);
    let plain = dead_letter::redrive(&bus, &again).await.unwrap_err();
    assert_eq!(plain.code(), ErrorCode::InvalidRequest);
}

#[tokio::test]
async fn one_trace_runs_through_nested_calls() {
    let bus = Bus::builder("t")
        .layer(Trace)
        .layer(Logging)
        .connect()
        .await
        .unwrap();
    bus.handle("inner", |request: Request| async move {
        Ok(json!(request.envelope().context.traceparent.as_str()))
    })
    .await
    .unwrap();
    bus.handle("outer", |request: Request| async move {
        let inner = request.bus().invoke("inner", &1).await?.payload;
        let own = request.envelope().context.traceparent.to_string();
        Ok(json!([own, inner.unwrap().decode::<String>()?]))
    })
    .await
    .unwrap();
    let root = agentbus::mint::trace();
    for given in [root.to_string(), String::new(), "nonsense".to_owned()] {
        let reply = bus
            .invoke("outer", &1)
            .traceparent(given.as_str())
            .await
            .unwrap();
        let seen: [String; 2] = reply.payload.unwrap().decode().unwrap();
        let [outer, inner] = seen.map(|text| TraceParent::parse(&text).unwrap());
        assert_eq!(outer.trace_id(), inner.trace_id());
        assert_ne!(outer.span_id(), inner.span_id());
        if given == root.to_string() {
            assert_eq!(outer.trace_id(), root.trace_id());
        }
    }
}

#[tokio::test]
async fn a_panic_is_buried_like_any_other_failure() {
    let bus = Bus::builder("t").layer(DeadLetter).connect().await.unwrap();
    let pattern = Pattern::parse("acp.v1.dlq.>").unwrap();
    let mut letters = bus
        .transport()
        .subscribe(Subscribe::new(pattern))
        .await
        .unwrap();
    bus.on("order.*", |_: Request| async move {
        panic!("out of paper");
    })
    .await
    .unwrap();
    bus.publish("order.paid", &1).await.unwrap();
    let Some(Received::Live(letter)) = letters.receive().await else {
        panic!("no letter came");
    };
    let said: Option<String> = letter.envelope().metadata.get(dead_letter::LAST_ERROR);
    assert!(said.unwrap().contains("out of paper"));
}

/// The words that preparers have left.
fn words(envelope: &Envelope) -> Vec<String> {
    envelope.metadata.get("words").unwrap_or_default()
}

/// A preparer that adds its word.
fn adds(word: &'static str) -> impl Fn(&mut Envelope) + Send + Sync {
    move |envelope: &mut Envelope| {
        let mut said = words(envelope);
        said.push(word.to_owned());
        envelope.metadata.insert("words", &said).unwrap();
    }
}

#[tokio::test]
async fn preparers_change_requests_and_events_in_order_and_no_replies() {
    let bus = Bus::builder("t")
        .prepare(adds("first"))
        .prepare(adds("second"))
        .connect()
        .await
        .unwrap();
    let both = ["first", "second"];
    let mut events = bus.subscribe("order.paid").await.unwrap();
    bus.publish("order.paid", &1).await.unwrap();
    let event = events.next().await.unwrap();
    assert_eq!(words(event.envelope()), both);

    bus.handle("one", |request: Request| async move {
        Ok(json!(words(request.envelope())))
    })
    .await
    .unwrap();
    bus.handle_stream("many", |request, out| async move {
        out.finish(&words(request.envelope())).await
    })
    .await
    .unwrap();
    bus.on("asked", |request: Request| async move {
        let heard = words(request.envelope());
        request.bus().reply(request.envelope(), &heard).await
    })
    .await
    .unwrap();
    let mut frames = bus.stream("many", &1).await.unwrap();
    for reply in [
        bus.invoke("one", &1).await.unwrap(),
        frames.next().await.unwrap().unwrap(),
        bus.request("asked", &1).await.unwrap(),
    ] {
        let heard: Vec<String> = reply.payload.as_ref().unwrap().decode().unwrap();
        assert_eq!(heard, both);
        // A reply inherits what its request says; had it been prepared, it would say it twice.
        assert_eq!(words(&reply), both);
    }
}
