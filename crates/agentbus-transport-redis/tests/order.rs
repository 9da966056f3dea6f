//! Nothing is lost, doubled or overtaken, whatever the line between a publisher and the server does.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use agentbus_transport::{PublishOptions, Start, Transport};
use agentbus_transport_redis::RedisTransport;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Value};

use support::Server;
use support::line::Line;
use support::messages::{all_of, message, number, receive, within};

/// Each is a run of its own.
const SEEDS: std::ops::Range<u64> = 1..9;

const SCRIPT: &str = concat!(
    include_str!("../src/scripts/common.lua"),
    include_str!("../src/scripts/publish.lua"),
);

/// Batches of one run of the script.
const BATCHES: u64 = 60;

/// A batch as a client sends it; each has one message, which is its number.
fn batch(number: u64, follows: bool, version: &str) -> Cmd {
    let mut cmd = redis::cmd("EVAL");
    cmd.arg(SCRIPT).arg(0).arg("agentbus:").arg("client");
    cmd.arg(number).arg(u8::from(follows)).arg(version);
    cmd.arg(&["1000", "1000", "0", "1000", "1", "1"]);
    cmd.arg("l").arg("channel").arg(number);
    cmd
}

async fn connect(server: &Server) -> MultiplexedConnection {
    let client = redis::Client::open(server.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

async fn ask(raw: &mut MultiplexedConnection, cmd: &Cmd) -> Value {
    cmd.query_async(raw).await.unwrap()
}

/// What the log holds.
async fn logged(raw: &mut MultiplexedConnection) -> Vec<u64> {
    let mut cmd = redis::cmd("XRANGE");
    cmd.arg("agentbus:log").arg("-").arg("+");
    let entries: Vec<(String, Vec<String>)> = cmd.query_async(raw).await.unwrap();
    let numbers = entries.iter().map(|(_, fields)| fields[3].parse().unwrap());
    numbers.collect()
}

fn is_word(answer: &Value, word: &str) -> bool {
    matches!(answer, Value::BulkString(said) if said == word.as_bytes())
}

#[tokio::test]
async fn the_script_takes_every_batch_once_and_in_order() {
    let server = Server::with(&[]);
    let mut raw = connect(&server).await;
    for seed in SEEDS {
        let mut random = StdRng::seed_from_u64(seed);
        let () = redis::cmd("FLUSHALL").query_async(&mut raw).await.unwrap();
        // The oldest that has no answer, the answers that were given, and what older connections
        // may still bring at any time.
        let (mut oldest, mut answers) = (1, BTreeMap::new());
        let mut strays = Vec::new();
        while oldest <= BATCHES {
            let version = if random.random_ratio(1, 8) { "old" } else { "" };
            for at in 0..2 {
                let number = oldest + at;
                strays.push((number, at > 0, version));
                if random.random_ratio(1, 3) {
                    continue;
                }
                let answer = ask(&mut raw, &batch(number, at > 0, version)).await;
                let turned_away = is_word(&answer, "stale") || is_word(&answer, "early");
                if !turned_away {
                    assert!(matches!(answer, Value::Array(_)), "{number}: {answer:?}");
                    let first = answers.entry(number).or_insert_with(|| answer.clone());
                    assert_eq!(*first, answer, "{number} was answered in two ways");
                }
            }
            // An answer may be lost on its way; the client learns of none behind one it misses.
            while answers.contains_key(&oldest) && random.random_ratio(2, 3) {
                oldest += 1;
            }
            for _ in 0..random.random_range(0..3) {
                let at = random.random_range(0..strays.len());
                let (number, follows, version) = strays.swap_remove(at);
                let answer = ask(&mut raw, &batch(number, follows, version)).await;
                if matches!(answer, Value::Array(_)) {
                    let first = answers.entry(number).or_insert_with(|| answer.clone());
                    assert_eq!(*first, answer, "{number} was taken twice");
                }
            }
        }
        let taken = logged(&mut raw).await;
        assert!(taken.len() as u64 >= BATCHES, "seed {seed}: {taken:?}");
        let all: Vec<_> = (1..=taken.len() as u64).collect();
        assert_eq!(taken, all, "seed {seed}");
    }
}

#[tokio::test]
async fn a_batch_waits_for_the_one_before_it() {
    let server = Server::with(&[]);
    let mut raw = connect(&server).await;
    assert!(is_word(&ask(&mut raw, &batch(2, true, "")).await, "early"));
    // Routes that have changed under the first do not let the second pass.
    assert!(is_word(
        &ask(&mut raw, &batch(1, false, "old")).await,
        "stale"
    ));
    assert!(is_word(&ask(&mut raw, &batch(2, true, "")).await, "early"));
    let first = ask(&mut raw, &batch(1, false, "")).await;
    let second = ask(&mut raw, &batch(2, true, "")).await;
    // Both are remembered, also when the routes have changed since.
    assert_eq!(ask(&mut raw, &batch(1, false, "old")).await, first);
    assert_eq!(ask(&mut raw, &batch(2, true, "old")).await, second);
    // One that was given up does not stop what comes after it, and is not taken any more then.
    ask(&mut raw, &batch(4, false, "")).await;
    let late = |n| batch(n, false, "");
    assert!(is_word(&ask(&mut raw, &late(3)).await, "late"));
    ask(&mut raw, &batch(5, true, "")).await;
    for n in 1..4 {
        assert!(is_word(&ask(&mut raw, &late(n)).await, "late"));
    }
    assert_eq!(logged(&mut raw).await, [1, 2, 4, 5]);
}

/// Publishers of one transport, and messages of each.
const PUBLISHERS: u64 = 4;
const MESSAGES: u64 = 400;

/// Publishes in order, with some of them under way at a time, and forgets every seventh.
async fn publish(transport: Arc<RedisTransport>, publisher: u64) {
    let mut under_way = std::collections::VecDeque::new();
    for n in 0..MESSAGES {
        let message = message("order", publisher * MESSAGES + n);
        let sent = transport.publish(message, PublishOptions::default());
        if n % 7 != 6 {
            under_way.push_back(sent);
        }
        if under_way.len() > 50 {
            let oldest = under_way.pop_front().unwrap();
            within("an outcome", oldest).await.unwrap();
        }
    }
    for sent in under_way {
        within("an outcome", sent).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_keep_their_order_over_a_line_that_breaks() {
    let server = Server::with(&[]);
    for seed in SEEDS {
        let line = Line::to(server.port(), seed).await;
        let name = format!("order-{seed}");
        let url = |port: u16| format!("redis://127.0.0.1:{port}?namespace={name}");
        let straight = RedisTransport::connect(&url(server.port())).await.unwrap();
        let broken = Arc::new(RedisTransport::connect(&url(line.port())).await.unwrap());
        line.begin_to_break();
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|publisher| tokio::spawn(publish(Arc::clone(&broken), publisher)))
            .collect();
        // Routes change under batches, too, and the publishers' own transport may know of it between
        // two of them.
        for n in 0..20 {
            let mut request = all_of("order");
            request.group = Some(format!("group-{n}").into());
            let joining = if n % 2 == 0 { &straight } else { &*broken };
            drop(joining.subscribe(request).await.unwrap());
        }
        for publisher in publishers {
            publisher.await.unwrap();
        }
        assert!(line.breaks() > 0, "seed {seed}: the line never broke");
        let mut request = all_of("order");
        request.durable = Some("all".into());
        request.start = Start::Beginning;
        let mut all = straight.subscribe(request).await.unwrap();
        let mut next: BTreeMap<u64, u64> = BTreeMap::new();
        for _ in 0..PUBLISHERS * MESSAGES {
            let delivery = receive(&mut all).await;
            let n = number(&delivery);
            let expected = next.entry(n / MESSAGES).or_default();
            assert_eq!(n % MESSAGES, *expected, "seed {seed}: of {}", n / MESSAGES);
            *expected += 1;
            delivery.ack().await.unwrap();
        }
    }
}
