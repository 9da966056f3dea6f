//! Publishers and consumers that are killed at any moment: nothing that was accepted is lost, what
//! comes again is numbered, and the order of first attempts is kept.
//!
//! `AGENTBUS_CRASH_RUNS` sets how many runs are made, `AGENTBUS_CRASH_SEED` the first seed.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should say where; a child reports to its parent"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use agentbus_transport::{PublishOptions, Subscribe, Transport};
use agentbus_transport_rabbitmq::RabbitTransport;

use support::messages::{all_of, message, number, receive, within};

/// What a child is, and where its broker is; set in the processes that this test starts of itself.
const ROLE: &str = "AGENTBUS_RABBITMQ_CRASH_ROLE";
const URL: &str = "AGENTBUS_RABBITMQ_CRASH_URL";
const FIRST: &str = "AGENTBUS_RABBITMQ_CRASH_FIRST";

/// Publishers, and consumers, that are killed in one run.
const KILLS: u64 = 3;

/// Numbers that each publisher has to itself.
const NUMBERS: u64 = 1000;

fn kept() -> Subscribe {
    let mut request = all_of("crash");
    request.durable = Some("crash".into());
    request.group = Some("consumers".into());
    request.prefetch = 20;
    request
}

/// The child: not a test of its own, it runs where the test below starts it.
#[tokio::test]
async fn child() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let url = std::env::var(URL).unwrap();
    let transport = RabbitTransport::connect(&url).await.unwrap();
    if role == "publish" {
        let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
        for n in first..first + NUMBERS {
            let sent = transport.publish(message("crash", n), PublishOptions::default());
            sent.await.unwrap();
            say(&format!("{n}"));
        }
        return;
    }
    let mut all = transport.subscribe(kept()).await.unwrap();
    loop {
        let delivery = receive(&mut all).await;
        say(&format!("{} {}", number(&delivery), delivery.attempt()));
        delivery.ack().await.unwrap();
    }
}

/// Writes a whole line at once, past the test harness.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n#{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

fn start(role: &str, url: &str, first: u64) -> Child {
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(ROLE, role)
        .env(URL, url)
        .env(FIRST, first.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Runs a child until it has said so many lines, and kills it. Returns all that it said.
fn run_and_kill(role: &str, url: &str, first: u64, count: usize) -> Vec<Vec<u64>> {
    let mut child = start(role, url, first);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = Vec::new();
    for line in lines.map_while(Result::ok) {
        let Some(words) = line.strip_prefix('#') else {
            continue;
        };
        said.push(words.split(' ').map(|word| word.parse().unwrap()).collect());
        if said.len() == count {
            // What it wrote before it died is still read.
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    said
}

/// A small generator, so that a run can be repeated.
fn next(seed: &mut u64) -> usize {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    usize::try_from(*seed >> 40).unwrap()
}

fn variable(name: &str, default: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.map_or(default, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_outlives_publishers_and_consumers_that_are_killed() {
    let first = variable("AGENTBUS_CRASH_SEED", 1);
    for seed in first..first + variable("AGENTBUS_CRASH_RUNS", 3) {
        run(seed).await;
    }
}

async fn run(seed: u64) {
    let url = support::alone();
    let transport = RabbitTransport::connect(&url).await.unwrap();
    drop(transport.subscribe(kept()).await.unwrap());
    let mut random = seed;
    let (mut accepted, mut seen) = (BTreeSet::new(), BTreeMap::<u64, Vec<u32>>::new());
    for life in 0..KILLS {
        let (many, few) = (1 + next(&mut random) % 120, 1 + next(&mut random) % 40);
        let (to, from) = (url.clone(), url.clone());
        let publisher = tokio::task::spawn_blocking(move || {
            run_and_kill("publish", &to, life * NUMBERS, many.max(60))
        });
        let consumer = tokio::task::spawn_blocking(move || run_and_kill("consume", &from, 0, few));
        accepted.extend(publisher.await.unwrap().iter().map(|said| said[0]));
        for said in consumer.await.unwrap() {
            let attempt = u32::try_from(said[1]).unwrap();
            seen.entry(said[0]).or_default().push(attempt);
        }
    }
    // Whoever comes last gets all that is left, and whatever was in dead hands.
    let mut last = transport.subscribe(kept()).await.unwrap();
    let marker = KILLS * NUMBERS;
    let sent = transport.publish(message("crash", marker), PublishOptions::default());
    sent.await.unwrap();
    let complete = |seen: &BTreeMap<u64, Vec<u32>>| {
        seen.contains_key(&marker) && accepted.iter().all(|n| seen.contains_key(n))
    };
    within("all that was accepted", async {
        while !complete(&seen) {
            let delivery = receive(&mut last).await;
            let attempts = seen.entry(number(&delivery)).or_default();
            attempts.push(delivery.attempt());
            delivery.ack().await.unwrap();
        }
    })
    .await;
    // An ack is not answered, so one that a death cut off brings its message again: with a number.
    for (n, attempts) in seen {
        assert!(
            attempts.is_sorted_by(|a, b| a < b),
            "seed {seed}: {n} came as attempts {attempts:?}"
        );
    }
}
