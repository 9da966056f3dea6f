//! The program itself: how soon it is ready, and what it costs when nothing happens.

use std::path::Path;
use std::time::Duration;

use crate::report::{Report, median};
use crate::served::Served;

/// Ticks of the process times in /proc are 1/100 s on every Linux in use.
const TICK: Duration = Duration::from_millis(10);

pub(crate) fn start(report: &mut Report) {
    let program = std::env::current_exe().unwrap().with_file_name("agentbus");
    if !program.exists() {
        println!("no {}: `cargo xtask bench` builds it", program.display());
        return;
    }
    let runs: Vec<_> = (0..5).map(|_| run(&program)).collect();
    let column = |pick: fn(&[f64; 3]) -> f64| median(runs.iter().map(pick).collect());
    report.plain(
        "serve: start to listening, empty directory",
        format!("{:.1} ms", column(|r| r[0])),
        "≤ 50 ms",
    );
    report.plain(
        "serve: resident memory when idle",
        format!("{:.1} MB", column(|r| r[1])),
        "≤ 25 MB",
    );
    report.plain(
        "serve: processor time in 2 idle seconds",
        format!("{:.0} ms", column(|r| r[2])),
        "0",
    );
}

/// Start to first line in ms, resident memory in MB, processor ms while idle.
fn run(program: &Path) -> [f64; 3] {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(program, &dir.path().join("data"));
    // By then what only the start needed has gone back.
    std::thread::sleep(Duration::from_millis(2500));
    let before = ticks(served.id());
    std::thread::sleep(Duration::from_secs(2));
    let idle = (ticks(served.id()) - before) * TICK.as_secs_f64() * 1e3;
    [served.ready.as_secs_f64() * 1e3, served.resident(), idle]
}

fn ticks(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit(')').next().unwrap().split_whitespace();
    after_name
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<f64>().unwrap())
        .sum()
}
