//! The program itself: how soon it is ready, and what it costs when nothing happens.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::report::{Report, median};
use crate::resident;

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
    let begun = Instant::now();
    let mut server = Command::new(program)
        .args(["serve", "--json", "--listen", "127.0.0.1:0"])
        .env("AGENTBUS_DATA_DIR", dir.path().join("data"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(server.stdout.as_mut().unwrap())
        .read_line(&mut first)
        .unwrap();
    let ready = begun.elapsed().as_secs_f64() * 1e3;
    assert!(first.contains("listening"));
    std::thread::sleep(Duration::from_millis(500));
    let before = ticks(server.id());
    std::thread::sleep(Duration::from_secs(2));
    let idle = (ticks(server.id()) - before) * TICK.as_secs_f64() * 1e3;
    let memory = resident::mb(server.id());
    server.kill().unwrap();
    server.wait().unwrap();
    [ready, memory, idle]
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
