//! Calls, streams and cancellation through the public interface, in memory.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agentbus::{
    Bus, Context, Envelope, Error, ErrorCode, ErrorPayload, HandlerService, Payload, Reply, Request,
};
use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep};

async fn bus() -> Bus {
    Bus::builder("test").connect().await.unwrap()
}

fn value(envelope: &Envelope) -> Value {
    envelope.payload.as_ref().unwrap().decode().unwrap()
}

async fn echo(request: Request) -> Result<Option<agentbus::Payload>, Error> {
    Ok(request.payload().cloned())
}

#[tokio::test]
async fn a_reply_is_correlated_addressed_and_carries_the_context() {
    let bus = bus().await;
    bus.handle("echo", echo).await.unwrap();
    let mut context = Context::default();
    context.edit().session_id = "s1".into();
    context.edit().user_id = "u1".into();
    let reply = bus
        .invoke("echo", &json!({"a": 1}))
        .context(context.clone())
        .await
        .unwrap();
    assert_eq!(value(&reply), json!({"a": 1}));
    assert_eq!(reply.event_type.as_str(), "agent.response.final");
    assert_eq!(reply.frame_type, "response.final");
    assert!(reply.is_final && reply.reply_to.is_empty() && !reply.correlation_id.is_absent());
    assert_eq!((reply.from.as_str(), reply.to.as_str()), ("test", "test"));
    assert_eq!(reply.context, context);
}

#[tokio::test]
async fn a_target_that_nobody_serves_is_an_error_at_once() {
    let bus = bus().await;
    let begun = std::time::Instant::now();
    let error = bus.invoke("nobody", &json!({})).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::NoHandler, "{error}");
    let error = bus.stream("nobody", &json!({})).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::NoHandler, "{error}");
    let error = bus.request("no.topic", &json!({})).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::NoHandler, "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn ten_slow_handlers_run_side_by_side() {
    let bus = bus().await;
    let slow = |_: Request| async {
        sleep(Duration::from_millis(100)).await;
        Ok(())
    };
    bus.handle("slow", slow).await.unwrap();
    let begun = Instant::now();
    let calls = (0..10).map(|n| {
        let bus = bus.clone();
        tokio::spawn(async move { bus.invoke("slow", &n).await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap().unwrap();
    }
    assert_eq!(
        begun.elapsed().as_millis() / 10,
        10,
        "ten calls of 100 ms take about 100 ms"
    );
}

#[tokio::test(start_paused = true)]
async fn concurrency_is_bounded() {
    let bus = bus().await;
    let running = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&running);
    let handler = move |_: Request| {
        let running = Arc::clone(&seen);
        async move {
            let now = running.fetch_add(1, Ordering::SeqCst) + 1;
            sleep(Duration::from_millis(10)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(json!(now))
        }
    };
    bus.handle("three", handler).concurrency(3).await.unwrap();
    let calls: Vec<_> = (0..12)
        .map(|n| {
            let bus = bus.clone();
            tokio::spawn(async move { value(&bus.invoke("three", &n).await.unwrap()) })
        })
        .collect();
    let mut most = 0;
    for call in calls {
        most = most.max(call.await.unwrap().as_u64().unwrap());
    }
    assert_eq!(most, 3);
}

#[tokio::test]
async fn dropping_a_call_cancels_its_handler() {
    let bus = bus().await;
    let (started, dropped) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (on_start, on_drop) = (Arc::clone(&started), Arc::clone(&dropped));
    struct Guard(Arc<Notify>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    bus.handle("stuck", move |_| {
        let guard = Guard(Arc::clone(&on_drop));
        on_start.notify_one();
        async move {
            let _guard = guard;
            std::future::pending::<Result<(), Error>>().await
        }
    })
    .await
    .unwrap();
    let caller = bus.clone();
    let call = tokio::spawn(async move { caller.invoke("stuck", &json!({})).await });
    started.notified().await;
    call.abort();
    tokio::time::timeout(Duration::from_secs(5), dropped.notified())
        .await
        .unwrap();
    // The timeout of a call cancels in the same way.
    let error = bus
        .invoke("stuck", &json!({}))
        .timeout(Duration::from_millis(10))
        .await;
    assert_eq!(error.unwrap_err().code(), ErrorCode::AgentTimeout);
    tokio::time::timeout(Duration::from_secs(5), dropped.notified())
        .await
        .unwrap();
}

#[tokio::test]
async fn dropping_a_stream_cancels_its_handler() {
    let bus = bus().await;
    let (tell, told) = oneshot::channel::<()>();
    let tell = std::sync::Mutex::new(Some(tell));
    bus.handle_stream("endless", move |_, out| {
        let alive = tell.lock().unwrap().take();
        async move {
            let _alive = alive;
            loop {
                out.delta(&1).await?;
                tokio::task::yield_now().await;
            }
        }
    })
    .await
    .unwrap();
    let mut frames = bus.stream("endless", &json!({})).await.unwrap();
    frames.next().await.unwrap().unwrap();
    drop(frames);
    // The sender is dropped with the handler.
    assert!(
        tokio::time::timeout(Duration::from_secs(5), told)
            .await
            .unwrap()
            .is_err()
    );
}

#[tokio::test]
async fn a_panic_is_answered_and_the_bus_lives() {
    let bus = bus().await;
    bus.handle("bad", |request: Request| async move {
        let n: u64 = request.json()?;
        assert!(n != 7, "seven is too much");
        Ok(json!(n))
    })
    .await
    .unwrap();
    let error = bus.invoke("bad", &7).await.unwrap_err();
    assert!(error.to_string().contains("seven is too much"), "{error}");
    assert_eq!(error.code(), ErrorCode::AgentUnavailable);
    assert_eq!(value(&bus.invoke("bad", &8).await.unwrap()), json!(8));
    let error = bus.invoke("bad", &"text").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidRequest, "{error}");
}

#[tokio::test]
async fn stream_frames_are_numbered_and_end() {
    let bus = bus().await;
    bus.handle_stream("count", |_, out| async move {
        out.started(&json!({"meta": {}})).await?;
        for n in 1..=3 {
            out.delta(&n).await?;
        }
        out.finish(&json!({"total": 3})).await?;
        assert!(matches!(out.delta(&4).await, Err(Error::StreamEnded)));
        Ok(())
    })
    .await
    .unwrap();
    let mut frames = bus.stream("count", &json!({})).await.unwrap();
    let mut seen = Vec::new();
    while let Some(frame) = frames.next().await {
        let frame = frame.unwrap();
        seen.push((frame.seq, frame.frame_type.to_string(), frame.is_final));
    }
    let kinds = ["started", "delta", "delta", "delta", "final"];
    let want: Vec<_> = (0_u64..)
        .zip(kinds)
        .map(|(n, kind)| (n, format!("response.{kind}"), n == 4))
        .collect();
    assert_eq!(seen, want);
    // A single-reply call of a streaming target gets the result, not the first frame.
    assert_eq!(
        value(&bus.invoke("count", &json!({})).await.unwrap()),
        json!({"total": 3})
    );
}

#[tokio::test]
async fn a_stream_handler_that_just_returns_ends_its_stream() {
    let bus = bus().await;
    bus.handle_stream("ok", |_, out| async move { out.delta(&1).await })
        .await
        .unwrap();
    bus.handle_stream("err", |_, out| async move {
        out.delta(&1).await?;
        Err(Error::invalid_request("no more"))
    })
    .await
    .unwrap();
    let last = |target: &'static str| {
        let bus = bus.clone();
        async move {
            let mut frames = bus.stream(target, &json!({})).await.unwrap();
            let mut last = None;
            while let Some(frame) = frames.next().await {
                last = Some(frame.unwrap());
            }
            last.unwrap()
        }
    };
    let end = last("ok").await;
    assert_eq!((end.seq, end.is_final, end.payload), (1, true, None));
    let end = last("err").await;
    assert_eq!((end.seq, end.is_final), (1, true));
    assert_eq!(
        ErrorPayload::of(&end).unwrap().code,
        ErrorCode::InvalidRequest
    );
}

#[tokio::test(start_paused = true)]
async fn silence_and_length_of_a_stream_are_limited() {
    let bus = bus().await;
    bus.handle_stream("quiet", |_, out| async move {
        loop {
            out.delta(&1).await?;
            sleep(Duration::from_secs(3)).await;
        }
    })
    .await
    .unwrap();
    let idle = bus
        .stream("quiet", &1)
        .idle_timeout(Duration::from_secs(2))
        .await
        .unwrap();
    let overall = bus
        .stream("quiet", &1)
        .timeout(Duration::from_secs(10))
        .await
        .unwrap();
    for (mut frames, want) in [(idle, 1), (overall, 4)] {
        let mut count = 0;
        let error = loop {
            match frames.next().await.unwrap() {
                Ok(_) => count += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(
            (count, error.code()),
            (want, ErrorCode::AgentTimeout),
            "{error}"
        );
        assert!(frames.next().await.is_none());
    }
}

#[tokio::test]
async fn nested_calls_inherit_session_and_trace_but_not_the_user() {
    let bus = bus().await;
    bus.handle("inner", |request: Request| async move {
        let context = &request.envelope().context;
        Ok(json!([
            context.session_id.as_str(),
            context.traceparent.as_str(),
            context.user_id.as_str()
        ]))
    })
    .await
    .unwrap();
    bus.handle("outer", |request: Request| async move {
        Ok(request.bus().invoke("inner", &json!({})).await?.payload)
    })
    .await
    .unwrap();
    let mut context = Context::default();
    context.edit().session_id = "s".into();
    context.edit().user_id = "u".into();
    let trace = agentbus::mint::trace().to_string();
    context.edit().traceparent = trace.as_str().into();
    let reply = bus
        .invoke("outer", &json!({}))
        .context(context)
        .await
        .unwrap();
    assert_eq!(value(&reply), json!(["s", trace, ""]));
}

#[tokio::test]
async fn a_request_on_a_topic_is_answered_once_and_without_a_loop() {
    let bus = bus().await;
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    bus.on("agent.query", move |request: Request| {
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            request
                .bus()
                .reply(request.envelope(), &json!("pong"))
                .await
        }
    })
    .await
    .unwrap();
    let reply = bus.request("agent.query", &json!("ping")).await.unwrap();
    assert_eq!(value(&reply), json!("pong"));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn one_target_is_served_in_one_way() {
    let bus = bus().await;
    bus.handle("x", echo).await.unwrap();
    bus.handle("x", echo).await.unwrap();
    let streaming = bus
        .handle_stream("x", |_, out| async move { out.finish(&1).await })
        .await;
    assert!(matches!(streaming, Err(Error::MixedTarget { .. })));
}

#[tokio::test]
async fn a_fanned_out_request_reaches_every_handler_and_the_first_reply_counts() {
    let bus = bus().await;
    let counts = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
    let [silent, answering] = counts.clone();
    bus.handle("all", move |_: Request| {
        silent.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<Result<(), Error>>()
    })
    .fan_out()
    .await
    .unwrap();
    bus.handle("all", move |request: Request| {
        answering.fetch_add(1, Ordering::SeqCst);
        echo(request)
    })
    .fan_out()
    .await
    .unwrap();
    let guard = Duration::from_secs(5);
    for n in 1..=3 {
        let reply = bus.invoke("all", &n).timeout(guard).await.unwrap();
        assert_eq!(value(&reply), json!(n));
    }
    // The one that never answers may begin its last request after the reply of the other.
    let all_begun = async {
        let begun = |count: &Arc<AtomicUsize>| count.load(Ordering::SeqCst) == 3;
        while !counts.iter().all(begun) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(guard, all_begun).await.unwrap();
}

#[tokio::test]
async fn a_service_of_ones_own_serves_a_target() {
    let bus = bus().await;
    let successor = tower::service_fn(|request: Request| async move {
        let n: u64 = request.json()?;
        assert!(n != 7, "seven is too much");
        Ok::<_, Error>(Reply::Payload(Payload::json(&(n + 1))?))
    });
    let service = HandlerService::new(successor);
    bus.handle_service("successor", service).await.unwrap();
    let reply = bus.invoke("successor", &1).await.unwrap();
    assert_eq!(value(&reply), json!(2));
    let error = bus.invoke("successor", &"one").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidRequest, "{error}");
    let error = bus.invoke("successor", &7).await.unwrap_err();
    assert!(error.to_string().contains("seven is too much"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_expires_in_the_queue_is_answered() {
    let bus = bus().await;
    bus.handle("one", |_| async {
        sleep(Duration::from_millis(50)).await;
        Ok(())
    })
    .concurrency(1)
    .await
    .unwrap();
    let first = bus.invoke("one", &1);
    // Message deadlines run on the system clock, which stands still beside the virtual one.
    let second = bus.invoke("one", &2).ttl(Duration::from_nanos(200));
    let (first, second) = tokio::join!(first.send(), second.send());
    first.unwrap();
    assert_eq!(second.unwrap_err().code(), ErrorCode::AgentTimeout);
}

#[tokio::test]
async fn tenants_do_not_hear_each_other() {
    let shared: Arc<dyn agentbus::transport::Transport> =
        Arc::new(agentbus::transport::MemoryTransport::new());
    let open = |tenant: &'static str| {
        Bus::builder("t")
            .tenant(tenant)
            .transport_instance(Arc::clone(&shared))
            .connect()
    };
    let (acme, plain) = (open("acme").await.unwrap(), open("").await.unwrap());
    acme.handle("echo", echo).await.unwrap();
    let error = plain.invoke("echo", &1).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::NoHandler);
    let mut context = Context::default();
    context.edit().tenant_id = "acme".into();
    assert_eq!(
        value(&plain.invoke("echo", &1).context(context).await.unwrap()),
        json!(1)
    );
    for bad in ["a.invoke", ">", "events"] {
        let mut context = Context::default();
        context.edit().tenant_id = bad.into();
        let error = plain.invoke("echo", &1).context(context).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidRequest, "{bad}: {error}");
    }
}

#[tokio::test]
async fn closing_finishes_what_was_accepted() {
    let bus = bus().await;
    let started = Arc::new(Notify::new());
    let begun = Arc::clone(&started);
    bus.handle("slow", move |_| {
        begun.notify_one();
        async {
            sleep(Duration::from_millis(30)).await;
            Ok(json!("done"))
        }
    })
    .await
    .unwrap();
    let caller = bus.clone();
    let call = tokio::spawn(async move { caller.invoke("slow", &1).await });
    started.notified().await;
    bus.close(Duration::from_secs(5)).await;
    assert_eq!(value(&call.await.unwrap().unwrap()), json!("done"));
    assert!(matches!(
        bus.invoke("slow", &1).await,
        Err(Error::Transport(_))
    ));
    assert!(bus.targets().is_empty());
}

#[tokio::test(start_paused = true)]
async fn closing_ends_every_handler_of_one_event() {
    let bus = bus().await;
    let started = Arc::new(AtomicUsize::new(0));
    for _ in 0..2 {
        let started = Arc::clone(&started);
        bus.on("stuck", move |_| {
            started.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<Result<(), Error>>()
        })
        .await
        .unwrap();
    }
    bus.publish("stuck", &1).await.unwrap();
    while started.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    let closed = bus.close(Duration::from_secs(1));
    tokio::time::timeout(Duration::from_secs(60), closed)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_forwarded_request_keeps_what_it_says() {
    let bus = bus().await;
    bus.handle("last", |request: Request| async move {
        let envelope = request.envelope();
        Ok(json!([
            envelope.from.as_str(),
            envelope.to.as_str(),
            envelope.event_id.to_string()
        ]))
    })
    .await
    .unwrap();
    let mut envelope = Envelope::new(agentbus::mint::stamp(), "agent.message.received".into());
    envelope.from = "somebody".into();
    let id = envelope.event_id.to_string();
    let reply = bus
        .invoke("last", &json!({}))
        .forward(envelope)
        .await
        .unwrap();
    assert_eq!(value(&reply), json!(["somebody", "last", id]));
}

#[tokio::test]
async fn in_memory_a_payload_is_the_same_bytes_for_everybody() {
    let bus = bus().await;
    let payload = Payload::json(&json!({ "text": "x".repeat(100_000) })).unwrap();
    let place = payload.as_bytes().as_ptr();
    let mut first = bus.subscribe("big.*").await.unwrap();
    let mut second = bus.subscribe("big.>").await.unwrap();
    let published = bus.publish_payload("big.one", Some(payload.clone()));
    published.await.unwrap();
    let (first, second) = (first.next().await.unwrap(), second.next().await.unwrap());
    assert!(Arc::ptr_eq(first.message(), second.message()));
    let heard = first.envelope().payload.as_ref().unwrap();
    assert_eq!(heard.as_bytes().as_ptr(), place);
    bus.handle("echo", echo).await.unwrap();
    let reply = bus.invoke_payload("echo", Some(payload)).await.unwrap();
    assert_eq!(
        reply.payload.unwrap().as_bytes().as_ptr(),
        place,
        "there and back"
    );
}

#[tokio::test]
async fn a_publisher_that_never_has_to_wait_lets_others_run() {
    let bus = Bus::builder("t").connect().await.unwrap();
    let other = tokio::spawn(async {});
    let mut published = 0;
    while !other.is_finished() && published < 100_000 {
        bus.publish("nobody.listens", &published).await.unwrap();
        published += 1;
    }
    assert!(other.is_finished(), "not within {published} publishes");
}
