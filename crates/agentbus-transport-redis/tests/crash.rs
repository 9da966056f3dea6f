//! Consumers that are killed at any moment lose nothing that they had not acknowledged, and see
//! nothing again that they had.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should say where; a consumer reports to its parent"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use agentbus_transport::{PublishOptions, Subscribe, Transport};
use agentbus_transport_redis::RedisTransport;

use support::Server;
use support::messages::{all_of, message, number, receive};

/// Where a consumer finds its server; set in the processes that this test starts of itself.
const SERVER: &str = "AGENTBUS_REDIS_CRASH_SERVER";

/// Each is a run of its own.
const SEEDS: std::ops::Range<u64> = 1..6;

const MESSAGES: u64 = 200;

/// Consumers that are killed in one run.
const KILLS: usize = 6;

fn kept() -> Subscribe {
    let mut request = all_of("crash");
    request.durable = Some("crash".into());
    request.group = Some("consumers".into());
    request.lease = Some(Duration::from_secs(1));
    request.prefetch = 20;
    request
}

/// What a consumer did with a message.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Step {
    Got { n: u64, attempt: u32 },
    Acked { n: u64 },
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
            "acked" => Some(Self::Acked { n }),
            _ => None,
        }
    }
}

/// The consumer: not a test of its own, it runs where the test below starts it.
#[tokio::test]
async fn consumer() {
    let Ok(url) = std::env::var(SERVER) else {
        return;
    };
    let transport = RedisTransport::connect(&url).await.unwrap();
    let mut all = transport.subscribe(kept()).await.unwrap();
    // Unlike `println!`, this is not caught by the harness.
    let report = |line: String| std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    loop {
        let delivery = receive(&mut all).await;
        let n = number(&delivery);
        report(format!("\ngot {n} {}\n", delivery.attempt()));
        delivery.ack().await.unwrap();
        report(format!("\nacked {n}\n"));
    }
}

fn start(url: &str) -> Child {
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "consumer", "--nocapture"])
        .env(SERVER, url)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Runs a consumer until it has reported `steps` steps, kills it, and returns all it had reported.
fn run_and_kill(url: &str, steps: usize) -> Vec<Step> {
    let mut child = start(url);
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
}

/// A small generator, so that a run can be repeated.
fn next(seed: &mut u64) -> usize {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    usize::try_from(*seed >> 40).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_consumer_loses_nothing_and_repeats_nothing_it_acknowledged() {
    for seed in SEEDS {
        run(seed).await;
    }
}

async fn run(seed: u64) {
    let server = Server::start();
    let transport = RedisTransport::connect(&server.url()).await.unwrap();
    drop(transport.subscribe(kept()).await.unwrap());
    for n in 0..MESSAGES {
        let sent = transport.publish(message("crash", n), PublishOptions::default());
        sent.await.unwrap();
    }
    let mut random = seed;
    let mut steps = Vec::new();
    for _ in 0..KILLS {
        let (url, count) = (server.url(), 1 + next(&mut random) % 40);
        let reported = tokio::task::spawn_blocking(move || run_and_kill(&url, count));
        steps.extend(reported.await.unwrap());
    }
    // Whoever comes last gets all that is left, and whatever was in dead hands.
    let settled: BTreeSet<_> = steps.iter().filter_map(acked).collect();
    let mut missing: BTreeSet<_> = (0..MESSAGES).filter(|n| !settled.contains(n)).collect();
    let mut last = transport.subscribe(kept()).await.unwrap();
    let reported: BTreeSet<_> = steps.iter().filter_map(got).collect();
    while !missing.is_empty() {
        let delivery = receive(&mut last).await;
        let (n, attempt) = (number(&delivery), delivery.attempt());
        steps.push(Step::Got { n, attempt });
        delivery.ack().await.unwrap();
        steps.push(Step::Acked { n });
        missing.remove(&n);
        // An ack that was heard and could not be reported any more will not come again.
        let only_reports = missing.iter().all(|n| reported.contains(n));
        if only_reports && missing.len() <= KILLS && is_empty(&server).await {
            break;
        }
    }
    check(seed, &steps);
}

/// Whether the queue holds nothing any more.
async fn is_empty(server: &Server) -> bool {
    let client = redis::Client::open(server.url()).unwrap();
    let mut raw = client.get_multiplexed_async_connection().await.unwrap();
    let length: u64 = redis::cmd("XLEN")
        .arg("agentbus:queue:d:crash")
        .query_async(&mut raw)
        .await
        .unwrap();
    length == 0
}

fn acked(step: &Step) -> Option<u64> {
    match step {
        Step::Acked { n } => Some(*n),
        Step::Got { .. } => None,
    }
}

fn got(step: &Step) -> Option<u64> {
    match step {
        Step::Got { n, .. } => Some(*n),
        Step::Acked { .. } => None,
    }
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
            Step::Acked { n } => {
                settled.insert(n);
            }
        }
    }
    assert_eq!(
        attempts.len() as u64,
        MESSAGES,
        "seed {seed}: some are lost"
    );
    for (n, attempts) in attempts {
        assert!(
            attempts.is_sorted_by(|a, b| a < b),
            "seed {seed}: {n} came as attempts {attempts:?}"
        );
    }
}
