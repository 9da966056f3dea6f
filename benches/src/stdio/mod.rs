//! `cargo xtask bench stdio`: what `agentbus stdio` costs, each figure beside bare pipes.
//!
//! The baseline is the same client and the same worker with nothing in between: on two pipes, or,
//! for the sockets, on a socket pair. Latencies are taken with everything on one processor,
//! because a wake-up of another one costs more than all the software; rates are taken free.
//! Arguments choose the rows that contain one of them.

mod inside;
mod line;
mod subject;

use line::{Load, rate, round_trips};
use subject::{Setup, Subject, Way, confine};

use crate::report::{Report, median, percentile};

/// Runs of each figure, ours and the baseline's in turn.
const RUNS: usize = 5;

/// Messages of a run.
const MESSAGES: u64 = 300_000;

const ROUNDS: u64 = 20_000;

/// Prints the rows that were asked for.
struct Bench {
    wanted: Vec<String>,
    report: Report,
}

/// The medians of interleaved runs: the bus, then its baseline.
fn compare(ours: Setup, base: Way, pinned: bool, run: impl Fn(&Subject) -> f64) -> (f64, f64) {
    let base = Setup {
        way: base,
        workers: 1,
        clients: 1,
        ..ours
    };
    let (mut a, mut b) = (Vec::new(), Vec::new());
    confine(pinned);
    for _ in 0..RUNS {
        a.push(run(&Subject::open(ours)));
        b.push(run(&Subject::open(base)));
    }
    confine(false);
    (median(a), median(b))
}

fn latency(subject: &Subject) -> f64 {
    // The first round trips start the worker and warm the caches.
    round_trips(&subject.lines[0], ROUNDS / 10);
    percentile(&mut round_trips(&subject.lines[0], ROUNDS), 50)
}

/// The same load on every line, shared out.
fn share(subject: &Subject, load: Load) -> f64 {
    let count = subject.lines.len() as u64;
    let load = Load {
        messages: load.messages / count,
        window: (load.window / count).max(1),
        ..load
    };
    rate(&subject.lines, &vec![load; subject.lines.len()])
}

impl Bench {
    /// Tells whether a row was asked for, and says that it begins: the whole takes minutes.
    fn wants(&self, what: &str) -> bool {
        let wanted =
            self.wanted.is_empty() || self.wanted.iter().any(|wanted| what.contains(wanted));
        if wanted {
            eprintln!("{what} …");
        }
        wanted
    }

    fn latencies(&mut self) {
        for (place, ours, base, against, goal) in [
            (
                "stdio",
                Way::BusStdio,
                Way::Pipes,
                "pipes",
                "≤ 3.2 × baseline",
            ),
            (
                "Unix socket",
                Way::BusUnix,
                Way::SocketPair,
                "socket pair",
                "≤ 2.1 × baseline",
            ),
            ("TCP", Way::BusTcp, Way::SocketPair, "socket pair", ""),
        ] {
            let what = format!("100 B round trip, {place}, pinned, p50 (baseline: {against})");
            if self.wants(&what) {
                let (us, raw) = compare(Setup::new(ours), base, true, latency);
                self.report.latency(&what, us, raw, goal);
            }
        }
    }

    fn rates(&mut self) {
        for (place, way, workers, goal) in [
            ("stdio", Way::BusStdio, 1, "≥ 700 k/s, ≥ 0.4 × baseline"),
            (
                "Unix socket",
                Way::BusUnix,
                1,
                "≥ 700 k/s, ≥ 0.4 × baseline",
            ),
            ("TCP", Way::BusTcp, 1, ""),
            ("Unix socket", Way::BusUnix, 4, "≥ 450 k/s"),
        ] {
            let what =
                format!("100 B, 64 in flight, {workers} worker(s), {place} (baseline: pipes)");
            if self.wants(&what) {
                let setup = Setup {
                    workers,
                    ..Setup::new(way)
                };
                let load = Load::new(MESSAGES, 100, 64);
                let (us, raw) = compare(setup, Way::Pipes, false, |subject| share(subject, load));
                self.report.rate(&what, us, raw, goal);
            }
        }
    }

    /// Eight clients with eight requests in flight each.
    fn crowd(&mut self) {
        for (what, same_ids, sessions, workers) in [
            (
                "8 clients × 8 in flight, Unix socket, ids of their own",
                false,
                false,
                1,
            ),
            (
                "8 clients × 8 in flight, Unix socket, equal ids, all replaced",
                true,
                false,
                1,
            ),
            (
                "8 clients × 8 in flight, Unix socket, a session each, 4 workers",
                false,
                true,
                4,
            ),
        ] {
            let what = format!("{what} (baseline: pipes, 64 in flight)");
            if !self.wants(&what) {
                continue;
            }
            let setup = Setup {
                workers,
                clients: 8,
                ..Setup::new(Way::BusUnix)
            };
            let run = |subject: &Subject| {
                let count = subject.lines.len() as u64;
                let loads: Vec<Load> = (0..count)
                    .map(|number| Load {
                        first_id: 10_000_000 * if same_ids { 1 } else { 1 + number },
                        session: sessions.then_some(number),
                        ..Load::new(MESSAGES / count, 100, 64 / count)
                    })
                    .collect();
                rate(&subject.lines, &loads)
            };
            let (us, raw) = compare(setup, Way::Pipes, false, run);
            self.report.rate(&what, us, raw, "");
        }
    }

    fn bytes(&mut self) {
        for (name, bytes, answer, count, window, goal) in [
            (
                "60 kB echo",
                60_000,
                None,
                8_000,
                4,
                "≥ 1.0 GB/s, ≥ 0.45 × baseline",
            ),
            (
                "1 MiB echo",
                1 << 20,
                None,
                600,
                2,
                "≥ 1.0 GB/s, ≥ 0.5 × baseline",
            ),
            (
                "8 MB answers",
                100,
                Some(8_000_000),
                100,
                1,
                "≥ 0.5 GB/s, ≥ 0.5 × baseline",
            ),
        ] {
            for (place, way) in [("stdio", Way::BusStdio), ("Unix socket", Way::BusUnix)] {
                let what = format!("{name}, bytes a second, {place} (baseline: pipes)");
                if !self.wants(&what) {
                    continue;
                }
                let setup = Setup {
                    answer,
                    ..Setup::new(way)
                };
                let load = Load {
                    answer: answer.unwrap_or(bytes),
                    ..Load::new(count, bytes, window)
                };
                let run = |subject: &Subject| share(subject, load) * load.answer as f64;
                let (us, raw) = compare(setup, Way::Pipes, false, run);
                self.report.rate(&what, us, raw, goal);
            }
        }
    }

    fn processor(&mut self) {
        for (workers, goal) in [(1, "≤ 0.8 s"), (4, "≤ 1.2 s")] {
            let what =
                format!("processor seconds of the bus, a million requests, {workers} worker(s)");
            if !self.wants(&what) {
                continue;
            }
            let setup = Setup {
                workers,
                ..Setup::new(Way::BusUnix)
            };
            let used = (0..RUNS).map(|_| {
                let subject = Subject::open(setup);
                let before = subject.processor_seconds();
                share(&subject, Load::new(1_000_000, 100, 64));
                subject.processor_seconds() - before
            });
            let used = median(used.collect());
            self.report.plain(&what, format!("{used:.2} s"), goal);
        }
    }

    fn memory(&mut self) {
        let pause = |millis| std::thread::sleep(std::time::Duration::from_millis(millis));
        if !self.wants("resident memory") {
            return;
        }
        for (what, clients, goal) in [
            ("idle", 1, "≤ 8 MB"),
            ("with 1000 idle clients", 1000, "≤ 12 MB"),
        ] {
            let subject = Subject::open(Setup {
                clients,
                ..Setup::new(Way::BusUnix)
            });
            // What only the start needed has gone back by then.
            pause(3000);
            let what = format!("resident memory, {what}");
            self.report
                .plain(&what, format!("{:.1} MB", subject.resident_mb()), goal);
        }
        let subject = Subject::open(Setup::new(Way::BusUnix));
        share(&subject, Load::new(40, 8_000_000, 1));
        // Memory that has become free goes back within three seconds.
        pause(4000);
        let what = "resident memory, after lines of 8 MB";
        self.report
            .plain(what, format!("{:.1} MB", subject.resident_mb()), "≤ 24 MB");
    }

    fn calls(&mut self) {
        let what =
            "100 B call from a task of the same process, pinned, p50 (baseline: blocking pipes)";
        if self.wants(what) {
            confine(true);
            let runs = (0..RUNS).map(|_| {
                (
                    inside::latency(ROUNDS),
                    latency(&Subject::open(Setup::new(Way::Pipes))),
                )
            });
            let (us, raw): (Vec<f64>, Vec<f64>) = runs.unzip();
            confine(false);
            self.report
                .latency(what, median(us), median(raw), "≤ 1.5 × baseline");
        }
        let what =
            "64 calls at a time from tasks of the same process (baseline: pipes, 64 in flight)";
        if self.wants(what) {
            let load = Load::new(MESSAGES, 100, 64);
            let runs = (0..RUNS).map(|_| {
                let raw = Subject::open(Setup::new(Way::Pipes));
                (inside::rate(MESSAGES, 64), share(&raw, load))
            });
            let (us, raw): (Vec<f64>, Vec<f64>) = runs.unzip();
            self.report.rate(what, median(us), median(raw), "");
        }
    }
}

/// Measures the rows that contain one of these words, or all.
pub(crate) fn run(wanted: &[String]) {
    let mut bench = Bench {
        wanted: wanted.to_vec(),
        report: Report::default(),
    };
    bench.latencies();
    bench.calls();
    bench.rates();
    bench.crowd();
    bench.bytes();
    bench.processor();
    bench.memory();
    print!("{}", bench.report);
}
