//! Posts over HTTP, from 1, 16 and 64 clients.

use std::path::Path;
use std::time::{Duration, Instant};

use agentbus_server::RunningServer;

use super::client::Client;
use super::disk;
use super::table::{percentile, row};

/// How long each pattern is measured.
const MEASURED: Duration = Duration::from_secs(5);

/// Clients, threads that they post to, and what is asked of them.
const PATTERNS: [(usize, usize, &str); 4] = [
    (1, 1, "ratio ≥ 0.80"),
    (16, 16, "ratio ≥ 0.70, p99 ≤ 6 flushes"),
    (64, 1, "ratio ≥ 0.70, or ≥ 10 000/s"),
    (64, 64, "ratio ≥ 0.70, or ≥ 10 000/s"),
];

pub(crate) async fn all(server: &RunningServer, directory: &Path) {
    for (clients, threads, goal) in PATTERNS {
        let mut before = disk::flushes(directory);
        let (mut times, seconds) = run(server, clients, threads).await;
        // The disk changes from second to second: half of its measure is taken afterwards.
        before.extend(disk::flushes(directory));
        let mut flushes = before;
        let sum: Duration = flushes.iter().sum();
        let raw = flushes.len() as f64 / sum.as_secs_f64();
        let rate = times.len() as f64 / seconds;
        let flush = percentile(&mut flushes, 50);
        let p99 = percentile(&mut times, 99);
        row(
            &format!("REST posts, clients: {clients}, threads: {threads}"),
            &format!(
                "{rate:.0}/s, p50 {:.2} ms, p99 {p99:.2} ms = {:.1} flushes",
                percentile(&mut times, 50),
                p99 / flush,
            ),
            &format!("{clients} × {raw:.0} flushes/s, p50 {flush:.2} ms"),
            Some(rate / (raw * clients as f64)),
            goal,
        );
    }
}

async fn run(server: &RunningServer, clients: usize, threads: usize) -> (Vec<Duration>, f64) {
    let address = server.local_addr();
    let mut first = Client::connect(address).await;
    let mut ids = Vec::new();
    for n in 0..threads {
        ids.push(first.thread(&format!("{clients} {threads} {n}")).await);
    }
    let begin = Instant::now();
    let posters = (0..clients).map(|n| {
        let thread = ids[n % threads].clone();
        tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            let mut times = Vec::new();
            while begin.elapsed() < MEASURED {
                let sent = Instant::now();
                let text = "a message of a dozen words or so, as people and agents post them";
                assert_eq!(client.post(&thread, text).await, 201, "every post succeeds");
                times.push(sent.elapsed());
            }
            times
        })
    });
    let mut times = Vec::new();
    for poster in posters.collect::<Vec<_>>() {
        times.extend(poster.await.unwrap());
    }
    (times, begin.elapsed().as_secs_f64())
}
