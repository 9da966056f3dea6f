//! Clients with equal ids, workers that answer when they like and are killed at random, and a
//! model of what each client may hear. `cargo xtask soak stdio` lets it run for five minutes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::harness::*;

const CLIENTS: u64 = 8;

/// Ids that every client uses; one is used again as soon as it has been answered.
const IDS: u64 = 12;

/// Sessions that all clients share.
const SESSIONS: u64 = 5;

/// What a client waits for: by id, the text that only the right answer carries.
type Model = HashMap<u64, String>;

#[derive(Debug, Default)]
struct Count {
    results: usize,
    errors: usize,
}

fn duration() -> Duration {
    let seconds = std::env::var("AGENTBUS_SOAK_S").ok();
    Duration::from_secs(seconds.and_then(|text| text.parse().ok()).unwrap_or(4))
}

fn seed() -> u64 {
    let seed = std::env::var("AGENTBUS_SOAK_SEED").ok();
    seed.and_then(|text| text.parse().ok())
        .unwrap_or_else(rand::random)
}

/// A request that is answered at once or after up to 20 ms, with a text of its own.
fn request(random: &mut StdRng, id: u64, text: &str) -> Value {
    let mut request = json!({ "id": id, "method": "tagged", "params": { "text": text } });
    if random.random_bool(0.5) {
        request["params"]["ms"] = json!(random.random_range(0..20));
    }
    if random.random_bool(0.5) {
        request["sessionId"] = json!(format!("s{}", random.random_range(0..SESSIONS)));
    }
    request
}

/// Sends and hears until the time is over, then hears the rest.
fn run_client(mut client: Client, number: u64, seed: u64, end: Instant) -> Count {
    let mut random = StdRng::seed_from_u64(seed ^ number);
    let (mut model, mut count, mut minted) = (Model::new(), Count::default(), 0);
    loop {
        let free: Vec<u64> = (0..IDS).filter(|id| !model.contains_key(id)).collect();
        let goes_on = Instant::now() < end;
        if goes_on && !free.is_empty() && (model.is_empty() || random.random_bool(0.6)) {
            let id = free[random.random_range(0..free.len())];
            minted += 1;
            let text = format!("{number}/{minted}");
            client.send(&request(&mut random, id, &text).to_string());
            model.insert(id, text);
        } else if model.is_empty() {
            return count;
        } else {
            check(&client.next(), &mut model, &mut count);
        }
    }
}

fn check(answer: &Value, model: &mut Model, count: &mut Count) {
    let id = answer["id"]
        .as_u64()
        .unwrap_or_else(|| panic!("a strange id: {answer}"));
    let text = model
        .remove(&id)
        .unwrap_or_else(|| panic!("nobody asked: {answer}"));
    match answer.get("result") {
        Some(result) => {
            assert_eq!(result, &json!(text), "somebody else's answer");
            count.results += 1;
        }
        None => {
            assert_eq!(answer["error"]["data"]["retryable"], true, "{answer}");
            count.errors += 1;
        }
    }
}

#[test]
fn v26_v27_no_answer_crosses_and_none_is_lost_while_workers_are_killed() {
    let seed = seed();
    println!("AGENTBUS_SOAK_SEED={seed}");
    for via in SOCKETS {
        let mut bus = Bus::start(via, &one(3));
        let clients: Vec<Client> = (0..CLIENTS).map(|_| bus.client()).collect();
        let end = Instant::now() + duration() / 2;
        let (bus, over) = (&bus, AtomicBool::new(false));
        let counts: Vec<Count> = std::thread::scope(|scope| {
            scope.spawn(|| kill_at_random(bus, seed, &over));
            let running: Vec<_> = clients
                .into_iter()
                .zip(0..)
                .map(|(client, number)| scope.spawn(move || run_client(client, number, seed, end)))
                .collect();
            let counts = running
                .into_iter()
                .map(std::thread::ScopedJoinHandle::join)
                .collect::<Vec<_>>();
            over.store(true, Ordering::Release);
            counts.into_iter().map(Result::unwrap).collect()
        });
        let results: usize = counts.iter().map(|count| count.results).sum();
        let errors: usize = counts.iter().map(|count| count.errors).sum();
        println!("{via:?}: {results} results, {errors} errors");
        // How many of each depends on the machine; a run with only one kind has tested nothing.
        assert!(
            results > 0 && errors > 0,
            "{results} results, {errors} errors"
        );
    }
}

/// Asks ten things at a time, under the ids and in the sessions that all other clients use, and
/// returns how many of the answers were results.
fn run_burst(mut client: Client, number: u64) -> usize {
    const ROUNDS: usize = 300;
    let mut results = 0;
    for round in 0..ROUNDS {
        let tag = |id: u64| format!("{number}-{round}-{id}");
        for id in 0..10 {
            let params = tag(id);
            let request =
                json!({ "id": id, "method": "m", "params": params, "sessionId": format!("s{id}") });
            client.send(&request.to_string());
        }
        let mut open: Vec<u64> = (0..10).collect();
        while !open.is_empty() {
            let answer = client.next();
            let id = answer["id"].as_u64().unwrap();
            let place = open.iter().position(|open| *open == id).unwrap();
            open.swap_remove(place);
            match answer.get("result") {
                Some(result) => {
                    assert_eq!(result["echo"], tag(id), "somebody else's answer");
                    results += 1;
                }
                None => assert_eq!(answer["error"]["data"]["retryable"], true, "{answer}"),
            }
        }
    }
    results
}

#[test]
fn workers_that_come_with_the_program_answer_once_while_they_are_killed() {
    let mut bus = Bus::start(Via::Unix, &config(&[echo_pool("p", 3)], &json!({})));
    let clients: Vec<Client> = (0..4).map(|_| bus.client()).collect();
    let (bus, over) = (&bus, AtomicBool::new(false));
    let results: Vec<usize> = std::thread::scope(|scope| {
        scope.spawn(|| kill_at_random(bus, seed(), &over));
        let running: Vec<_> = clients
            .into_iter()
            .zip(0..)
            .map(|(client, number)| scope.spawn(move || run_burst(client, number)))
            .collect();
        let ended: Vec<_> = running
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect();
        over.store(true, Ordering::Release);
        ended.into_iter().map(Result::unwrap).collect()
    });
    assert!(
        results.iter().sum::<usize>() > 0,
        "no request was ever served"
    );
}

fn kill_at_random(bus: &Bus, seed: u64, over: &AtomicBool) {
    let mut random = StdRng::seed_from_u64(seed);
    while !over.load(Ordering::Acquire) {
        let workers = bus.children();
        if !workers.is_empty() {
            let victim = workers[random.random_range(0..workers.len())];
            let _ = std::process::Command::new("kill")
                .args(["-KILL", &victim.to_string()])
                .stderr(std::process::Stdio::null())
                .status();
        }
        std::thread::sleep(Duration::from_millis(random.random_range(5..60)));
    }
}
