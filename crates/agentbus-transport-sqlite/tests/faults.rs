//! Disks that are full, files that are damaged, clocks that jump, and processes that come second.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]
#![allow(
    clippy::print_stdout,
    reason = "a child says on its standard output how far it is"
)]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use agentbus_protocol::Pattern;
use agentbus_transport::{Start, Subscribe, Transport, TransportError, dead_letter};
use agentbus_transport_sqlite::{Options, Retention, SqliteTransport};
use common::{durable, number, open, publish, receive, try_open};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const TASK: &str = "AGENTBUS_FAULT_TASK";
const DIR: &str = "AGENTBUS_FAULT_DIR";

/// The number that kills whoever handles it.
const POISON: u64 = 13;

#[test]
#[ignore = "the other tests run it as their child process"]
fn child() {
    let Ok(task) = std::env::var(TASK) else {
        return;
    };
    let dir = std::env::var(DIR).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let dir = Path::new(&dir);
        match task.as_str() {
            "hold" => hold(dir).await,
            "fill" => fill(dir).await,
            _ => handle_poison(dir).await,
        }
    });
}

/// Runs the child through a shell that does `before`, where something can only be set there.
fn start(task: &str, dir: &Path, before: &str) -> Child {
    let exe = std::env::current_exe().unwrap();
    Command::new("sh")
        .args(["-c", &format!("{before} exec \"$0\" \"$@\"")])
        .arg(exe)
        .args(["--exact", "child", "--ignored", "--nocapture", "--quiet"])
        .env(TASK, task)
        .env(DIR, dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until a child says a line that begins like this, and returns the rest of it.
fn hear(child: &mut BufReader<impl Read>, wanted: &str) -> String {
    for line in child.lines() {
        if let Some(rest) = line.unwrap().strip_prefix(wanted) {
            return rest.trim().to_owned();
        }
    }
    panic!("the child never said `{wanted}`");
}

async fn hold(dir: &Path) {
    let log = open(dir).await;
    publish(&log, "held", 1).await.unwrap();
    println!("holding");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn the_second_process_is_told_who_was_first() {
    let dir = common::directory();
    let mut first = start("hold", dir.path(), "");
    let mut said = BufReader::new(first.stdout.take().unwrap());
    hear(&mut said, "holding");
    let error = try_open(dir.path()).await.unwrap_err();
    assert!(matches!(error, TransportError::InUse { .. }), "{error}");
    let holder = format!("process {}", first.id());
    assert!(error.to_string().contains(&holder), "{error}");
    // A lock does not outlive its process, however that ended.
    first.kill().unwrap();
    first.wait().unwrap();
    let log = open(dir.path()).await;
    assert_eq!(publish(&log, "held", 2).await.unwrap().sequence, Some(2));
}

#[tokio::test]
async fn one_process_cannot_open_a_log_twice_by_two_names() {
    let dir = common::directory();
    let _first = open(dir.path()).await;
    let link = dir.path().join("other.db");
    std::os::unix::fs::symlink(dir.path().join("bus.db"), &link).unwrap();
    let error = SqliteTransport::open(Options::new(link)).await.unwrap_err();
    assert!(matches!(error, TransportError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("this very process"), "{error}");
}

/// Publishes until the file may not grow, then until it may again.
async fn fill(dir: &Path) {
    let log = open(dir).await;
    let mut kept = all_of(&log).await;
    let whole = getrlimit(Resource::Fsize);
    let small = Rlimit {
        current: Some(1024 * 1024),
        maximum: whole.maximum,
    };
    setrlimit(Resource::Fsize, small).unwrap();
    let mut taken = 0;
    let error = loop {
        match publish_large(&log, taken).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 10_000, "the limit has no effect");
    };
    assert!(error.is_retryable(), "{error}");
    setrlimit(Resource::Fsize, whole).unwrap();
    for n in taken..taken + 20 {
        publish_large(&log, n).await.unwrap();
    }
    for n in 0..taken + 20 {
        let delivery = receive(&mut kept).await;
        assert_eq!(large_number(&delivery), n);
    }
    log.close(Duration::ZERO).await;
    println!("recovered {}", taken + 20);
}

async fn publish_large(
    log: &SqliteTransport,
    n: u64,
) -> Result<agentbus_transport::Receipt, TransportError> {
    let mut message = common::message("large", n);
    let text = format!("{n} {}", "x".repeat(4000));
    message.envelope.payload = Some(agentbus_protocol::Payload::text(&text));
    log.publish(Arc::new(message), Default::default()).await
}

fn large_number(delivery: &agentbus_transport::Delivery) -> u64 {
    let payload = delivery.envelope().payload.as_ref().unwrap();
    let text: String = payload.decode().unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

async fn all_of(log: &SqliteTransport) -> agentbus_transport::Subscription {
    let mut request = Subscribe::new(Pattern::parse(">").unwrap());
    request.start = Start::Beginning;
    log.subscribe(request).await.unwrap()
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers() {
    let dir = common::directory();
    // Without the trap the system ends a process that writes beyond its limit.
    let mut child = start("fill", dir.path(), "trap '' XFSZ;");
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let kept: u64 = hear(&mut said, "recovered").parse().unwrap();
    assert!(child.wait().unwrap().success());
    let log = open(dir.path()).await;
    let mut all = all_of(&log).await;
    for n in 0..kept {
        assert_eq!(large_number(&receive(&mut all).await), n);
    }
}

/// Writes a log of 200 messages and closes it.
async fn written(dir: &Path) {
    let log = open(dir).await;
    for n in 0..200 {
        publish(&log, "written", n).await.unwrap();
    }
    log.close(Duration::ZERO).await;
}

#[tokio::test]
async fn a_flipped_bit_costs_one_message_and_is_told() {
    let dir = common::directory();
    written(dir.path()).await;
    let path = dir.path().join("bus.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let payload = br#""payload":77"#;
    let mut found = bytes.windows(payload.len() + 1).enumerate();
    let at = found
        .find(|(_, window)| window.starts_with(payload) && !window[payload.len()].is_ascii_digit());
    let (at, _) = at.expect("the payload of number 77 is in the file as it is");
    bytes[at + payload.len() - 1] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let log = open(dir.path()).await;
    let mut all = all_of(&log).await;
    let mut missed = 0;
    for n in (0..200).filter(|n| *n != 77) {
        let delivery = receive(&mut all).await;
        assert_eq!(number(&delivery), n);
        missed += delivery.missed();
    }
    assert_eq!(missed, 1);
}

#[tokio::test]
async fn a_damaged_page_is_found_before_anything_is_served() {
    let dir = common::directory();
    written(dir.path()).await;
    let path = dir.path().join("bus.db");
    let whole = std::fs::read(&path).unwrap();
    let pages = whole.len() / 4096;
    assert!(pages > 10, "the log has {pages} pages");
    let mut found = 0;
    for page in 0..pages {
        let mut bytes = whole.clone();
        bytes[page * 4096..][..64].fill(0xA5);
        std::fs::write(&path, bytes).unwrap();
        match try_open(dir.path()).await {
            Err(error @ TransportError::Damaged { .. }) => {
                assert!(error.to_string().contains("bus.db"), "{error}");
                found += 1;
            }
            Err(error) => panic!("page {page}: {error}"),
            // A page that is in no use may hold anything.
            Ok(log) => drop(log.close(Duration::ZERO).await),
        }
    }
    assert!(found + 2 >= pages, "{found} of {pages} were found");
}

#[tokio::test]
async fn the_file_of_another_program_is_left_alone() {
    let dir = common::directory();
    let path = dir.path().join("bus.db");
    std::fs::write(&path, "these are my notes, do not touch them").unwrap();
    let error = try_open(dir.path()).await.unwrap_err();
    assert!(matches!(error, TransportError::Damaged { .. }), "{error}");
    let notes = std::fs::read_to_string(&path).unwrap();
    assert_eq!(notes, "these are my notes, do not touch them");
}

#[tokio::test]
async fn a_place_where_nothing_can_be_written_is_named() {
    for path in ["/sys/bus.db", "/no/such/directory/bus.db"] {
        let error = SqliteTransport::open(Options::new(path)).await.unwrap_err();
        assert!(matches!(error, TransportError::Carrier { .. }), "{error}");
        assert!(error.to_string().contains(path), "{error}");
        assert!(error.to_string().contains("directory"), "{error}");
    }
}

/// A log whose clock the test moves.
async fn with_clock(dir: &Path) -> (SqliteTransport, Arc<AtomicI64>) {
    let offset = Arc::new(AtomicI64::new(0));
    let moved = Arc::clone(&offset);
    let clock = move || {
        let by = moved.load(Ordering::SeqCst);
        let span = Duration::from_secs(by.unsigned_abs());
        let now = SystemTime::now();
        if by < 0 { now - span } else { now + span }
    };
    let options = Options::new(dir.join("bus.db")).clock(clock);
    (SqliteTransport::open(options).await.unwrap(), offset)
}

#[tokio::test]
async fn a_clock_that_jumps_loses_nothing_and_keeps_the_order() {
    let dir = common::directory();
    let (log, offset) = with_clock(dir.path()).await;
    let mut kept = log.subscribe(durable("jump", "d")).await.unwrap();
    for (n, jump) in (0..).zip([0, 3600, -3600, 7200, -86_400]) {
        offset.store(jump, Ordering::SeqCst);
        publish(&log, "jump", n).await.unwrap();
    }
    for n in 0..5 {
        let delivery = receive(&mut kept).await;
        assert_eq!((number(&delivery), delivery.attempt()), (n, 1));
        delivery.ack().await.unwrap();
    }
    // Times never go back along the log, so a search by time finds a place without a gap.
    let mut request = durable("jump", "by-time");
    request.start = Start::Time(SystemTime::now() + Duration::from_secs(1800));
    let mut late = log.subscribe(request).await.unwrap();
    for n in 1..5 {
        assert_eq!(number(&receive(&mut late).await), n);
    }
}

#[tokio::test]
async fn a_delay_survives_a_restart_and_no_clock_makes_it_longer() {
    let dir = common::directory();
    let (log, _) = with_clock(dir.path()).await;
    let mut kept = log.subscribe(durable("delay", "d")).await.unwrap();
    publish(&log, "delay", 1).await.unwrap();
    let delay = Duration::from_millis(400);
    let since = std::time::Instant::now();
    receive(&mut kept).await.nak(delay).await.unwrap();
    log.close(Duration::ZERO).await;
    let (log, _) = with_clock(dir.path()).await;
    let mut kept = log.subscribe(durable("delay", "d")).await.unwrap();
    let again = receive(&mut kept).await;
    assert_eq!(again.attempt(), 2);
    assert!(since.elapsed() >= delay, "{:?}", since.elapsed());
}

async fn handle_poison(dir: &Path) {
    let log = open(dir).await;
    let mut request = durable("poison", "d");
    request.start = Start::Beginning;
    request.prefetch = 1;
    request.max_attempts = Some(3);
    let mut all = log.subscribe(request).await.unwrap();
    loop {
        let delivery = receive(&mut all).await;
        match number(&delivery) {
            POISON => std::process::abort(),
            19 => break delivery.ack().await.unwrap(),
            _ => delivery.ack().await.unwrap(),
        }
    }
    println!("handled all");
    log.close(Duration::ZERO).await;
}

#[tokio::test]
async fn a_message_that_kills_its_handler_does_so_a_bounded_number_of_times() {
    let dir = common::directory();
    let log = open(dir.path()).await;
    for n in 0..20 {
        publish(&log, "poison", n).await.unwrap();
    }
    log.close(Duration::ZERO).await;
    let mut deaths = 0;
    loop {
        let child = start("poison", dir.path(), "").wait_with_output().unwrap();
        if child.status.success() {
            break;
        }
        deaths += 1;
        assert!(deaths < 10, "the message is tried without end");
    }
    assert_eq!(deaths, 3);
    let log = open(dir.path()).await;
    let mut request = Subscribe::new(Pattern::parse("acp.v1.dlq.>").unwrap());
    request.start = Start::Beginning;
    let mut letters = log.subscribe(request).await.unwrap();
    let letter = receive(&mut letters).await;
    assert_eq!(number(&letter), POISON);
    let attempts: u32 = letter
        .envelope()
        .metadata
        .get(dead_letter::ATTEMPTS)
        .unwrap();
    assert_eq!(attempts, 3);
}

/// A log that keeps little.
async fn small(dir: &Path, retention: Retention) -> SqliteTransport {
    let options = Options::new(dir.join("bus.db")).retention(retention);
    SqliteTransport::open(options).await.unwrap()
}

/// The numbers that are still in a log.
async fn kept_in(log: &SqliteTransport, last: u64) -> Vec<u64> {
    let mut all = all_of(log).await;
    let mut seen = Vec::new();
    while seen.last() != Some(&last) {
        seen.push(number(&receive(&mut all).await));
    }
    seen
}

#[tokio::test]
async fn settled_messages_beyond_the_number_are_forgotten() {
    let dir = common::directory();
    let retention = Retention {
        messages: 10,
        ..Retention::default()
    };
    let log = small(dir.path(), retention).await;
    for n in 0..50 {
        publish(&log, "count", n).await.unwrap();
    }
    let kept = kept_in(&log, 49).await;
    // What the newest commit made too much goes with the next one.
    assert!((10..=11).contains(&kept.len()), "{kept:?}");
    assert!(kept.is_sorted());
}

#[tokio::test]
async fn what_a_durable_name_has_not_settled_is_kept() {
    let dir = common::directory();
    let retention = Retention {
        messages: 5,
        age: Duration::ZERO,
        ..Retention::default()
    };
    let log = small(dir.path(), retention).await;
    drop(log.subscribe(durable("kept", "d")).await.unwrap());
    for n in 0..40 {
        publish(&log, "kept", n).await.unwrap();
    }
    let mut kept = log.subscribe(durable("kept", "d")).await.unwrap();
    for n in 0..40 {
        let delivery = receive(&mut kept).await;
        assert_eq!(number(&delivery), n);
        delivery.ack().await.unwrap();
    }
    // Settled now: two commits later they are gone.
    for n in 40..43 {
        publish(&log, "kept", n).await.unwrap();
        receive(&mut kept).await.ack().await.unwrap();
    }
    assert!(kept_in(&log, 42).await.len() < 5);
}

#[tokio::test]
async fn a_reader_that_the_log_overtakes_is_told() {
    let dir = common::directory();
    let retention = Retention {
        messages: 10,
        ..Retention::default()
    };
    let log = small(dir.path(), retention).await;
    publish(&log, "overtaken", 0).await.unwrap();
    let mut request = Subscribe::new(Pattern::parse(">").unwrap());
    request.start = Start::Beginning;
    request.prefetch = 2;
    let mut slow = log.subscribe(request).await.unwrap();
    let first = receive(&mut slow).await;
    for n in 1..100 {
        publish(&log, "overtaken", n).await.unwrap();
    }
    first.ack().await.unwrap();
    let (mut seen, mut missed, mut last) = (1, 0, 0);
    while last != 99 {
        let delivery = receive(&mut slow).await;
        assert!(
            number(&delivery) > last,
            "{} after {last}",
            number(&delivery)
        );
        last = number(&delivery);
        seen += 1;
        missed += delivery.missed();
        delivery.ack().await.unwrap();
    }
    assert!(missed > 0, "nothing was forgotten");
    assert_eq!(seen + missed, 100, "what is gone is counted");
}

#[tokio::test]
async fn old_messages_are_forgotten() {
    let dir = common::directory();
    let (log, offset) = with_clock(dir.path()).await;
    for n in 0..10 {
        publish(&log, "age", n).await.unwrap();
    }
    offset.store(8 * 24 * 3600, Ordering::SeqCst);
    for n in 10..13 {
        publish(&log, "age", n).await.unwrap();
    }
    assert_eq!(kept_in(&log, 12).await, [10, 11, 12]);
}

#[tokio::test]
async fn a_log_that_may_not_grow_refuses_and_loses_nothing() {
    let dir = common::directory();
    let retention = Retention {
        bytes: 1024 * 1024,
        ..Retention::default()
    };
    let log = small(dir.path(), retention).await;
    drop(log.subscribe(durable("large", "d")).await.unwrap());
    let mut taken = 0;
    let error = loop {
        match publish_large(&log, taken).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 10_000, "the limit has no effect");
    };
    assert!(matches!(error, TransportError::LogFull { .. }), "{error}");
    let mut kept = log.subscribe(durable("large", "d")).await.unwrap();
    for n in 0..taken {
        let delivery = receive(&mut kept).await;
        assert_eq!(large_number(&delivery), n);
        delivery.ack().await.unwrap();
    }
    // What is settled makes room; it is forgotten a part with each commit.
    let mut again = Err(error);
    for _ in 0..10 {
        again = publish_large(&log, taken).await;
        if again.is_ok() {
            break;
        }
    }
    again.unwrap();
    assert_eq!(large_number(&receive(&mut kept).await), taken);
}

#[tokio::test]
async fn a_durable_name_can_be_removed() {
    let dir = common::directory();
    let log = open(dir.path()).await;
    let kept = log.subscribe(durable("gone", "d")).await.unwrap();
    publish(&log, "gone", 1).await.unwrap();
    let error = log.remove_durable("d").await.unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
    drop(kept);
    log.remove_durable("d").await.unwrap();
    assert_eq!(log.durables(), []);
    assert!(log.remove_durable("d").await.is_err());
    log.close(Duration::ZERO).await;
    let log = open(dir.path()).await;
    assert_eq!(log.durables(), []);
}

#[tokio::test]
async fn a_removed_durable_name_lets_the_log_go() {
    let dir = common::directory();
    let retention = Retention {
        bytes: 1024 * 1024,
        ..Retention::default()
    };
    let log = small(dir.path(), retention).await;
    drop(log.subscribe(durable("large", "d")).await.unwrap());
    let mut taken = 0;
    while publish_large(&log, taken).await.is_ok() {
        taken += 1;
        assert!(taken < 10_000, "the limit has no effect");
    }
    log.remove_durable("d").await.unwrap();
    // It is forgotten a part with each commit.
    let mut again = publish_large(&log, taken).await;
    for _ in 0..10 {
        if again.is_ok() {
            break;
        }
        again = publish_large(&log, taken).await;
    }
    again.unwrap();
}

#[tokio::test]
async fn a_removal_is_finished_when_whoever_asked_has_left() {
    let dir = common::directory();
    let log = open(dir.path()).await;
    drop(log.subscribe(durable("left", "d")).await.unwrap());
    tokio::select! {
        biased;
        done = log.remove_durable("d") => panic!("it took no commit: {done:?}"),
        () = std::future::ready(()) => {}
    }
    let again = log.remove_durable("d").await.unwrap_err();
    assert!(again.to_string().contains("does not exist"), "{again}");
}

#[tokio::test]
async fn what_was_claimed_and_not_handed_out_is_a_first_attempt_after_a_close() {
    let dir = common::directory();
    let log = open(dir.path()).await;
    let mut kept = log.subscribe(durable("claimed", "d")).await.unwrap();
    for n in 0..10 {
        publish(&log, "claimed", n).await.unwrap();
    }
    let first = receive(&mut kept).await;
    log.close(Duration::ZERO).await;
    assert!(kept.receive().await.is_none());
    drop(first);
    let log = open(dir.path()).await;
    let mut kept = log.subscribe(durable("claimed", "d")).await.unwrap();
    for n in 0..10 {
        let delivery = receive(&mut kept).await;
        assert_eq!(number(&delivery), n);
        assert_eq!(delivery.attempt(), if n == 0 { 2 } else { 1 });
        delivery.ack().await.unwrap();
    }
}
