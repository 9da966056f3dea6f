//! Publishers and consumers of a stream that are killed at random points.
//!
//! Each run is seeded. A child process publishes numbers and prints each once it is acknowledged;
//! another consumes through a durable name, gives some back, and prints what it got with the number
//! of the attempt. Both are killed with SIGKILL after a random number of lines, several times. In the
//! end every acknowledged number has been seen, what came for the first time came in the order of its
//! key, and whatever came again came under a higher number.
//!
//! But for one message of each killed consumer: the server (2.9.10) takes back its newest delivery,
//! number and place, when it finds the connection gone in that moment, although it had arrived.
//!
//! `AGENTBUS_CRASH_RUNS` sets how many runs are made, `AGENTBUS_CRASH_SEED` the first seed;
//! `cargo xtask crash` makes 200.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use agentbus_protocol::{
    Envelope, EventId, EventType, Pattern, Payload, Stamp, Subject, Timestamp,
};
use agentbus_transport::{Delivery, Message, PublishOptions, Received, Subscribe, Transport};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use support::Server;

const ROLE: &str = "AGENTBUS_CRASH_ROLE";
const URL: &str = "AGENTBUS_CRASH_URL";
const SUBJECT: &str = "AGENTBUS_CRASH_SUBJECT";
const FIRST: &str = "AGENTBUS_CRASH_FIRST";

/// Numbers of one publisher; the next one begins behind them.
const NUMBERS: u64 = 1000;

/// Keys of one publisher, each with a subject of its own.
const KEYS: u64 = 4;

/// Each first number in so many is given back when it comes for the first time.
const GIVEN_BACK: u64 = 7;

/// How often each side is killed in one run.
const LIVES: u64 = 3;

/// Longest wait for a delivery.
const GUARD: Duration = Duration::from_secs(120);

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The children: this very program, started again for one of two roles.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(role) = variable(ROLE) else { return };
    let transport = agentbus_transport_nats::open(&variable(URL).unwrap())
        .await
        .unwrap();
    let subject = variable(SUBJECT).unwrap();
    match role.as_str() {
        "publish" => {
            let first: u64 = variable(FIRST).unwrap().parse().unwrap();
            for n in first..first + NUMBERS {
                publish(&transport, &subject, n).await;
                say(&format!("{n}"));
            }
        }
        _ => consume(&transport, &subject).await,
    }
}

/// Writes a whole line at once, past the test harness.
fn say(line: &str) {
    std::io::stdout()
        .write_all(format!("#{line}\n").as_bytes())
        .unwrap();
    std::io::stdout().flush().unwrap();
}

async fn publish(transport: &Arc<dyn Transport>, subject: &str, n: u64) {
    let stamp = Stamp {
        event_id: EventId::v7(n, &[0; 10]),
        occurred_at: Timestamp::UNIX_EPOCH,
    };
    let mut envelope = Envelope::new(stamp, EventType::new("crash"));
    envelope.payload = Some(Payload::json(&n).unwrap());
    let subject = Subject::parse(&format!("{subject}.{}", n % KEYS)).unwrap();
    let message = Message::new(subject, envelope);
    transport
        .publish(Arc::new(message), PublishOptions::default())
        .await
        .unwrap();
}

async fn consume(transport: &Arc<dyn Transport>, subject: &str) {
    let mut all = transport.subscribe(durable(subject)).await.unwrap();
    while let Some(received) = all.receive().await {
        let Received::Live(delivery) = received else {
            continue;
        };
        say(&format!("{} {}", number(&delivery), delivery.attempt()));
        settle(delivery).await;
    }
}

/// Whether a number comes again after its first attempt, whoever had it: it was given back, or its
/// consumer was killed in front of that.
fn comes_again(n: u64) -> bool {
    (n % NUMBERS).is_multiple_of(GIVEN_BACK)
}

async fn settle(delivery: Delivery) {
    if delivery.attempt() == 1 && comes_again(number(&delivery)) {
        delivery.nak(Duration::ZERO).await.unwrap();
    } else {
        delivery.ack().await.unwrap();
    }
}

fn durable(subject: &str) -> Subscribe {
    let mut request = Subscribe::new(Pattern::parse(&format!("{subject}.*")).unwrap());
    request.durable = Some(subject.into());
    request.prefetch = 16;
    request
}

fn number(delivery: &Delivery) -> u64 {
    let payload = delivery.envelope().payload.as_ref();
    payload.unwrap().decode().unwrap()
}

/// One child, and what it says.
struct Life {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Life {
    fn start(role: &str, url: &str, subject: &str, first: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(ROLE, role)
            .env(URL, url)
            .env(SUBJECT, subject)
            .env(FIRST, first.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Reads lines up to a number of them, then kills the child and reads what it had said.
    fn until(mut self, count: u64) -> Vec<String> {
        let mut said = Vec::new();
        while (said.len() as u64) < count {
            let Some(line) = self.line() else { break };
            said.push(line);
        }
        self.child.kill().unwrap();
        while let Some(line) = self.line() {
            said.push(line);
        }
        self.child.wait().unwrap();
        said
    }

    /// The next whole line that is ours.
    fn line(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 || !line.ends_with('\n') {
                return None;
            }
            // The harness may have begun the line with words of its own.
            if let Some((_, line)) = line.trim_end().rsplit_once('#') {
                return Some(line.to_owned());
            }
        }
    }
}

/// What a run has seen so far.
#[derive(Default)]
struct Seen {
    seed: u64,
    /// The attempts of each number, as they came.
    attempts: BTreeMap<u64, Vec<u32>>,
    /// The newest number of each key of each publisher that came under the first attempt.
    newest: BTreeMap<(u64, u64), u64>,
    /// What killed consumers were handed last, each of which may be taken back once.
    last: BTreeSet<u64>,
}

impl Seen {
    fn note(&mut self, lines: &[String]) {
        for line in lines {
            let (n, attempt) = line.split_once(' ').unwrap();
            self.deliver(n.parse().unwrap(), attempt.parse().unwrap());
        }
        let last = lines.last().and_then(|line| line.split_once(' '));
        self.last
            .extend(last.map(|(n, _)| n.parse::<u64>().unwrap()));
    }

    fn deliver(&mut self, n: u64, attempt: u32) {
        let seed = self.seed;
        let attempts = self.attempts.entry(n).or_default();
        if attempts.last() == Some(&attempt) && self.last.remove(&n) {
            return;
        }
        assert!(
            attempts.last().is_none_or(|last| *last < attempt),
            "seed {seed}: {n} came as attempt {attempt} after {attempts:?}"
        );
        attempts.push(attempt);
        if attempt == 1 {
            let key = (n / NUMBERS, n % KEYS);
            let before = self.newest.insert(key, n);
            assert!(
                before.is_none_or(|before| before < n),
                "seed {seed}: {n} came for the first time after {before:?} of its key"
            );
        }
    }

    /// Whether more of a number is to come: it was not seen yet, or it has to come again.
    fn is_open(&self, n: u64) -> bool {
        let last = self.attempts.get(&n).and_then(|attempts| attempts.last());
        last.is_none_or(|last| *last == 1 && comes_again(n))
    }
}

async fn run(url: &str, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let subject = format!("acp.v1.events.crash.s{seed}");
    let transport = agentbus_transport_nats::open(url).await.unwrap();
    // The durable name exists before the first number is published.
    drop(transport.subscribe(durable(&subject)).await.unwrap());
    let mut acknowledged = BTreeSet::new();
    let mut seen = Seen {
        seed,
        ..Seen::default()
    };
    for life in 0..LIVES {
        let publisher = Life::start("publish", url, &subject, life * NUMBERS);
        let consumer = Life::start("consume", url, &subject, 0);
        let sent = random.random_range(1..60);
        // Never more than there is, or the consumer would not live to be killed.
        let read = random.random_range(1..=sent);
        let consuming = tokio::task::spawn_blocking(move || consumer.until(read));
        let publishing = tokio::task::spawn_blocking(move || publisher.until(sent));
        let said = publishing.await.unwrap();
        assert!(
            said.len() as u64 >= sent,
            "seed {seed}: the publisher ended by itself"
        );
        acknowledged.extend(said.iter().map(|line| line.parse::<u64>().unwrap()));
        seen.note(&consuming.await.unwrap());
    }
    drain(&transport, &subject, &acknowledged, &mut seen).await;
    transport.close(Duration::ZERO).await;
}

/// Receives until every acknowledged number has been seen as often as it has to be.
async fn drain(
    transport: &Arc<dyn Transport>,
    subject: &str,
    acknowledged: &BTreeSet<u64>,
    seen: &mut Seen,
) {
    let mut all = transport.subscribe(durable(subject)).await.unwrap();
    let missing = |seen: &Seen| acknowledged.iter().copied().find(|n| seen.is_open(*n));
    while let Some(n) = missing(seen) {
        let received = tokio::time::timeout(GUARD, all.receive()).await;
        let Ok(Some(received)) = received else {
            let attempts = seen.attempts.get(&n);
            panic!("{subject}: {n} was acknowledged and is lost; it came as {attempts:?}");
        };
        if let Received::Live(delivery) = received {
            seen.deliver(number(&delivery), delivery.attempt());
            settle(delivery).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_whoever_is_killed() {
    let number = |name, default| variable(name).map_or(default, |text| text.parse().unwrap());
    let (first, runs) = (
        number("AGENTBUS_CRASH_SEED", 1),
        number("AGENTBUS_CRASH_RUNS", 5),
    );
    let server = Server::start();
    let url = format!("{}?ack_wait=1s", server.jetstream());
    for seed in first..first + runs {
        run(&url, seed).await;
    }
}
