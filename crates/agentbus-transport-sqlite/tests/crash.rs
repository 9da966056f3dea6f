//! `kill -9` at random points, again and again on the same log.
//!
//! A child process publishes to a log, consumes from it, or both, and says line by line what was
//! acknowledged to it. It is killed after a random number of lines, and the next child goes on with
//! the same file. In the end everything that was said must fit together: nothing acknowledged is
//! lost, nothing settled comes back, every redelivery has a new number, and each key keeps its order.
//!
//! `AGENTBUS_CRASH_RUNS` sets how many logs there are, `AGENTBUS_CRASH_SEED` the first seed;
//! `cargo xtask crash` makes 200.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]
#![allow(
    clippy::print_stdout,
    reason = "the child says on its standard output what was acknowledged to it"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use agentbus_transport::{Message, Priority, PublishOptions, Transport};
use agentbus_transport_sqlite::SqliteTransport;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Kills on each log, one after the other, and logs where nothing else is said.
const KILLS: u64 = 20;
const LOGS: u64 = 10;

/// Lines that the test harness of a child says before the child does.
const HARNESS_LINES: usize = 3;

/// Publishers of one child, each with a key of its own.
const KEYS: u64 = 4;

/// The signal that kills a child.
const SIGKILL: i32 = 9;

const TASK: &str = "AGENTBUS_CRASH_TASK";
const DIR: &str = "AGENTBUS_CRASH_DIR";
const BASE: &str = "AGENTBUS_CRASH_BASE";

/// What a child does. All of them are the store's process too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Publish,
    Consume,
    Both,
    /// Consumes until nothing is left, and ends by itself.
    Drain,
}

const TASKS: [Task; 4] = [Task::Publish, Task::Consume, Task::Both, Task::Drain];

#[test]
#[ignore = "the other tests run it as their child process"]
fn child() {
    let Ok(task) = std::env::var(TASK) else {
        return;
    };
    let task = TASKS.into_iter().find(|it| format!("{it:?}") == task);
    let dir = std::env::var(DIR).unwrap();
    let base = std::env::var(BASE).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(work(task.unwrap(), Path::new(&dir), base));
}

async fn work(task: Task, dir: &Path, base: u64) {
    let log = Arc::new(common::open(dir).await);
    let mut publishers = Vec::new();
    if task != Task::Consume && task != Task::Drain {
        for key in 0..KEYS {
            publishers.push(tokio::spawn(publish(Arc::clone(&log), key, base)));
        }
    }
    match task {
        Task::Publish => std::future::pending().await,
        Task::Consume | Task::Both => consume(&log, None).await,
        Task::Drain => {
            let last = common::publish(&log, "crash.end", u64::MAX).await.unwrap();
            consume(&log, last.sequence).await;
            log.close(Duration::ZERO).await;
        }
    }
}

/// Publishes ascending numbers under one key and says each that was acknowledged.
async fn publish(log: Arc<SqliteTransport>, key: u64, base: u64) {
    for n in base.. {
        let mut message: Message = common::message(&format!("crash.{key}"), key * 1_000_000 + n);
        // Two of the keys have lanes of their own; order is kept within a key all the same.
        message.priority = [Priority::Normal, Priority::High][usize::from(key == 0)];
        let sent = log.publish(Arc::new(message), PublishOptions::default());
        sent.await.unwrap();
        say(&format!("published {key} {n}"));
    }
}

/// Takes one after the other, gives some back, and says what it got and what was settled.
async fn consume(log: &SqliteTransport, until: Option<u64>) {
    let mut request = common::durable("crash.*", "consumer");
    request.start = agentbus_transport::Start::Beginning;
    request.prefetch = 16;
    request.max_attempts = Some(1000);
    let mut all = log.subscribe(request).await.unwrap();
    let mut random = StdRng::seed_from_u64(until.unwrap_or(7));
    let mut ended = false;
    loop {
        if ended && log.durables().iter().all(|durable| durable.unsettled == 0) {
            return;
        }
        let delivery = common::receive(&mut all).await;
        let number = common::number(&delivery);
        if number == u64::MAX {
            ended |= delivery.sequence() == until;
            delivery.ack().await.unwrap();
            continue;
        }
        let name = format!("{} {}", number / 1_000_000, number % 1_000_000);
        let attempt = delivery.attempt();
        say(&format!("got {name} {attempt}"));
        if random.random_bool(0.1) {
            delivery.nak(Duration::ZERO).await.unwrap();
            say(&format!("given {name} {attempt}"));
        } else {
            delivery.ack().await.unwrap();
            say(&format!("settled {name}"));
        }
    }
}

/// One write for each line, so that a kill cuts none in two.
fn say(line: &str) {
    let mut stdout = std::io::stdout();
    let written = stdout.write_all(format!("{line}\n").as_bytes());
    // Once the parent has stopped listening, nothing that happens counts any more.
    if written.and_then(|()| stdout.flush()).is_err() {
        std::process::abort();
    }
}

/// What all children of one log have said.
#[derive(Debug, Default)]
struct Story {
    published: BTreeSet<(u64, u64)>,
    /// The last attempt of each message.
    got: BTreeMap<(u64, u64), u32>,
    settled: BTreeSet<(u64, u64)>,
    /// The attempt at which each message was last given back.
    given: BTreeMap<(u64, u64), u32>,
    /// The last message of each key that came for the first time.
    newest: BTreeMap<u64, u64>,
    redelivered: usize,
}

impl Story {
    fn hear(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        let numbers: Vec<u64> = words[1..].iter().filter_map(|it| it.parse().ok()).collect();
        match (words[0], numbers.as_slice()) {
            ("published", [key, n]) => drop(self.published.insert((*key, *n))),
            ("settled", [key, n]) => drop(self.settled.insert((*key, *n))),
            ("given", [key, n, attempt]) => {
                self.given.insert((*key, *n), *attempt as u32);
            }
            ("got", [key, n, attempt]) => self.delivered((*key, *n), *attempt as u32),
            // The test harness of the child says something, too.
            _ => {}
        }
    }

    fn delivered(&mut self, message: (u64, u64), attempt: u32) {
        assert!(
            !self.settled.contains(&message),
            "{message:?} came back after it was settled"
        );
        match self.got.insert(message, attempt) {
            Some(last) => {
                assert!(
                    attempt > last,
                    "{message:?}: attempt {attempt} after {last}"
                );
                self.redelivered += 1;
            }
            None => {
                let newest = self.newest.insert(message.0, message.1);
                assert!(
                    newest.is_none_or(|newest| newest < message.1),
                    "{message:?} came after {newest:?}"
                );
            }
        }
    }
}

fn start(task: Task, dir: &Path, base: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture", "--quiet"])
        .env(TASK, format!("{task:?}"))
        .env(DIR, dir)
        .env(BASE, base.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Listens to a child for so many lines, kills it, and hears what it had said by then. Returns how
/// it ended.
fn run(mut child: Child, lines: usize, story: &mut Story) -> ExitStatus {
    let said = BufReader::new(child.stdout.take().unwrap());
    for (number, line) in said.lines().enumerate() {
        story.hear(&line.unwrap());
        if number + 1 == lines {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap()
}

fn survive(seed: u64) {
    let (mut wanted, mut consumers) = (0, 0);
    let dir = common::directory();
    let mut random = StdRng::seed_from_u64(seed);
    let mut story = Story::default();
    for kill in 0..KILLS {
        let task = match kill % 4 {
            0 => Task::Publish,
            2 => Task::Consume,
            _ => Task::Both,
        };
        // A child that has nothing to consume would say nothing; before the first line there is
        // the harness's own, so a kill at once is a kill while the log is opened.
        let lines = match random.random_range(0..8) {
            0 => 1,
            _ if task == Task::Consume => random.random_range(2..20),
            _ => random.random_range(2..120),
        };
        let ended = run(start(task, dir.path(), kill * 10_000), lines, &mut story);
        match task {
            Task::Publish => wanted += lines.saturating_sub(HARNESS_LINES),
            _ => consumers += 1,
        }
        // Only who waits for what never comes gives up by itself.
        assert!(
            ended.signal() == Some(SIGKILL) || task == Task::Consume,
            "seed {seed}: {task:?} ended by itself: {ended}"
        );
    }
    let drain = start(Task::Drain, dir.path(), 0);
    let ended = run(drain, usize::MAX, &mut story);
    assert!(ended.success(), "seed {seed}: the last one failed: {ended}");
    check(seed, &story, wanted, consumers);
}

/// Everything that was said fits together.
fn check(seed: u64, story: &Story, wanted: usize, consumers: usize) {
    let got: BTreeSet<_> = story.got.keys().copied().collect();
    let lost: Vec<_> = story.published.difference(&got).collect();
    assert!(
        lost.is_empty(),
        "seed {seed}: acknowledged and lost: {lost:?}"
    );
    let open: Vec<_> = got.difference(&story.settled).collect();
    // A settlement can be on the disk without having been said: one of each consumer that was
    // killed, since it takes one after the other.
    assert!(
        open.len() <= consumers,
        "seed {seed}: never settled by {consumers} consumers: {open:?}"
    );
    let published = story.published.len();
    assert!(
        published >= wanted && published > 100,
        "seed {seed}: {published} published where {wanted} were heard"
    );
    for (message, given) in &story.given {
        assert!(
            story.got[message] > *given,
            "seed {seed}: {message:?} was given back at attempt {given} and never came again"
        );
    }
    assert!(
        story.redelivered >= story.given.len() && !story.given.is_empty(),
        "seed {seed}: {} came again, {} were given back",
        story.redelivered,
        story.given.len()
    );
}

#[test]
fn nothing_acknowledged_is_lost_however_often_it_is_killed() {
    let number = |name: &str, usual: u64| {
        let given = std::env::var(name).ok();
        given.map_or(usual, |text| text.parse().unwrap())
    };
    let first = number("AGENTBUS_CRASH_SEED", 0);
    let seeds = first..first + number("AGENTBUS_CRASH_RUNS", LOGS);
    std::thread::scope(|scope| {
        for half in 0..2 {
            let seeds = seeds.clone();
            scope.spawn(move || seeds.filter(|seed| seed % 2 == half).for_each(survive));
        }
    });
}
