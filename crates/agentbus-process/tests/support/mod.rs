//! What the tests of real processes share.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::time::{Duration, Instant};

use agentbus_process::{Program, Stdout};
use bytes::Bytes;
use tokio::time::timeout;

/// Bounds every wait: far above what any takes, so that only a defect reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A shell script as the program under test.
pub(crate) fn script(text: &str) -> Program {
    Program::new("/bin/sh").args(["-c", text])
}

/// Reads process numbers from one line of output.
pub(crate) async fn pids(stdout: Stdout) -> Vec<i32> {
    let mut lines = stdout.lines();
    let line = timeout(PATIENCE, lines.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    parse_pids(&line)
}

/// Parses process numbers separated by blanks.
pub(crate) fn parse_pids(line: &Bytes) -> Vec<i32> {
    let line = std::str::from_utf8(line).unwrap();
    line.split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect()
}

/// Polls until `condition` holds, or fails the test.
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "still not: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// State letter and parent of a process, or nothing if it is gone.
pub(crate) fn state(pid: i32) -> Option<(char, i32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, so count from its end.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Tells whether a process runs; a zombie that its adopter has yet to collect does not.
pub(crate) fn is_alive(pid: i32) -> bool {
    state(pid).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

/// Counts children of this process, zombies included.
pub(crate) fn children() -> usize {
    let own = i32::try_from(std::process::id()).unwrap();
    let numbers = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    numbers
        .filter(|&pid| state(pid).is_some_and(|(_, parent)| parent == own))
        .count()
}
