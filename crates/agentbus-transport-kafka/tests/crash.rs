//! Publishers and consumers that are killed at any moment: what was accepted is there, once and in
//! order, and a consumer sees nothing again that it had acknowledged.
//!
//! `AGENTBUS_CRASH_RUNS` sets how many runs are made, `AGENTBUS_CRASH_SEED` the first seed.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use agentbus_transport::{Delivery, PublishOptions, Received, Start, Subscribe, Transport};
use agentbus_transport_kafka::KafkaTransport;

use support::messages::{all_of, message, number, receive, within};

/// Where a child finds its bus; set in the processes that this test starts of itself.
const BUS: &str = "AGENTBUS_KAFKA_CRASH_BUS";

const MESSAGES: u64 = 100;

/// Consumers that are killed in one run.
const KILLS: usize = 3;

fn kept() -> Subscribe {
    let mut request = all_of("crash");
    request.durable = Some("crash".into());
    request.group = Some("consumers".into());
    request.lease = Some(Duration::from_secs(1));
    request.prefetch = 20;
    request
}

/// What a child did with a message.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Step {
    Got { n: u64, attempt: u32 },
    Done { n: u64 },
}

impl Step {
    fn read(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let step = words.next()?;
        let n = words.next()?.parse().ok()?;
        match step {
            "got" => Some(Self::Got {
                n,
                attempt: words.next()?.parse().ok()?,
            }),
            "done" => Some(Self::Done { n }),
            _ => None,
        }
    }

    fn number(&self) -> u64 {
        match self {
            Self::Got { n, .. } | Self::Done { n } => *n,
        }
    }

    fn done(&self) -> Option<u64> {
        match self {
            Self::Done { n } => Some(*n),
            Self::Got { .. } => None,
        }
    }
}

/// Says a line to the parent; unlike with `println!`, the harness does not keep it.
fn report(line: &str) {
    let mut output = std::io::stdout().lock();
    output.write_all(format!("\n{line}\n").as_bytes()).unwrap();
}

async fn bus() -> Option<KafkaTransport> {
    let url = std::env::var(BUS).ok()?;
    Some(KafkaTransport::connect(&url).await.unwrap())
}

/// The consumer: not a test of its own, it runs where the test below starts it.
#[tokio::test]
async fn consumer() {
    let Some(transport) = bus().await else { return };
    let mut all = transport.subscribe(kept()).await.unwrap();
    loop {
        let delivery = receive(&mut all).await;
        let n = number(&delivery);
        report(&format!("got {n} {}", delivery.attempt()));
        delivery.ack().await.unwrap();
        report(&format!("done {n}"));
    }
}

/// The publisher: not a test of its own either.
#[tokio::test]
async fn publisher() {
    let Some(transport) = bus().await else { return };
    for n in 0.. {
        let sent = transport.publish(message("sent", n), PublishOptions::default());
        sent.await.unwrap();
        report(&format!("done {n}"));
    }
}

fn start(what: &str, url: &str) -> Child {
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", what, "--nocapture"])
        .env(BUS, url)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Runs a child until it has reported `steps` steps, kills it, and returns all it had reported.
async fn run_and_kill(what: &'static str, url: &str, steps: usize) -> Vec<Step> {
    let url = url.to_owned();
    let run = tokio::task::spawn_blocking(move || {
        let mut child = start(what, &url);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut reported = Vec::new();
        for line in lines.map_while(Result::ok) {
            reported.extend(Step::read(&line));
            if reported.len() == steps {
                // What it wrote before it died is still read.
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        reported
    });
    run.await.unwrap()
}

/// A small generator, so that a run can be repeated.
fn next(seed: &mut u64) -> usize {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    usize::try_from(*seed >> 40).unwrap()
}

/// Runs a case with each seed.
async fn with_seeds<F: Future<Output = ()>>(default: u64, run: impl Fn(u64) -> F) {
    let variable = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let first = variable("AGENTBUS_CRASH_SEED").unwrap_or(1);
    let runs = variable("AGENTBUS_CRASH_RUNS").unwrap_or(default);
    for seed in first..first + runs {
        run(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_publisher_was_told_is_there_once_and_in_order() {
    with_seeds(3, |seed| async move {
        let mut random = seed;
        let url = support::url();
        let reported = run_and_kill("publisher", &url, 1 + next(&mut random) % 80).await;
        let accepted = reported.iter().filter_map(Step::done).max().unwrap();
        let transport = KafkaTransport::connect(&url).await.unwrap();
        let mut past = all_of("sent");
        past.start = Start::Beginning;
        let mut past = transport.subscribe(past).await.unwrap();
        for n in 0..=accepted {
            let seen = number(&receive(&mut past).await);
            assert_eq!(seen, n, "seed {seed}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_consumer_loses_nothing_and_repeats_nothing_it_acknowledged() {
    with_seeds(3, consume).await;
}

async fn consume(seed: u64) {
    let url = support::url();
    let transport = KafkaTransport::connect(&url).await.unwrap();
    drop(transport.subscribe(kept()).await.unwrap());
    for n in 0..MESSAGES {
        let sent = transport.publish(message("crash", n), PublishOptions::default());
        sent.await.unwrap();
    }
    let mut random = seed;
    let mut steps = Vec::new();
    for _ in 0..KILLS {
        let count = 1 + next(&mut random) % 40;
        steps.extend(run_and_kill("consumer", &url, count).await);
    }
    // Whoever comes last gets all that is left, and whatever was in dead hands.
    let mut last = transport.subscribe(kept()).await.unwrap();
    let marker = transport.publish(message("crash", MESSAGES), PublishOptions::default());
    marker.await.unwrap();
    let mut unseen: BTreeSet<_> = (0..=MESSAGES).collect();
    for n in steps.iter().map(Step::number) {
        unseen.remove(&n);
    }
    while !unseen.is_empty() {
        let delivery = receive(&mut last).await;
        unseen.remove(&number(&delivery));
        settle(delivery, &mut steps).await;
    }
    // Leases are a second, so that silence of several means that there is nothing left.
    let silence = Duration::from_secs(5);
    while let Ok(received) = tokio::time::timeout(silence, last.receive()).await {
        let Some(Received::Live(delivery)) = received else {
            panic!("{received:?}");
        };
        settle(delivery, &mut steps).await;
    }
    check(seed, &steps);
}

async fn settle(delivery: Delivery, steps: &mut Vec<Step>) {
    let (n, attempt) = (number(&delivery), delivery.attempt());
    steps.push(Step::Got { n, attempt });
    delivery.ack().await.unwrap();
    steps.push(Step::Done { n });
}

fn check(seed: u64, steps: &[Step]) {
    let mut attempts = BTreeMap::<u64, Vec<u32>>::new();
    let mut settled = BTreeSet::new();
    for step in steps {
        match *step {
            Step::Got { n, attempt } => {
                assert!(!settled.contains(&n), "seed {seed}: {n} came after its ack");
                attempts.entry(n).or_default().push(attempt);
            }
            Step::Done { n } => {
                settled.insert(n);
            }
        }
    }
    let seen: Vec<_> = attempts.keys().copied().collect();
    let all: Vec<_> = (0..=MESSAGES).collect();
    assert_eq!(seen, all, "seed {seed}: some are lost");
    for (n, attempts) in attempts {
        assert!(
            attempts.is_sorted_by(|a, b| a < b),
            "seed {seed}: {n} came as attempts {attempts:?}"
        );
    }
}

/// Whoever waits for an answer of an agent that is killed is told, once the agent is missed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_of_a_killed_agent_is_told() {
    let url = support::url();
    let caller = KafkaTransport::connect(&url).await.unwrap();
    let agent = tokio::task::spawn_blocking({
        let url = url.clone();
        move || {
            let mut child = start("agent", &url);
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let ready = lines.map_while(Result::ok).any(|line| line == "done 0");
            assert!(ready, "the agent ended early");
            child
        }
    });
    let mut agent = agent.await.unwrap();
    let mut inbox = caller.open_inbox().unwrap();
    let mut asked = (*message("ask", 7)).clone();
    asked.envelope.reply_to = inbox.subject().as_str().into();
    let required = PublishOptions {
        require_responder: true,
        ..PublishOptions::default()
    };
    let sent = caller.publish(std::sync::Arc::new(asked), required);
    sent.await.unwrap();
    agent.kill().unwrap();
    agent.wait().unwrap();
    let begun = Instant::now();
    let told = within("the news", inbox.receive()).await;
    assert!(matches!(told, Some(Received::Lost)), "{told:?}");
    assert!(
        begun.elapsed() > Duration::from_millis(500),
        "it was missed, not told"
    );
}

/// The agent that never answers: not a test of its own either.
#[tokio::test]
async fn agent() {
    let Some(transport) = bus().await else { return };
    let mut shared = all_of("ask");
    shared.group = Some("agents".into());
    let mut served = transport.subscribe(shared).await.unwrap();
    report("done 0");
    let held = receive(&mut served).await;
    std::future::pending::<()>().await;
    drop(held);
}
