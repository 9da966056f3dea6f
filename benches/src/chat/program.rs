//! The program itself on a database that is full of messages.

use std::path::Path;
use std::time::Duration;

use super::table::{ms, row};
use crate::report::median;
use crate::served::Served;

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
        let column = |pick: fn(&(f64, f64)) -> f64| median(runs.iter().map(pick).collect());
        (column(|run| run.0), column(|run| run.1))
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
    let served = Served::start(program, data);
    std::thread::sleep(IDLE);
    (ms(served.ready), served.resident())
}
