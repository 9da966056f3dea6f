//! The bus in memory, with four layers around each handler.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agentbus::middleware::{Logging, Timeout};
use agentbus::{Bus, Request};
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::report::{Report, median, percentile};

/// Of each turn.
const ROUNDS: usize = 50_000;
const TURNS: usize = 9;
const REPEATS: usize = 5;
const SUBSCRIBERS: usize = 100;

/// A bus with four layers around each handler: logging and a timeout between the two that every
/// bus has, which recover from panics of the layers and of the handler.
async fn bus() -> Bus {
    Bus::builder("bench")
        .layer(Logging)
        .layer(Timeout::new(Duration::from_secs(60)))
        .connect()
        .await
        .unwrap()
}

/// From the call of publish to the first line of the handler.
pub(crate) async fn publish_to_handler(report: &mut Report) {
    let begun = Instant::now();
    let bus = bus().await;
    let (seen, times) = mpsc::unbounded_channel();
    bus.on("tick", move |_: Request| {
        let _ = seen.send(begun.elapsed());
        std::future::ready(Ok(()))
    })
    .await
    .unwrap();
    let times = Arc::new(Mutex::new(times));
    let (ours, raw) = in_turns(
        || publishes(bus.clone(), begun, Arc::clone(&times)),
        || raw_publishes(begun),
    )
    .await;
    report.turns(
        "publish → handler, p50 (baseline: mpsc)",
        each(&ours, 50),
        each(&raw, 50),
        "≤ 0.5 us",
    );
    bus.shutdown().await;
}

/// What two ways of doing the same took, turn about.
async fn in_turns<A, B>(
    ours: impl Fn() -> A,
    raw: impl Fn() -> B,
) -> (Vec<Vec<Duration>>, Vec<Vec<Duration>>)
where
    A: Future<Output = Vec<Duration>> + Send + 'static,
    B: Future<Output = Vec<Duration>> + Send + 'static,
{
    let mut taken = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        // In tasks of their own, as publishers and callers are; the outermost future of a runtime
        // runs on a thread of its own, and each message would pay for the way between two threads.
        taken.0.push(tokio::spawn(ours()).await.unwrap());
        taken.1.push(tokio::spawn(raw()).await.unwrap());
    }
    taken
}

/// What a percentile was in each turn.
fn each(turns: &[Vec<Duration>], percent: usize) -> Vec<f64> {
    let of = |turn: &Vec<Duration>| percentile(&mut turn.clone(), percent);
    turns.iter().map(of).collect()
}

async fn publishes(
    bus: Bus,
    begun: Instant,
    times: Arc<Mutex<mpsc::UnboundedReceiver<Duration>>>,
) -> Vec<Duration> {
    let mut times = times.lock().await;
    let mut spans = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let sent = begun.elapsed();
        bus.publish("tick", &1).await.unwrap();
        spans.push(times.recv().await.unwrap() - sent);
    }
    spans
}

async fn raw_publishes(begun: Instant) -> Vec<Duration> {
    let mut spans = Vec::with_capacity(ROUNDS);
    let (ping, mut pings) = mpsc::channel::<u64>(64);
    let (seen, mut times) = mpsc::unbounded_channel();
    let echo = tokio::spawn(async move {
        while pings.recv().await.is_some() {
            let _ = seen.send(begun.elapsed());
        }
    });
    for _ in 0..ROUNDS {
        let sent = begun.elapsed();
        ping.send(1).await.unwrap();
        spans.push(times.recv().await.unwrap() - sent);
    }
    drop(ping);
    echo.await.unwrap();
    spans
}

/// From the call of invoke to its reply.
pub(crate) async fn request_reply(report: &mut Report) {
    let bus = bus().await;
    bus.handle("echo", |r: Request| {
        std::future::ready(Ok(r.payload().cloned()))
    })
    .await
    .unwrap();
    let (ours, raw) = in_turns(|| calls(bus.clone()), raw_calls).await;
    for (percent, goal) in [(50, "≤ 1.0 us"), (99, "≤ 10 us")] {
        let what = format!("request → reply, p{percent} (baseline: mpsc and oneshot)");
        report.turns(&what, each(&ours, percent), each(&raw, percent), goal);
    }
    bus.shutdown().await;
}

async fn calls(bus: Bus) -> Vec<Duration> {
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let sent = Instant::now();
        bus.invoke("echo", &1).send().await.unwrap();
        times.push(sent.elapsed());
    }
    times
}

async fn raw_calls() -> Vec<Duration> {
    let (ask, mut asked) = mpsc::channel::<(u64, oneshot::Sender<u64>)>(64);
    let echo = tokio::spawn(async move {
        while let Some((n, reply)) = asked.recv().await {
            let _ = reply.send(n);
        }
    });
    let mut times = Vec::with_capacity(ROUNDS);
    for n in 0..ROUNDS as u64 {
        let sent = Instant::now();
        let (reply, answer) = oneshot::channel();
        ask.send((n, reply)).await.unwrap();
        answer.await.unwrap();
        times.push(sent.elapsed());
    }
    drop(ask);
    echo.await.unwrap();
    times
}

/// One publisher, one handler.
pub(crate) async fn one_publisher(report: &mut Report) {
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        ours.push(deliveries(1, 500_000).await);
        raw.push(raw_deliveries(1, 500_000).await);
    }
    let what = "one publisher, one handler (baseline: mpsc)";
    report.rates(what, ours, raw, "≥ 2 M/s");
}

/// One publisher, a hundred handlers.
pub(crate) async fn fan_out(report: &mut Report) {
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    for _ in 0..REPEATS {
        ours.push(deliveries(SUBSCRIBERS, 20_000).await);
        raw.push(raw_deliveries(SUBSCRIBERS, 20_000).await);
    }
    let (us, base) = (median(ours), median(raw));
    report.rate(
        "fan-out to 100 handlers, deliveries (baseline: 100 mpsc)",
        us,
        base,
        "≥ 5 M/s",
    );
}

async fn deliveries(subscribers: usize, messages: u64) -> f64 {
    let bus = bus().await;
    let all = messages * subscribers as u64;
    let (count, (done, mut finished)) = (Arc::new(AtomicU64::new(0)), mpsc::channel(1));
    for _ in 0..subscribers {
        let (count, done) = (Arc::clone(&count), done.clone());
        bus.on("tick", move |_: Request| {
            if count.fetch_add(1, Ordering::Relaxed) + 1 == all {
                let _ = done.try_send(());
            }
            std::future::ready(Ok(()))
        })
        .await
        .unwrap();
    }
    let publisher = bus.clone();
    let begun = Instant::now();
    tokio::spawn(async move {
        for n in 0..messages {
            publisher.publish("tick", &n).await.unwrap();
        }
    });
    finished.recv().await.unwrap();
    let rate = all as f64 / begun.elapsed().as_secs_f64();
    bus.shutdown().await;
    rate
}

async fn raw_deliveries(subscribers: usize, messages: u64) -> f64 {
    let all = messages * subscribers as u64;
    let (count, (done, mut finished)) = (Arc::new(AtomicU64::new(0)), mpsc::channel(1));
    let mut senders = Vec::new();
    for _ in 0..subscribers {
        let (sender, mut receiver) = mpsc::channel::<Arc<u64>>(4096);
        senders.push(sender);
        let (count, done) = (Arc::clone(&count), done.clone());
        tokio::spawn(async move {
            while receiver.recv().await.is_some() {
                if count.fetch_add(1, Ordering::Relaxed) + 1 == all {
                    let _ = done.try_send(());
                }
            }
        });
    }
    let begun = Instant::now();
    tokio::spawn(async move {
        for n in 0..messages {
            let message = Arc::new(n);
            for sender in &senders {
                sender.send(Arc::clone(&message)).await.unwrap();
            }
        }
    });
    finished.recv().await.unwrap();
    all as f64 / begun.elapsed().as_secs_f64()
}

/// Frames of one stream from a handler to its caller.
pub(crate) async fn stream_frames(report: &mut Report) {
    const FRAMES: u64 = 200_000;
    let bus = bus().await;
    bus.handle_stream("count", |_, out| async move {
        for n in 0..FRAMES {
            out.delta(&n).await?;
        }
        out.finish(&FRAMES).await
    })
    .await
    .unwrap();
    let mut ours = Vec::new();
    let mut raw = Vec::new();
    for _ in 0..REPEATS {
        let caller = bus.clone();
        ours.push(
            tokio::spawn(async move { read_frames(&caller).await })
                .await
                .unwrap(),
        );
        raw.push(raw_frames(FRAMES).await);
    }
    let (us, base) = (median(ours), median(raw));
    report.rate(
        "streamed frames (baseline: mpsc of payloads)",
        us,
        base,
        "≥ 1 M/s",
    );
    bus.shutdown().await;
}

async fn read_frames(bus: &Bus) -> f64 {
    let begun = Instant::now();
    let mut frames = bus.stream("count", &1).await.unwrap();
    let mut count = 0_u64;
    while let Some(frame) = frames.next().await {
        frame.unwrap();
        count += 1;
    }
    count as f64 / begun.elapsed().as_secs_f64()
}

async fn raw_frames(frames: u64) -> f64 {
    let (sender, mut receiver) = mpsc::channel::<String>(256);
    let begun = Instant::now();
    tokio::spawn(async move {
        for n in 0..frames {
            sender.send(n.to_string()).await.unwrap();
        }
    });
    while receiver.recv().await.is_some() {}
    frames as f64 / begun.elapsed().as_secs_f64()
}
