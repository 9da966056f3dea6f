//! The program itself on a database that is full of messages.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::table::{ms, row};
use crate::resident;

/// How long the program settles before its memory is read.
const IDLE: Duration = Duration::from_secs(2);

const RUNS: usize = 5;

/// Starts `agentbus serve` a few times; medians.
pub(crate) fn start(directory: &Path, messages: usize) {
    let program = std::env::current_exe().unwrap().with_file_name("agentbus");
    if !program.exists() {
        let path = program.display();
        println!("no {path}: `cargo xtask bench` builds it");
        return;
    }
    let (empty, full) = (directory.join("empty"), directory.join("data"));
    let runs = |data: &Path| -> (f64, f64) {
        let runs = (0..RUNS).map(|_| run(&program, data)).collect::<Vec<_>>();
        let median = |pick: fn(&(f64, f64)) -> f64| {
            let mut values: Vec<f64> = runs.iter().map(pick).collect();
            values.sort_by(f64::total_cmp);
            values[RUNS / 2]
        };
        (median(|run| run.0), median(|run| run.1))
    };
    let (base, ours) = (runs(&empty), runs(&full));
    let figures = [
        ("start to listening", ours.0, base.0, "ms", "≤ 100 ms"),
        ("resident memory when idle", ours.1, base.1, "MB", "≤ 40 MB"),
    ];
    for (what, ours, base, unit, goal) in figures {
        row(
            &format!("serve on {messages} messages: {what}"),
            &format!("{ours:.1} {unit}"),
            &format!("{base:.1} {unit}, empty directory"),
            Some(ours / base),
            goal,
        );
    }
}

/// Start to first line in ms, resident memory in MB.
fn run(program: &Path, data: &Path) -> (f64, f64) {
    let begin = Instant::now();
    let mut server = Command::new(program)
        .args(["serve", "--json", "--listen", "127.0.0.1:0"])
        .env("AGENTBUS_DATA_DIR", data)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(server.stdout.as_mut().unwrap())
        .read_line(&mut first)
        .unwrap();
    let ready = ms(begin.elapsed());
    assert!(first.contains("listening"), "{first}");
    std::thread::sleep(IDLE);
    let memory = resident::mb(server.id());
    server.kill().unwrap();
    server.wait().unwrap();
    (ready, memory)
}
