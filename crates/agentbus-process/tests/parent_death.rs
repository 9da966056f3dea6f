//! A program and its grandchildren die when this process is killed by SIGKILL.
//!
//! The test starts its own binary as the victim, which starts the program and is then killed.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail the test"
)]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use support::{eventually, is_alive, parse_pids, script};

const SCRIPT: &str = "AGENTBUS_TEST_VICTIM_SCRIPT";
const MARK: &str = "tree ";

/// Not a test: the process that the tests below kill.
#[test]
#[ignore = "runs as the victim of the other tests only"]
fn victim() {
    let script = script(&std::env::var(SCRIPT).unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut process = script.spawn().await.unwrap();
        let mut lines = process.take_stdout().unwrap().lines();
        let line = lines.next().await.unwrap().unwrap();
        println!("\n{MARK}{}", std::str::from_utf8(&line).unwrap());
        std::future::pending::<()>().await;
    });
}

fn start_victim(script: &str) -> (Child, Vec<i32>) {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--ignored", "--nocapture"])
        .env(SCRIPT, script)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let tree = lines
        .map(Result::unwrap)
        .find_map(|line| Some(line.strip_prefix(MARK)?.to_owned()));
    let pids = parse_pids(&tree.expect("the victim names its tree").into());
    (victim, pids)
}

fn check(script: &str) {
    let (mut victim, pids) = start_victim(script);
    assert!(pids.iter().all(|&pid| is_alive(pid)), "{pids:?}");
    victim.kill().unwrap();
    victim.wait().unwrap();
    eventually("the tree is gone", || {
        !pids.iter().any(|&pid| is_alive(pid))
    });
}

#[test]
fn sigkill_takes_the_child_and_its_grandchildren_along() {
    check("sleep 1000 & sleep 1001 & echo $$ $!; wait");
}

#[test]
fn sigkill_takes_a_tree_that_ignores_every_other_signal_along() {
    check("trap '' TERM HUP INT IO PIPE; sh -c 'sleep 1000 & echo $PPID $$ $!; wait' & wait");
}

#[test]
fn sigkill_takes_orphans_of_the_group_along() {
    // The shell in the middle has exited, so no parent-death signal could reach the sleeper.
    check("sleeper=$(sleep 1000 >/dev/null & echo $!); echo $$ $sleeper; read line");
}

#[test]
fn sigkill_takes_a_child_without_the_leash_along() {
    // Closes every inherited descriptor, which leaves the parent-death signal alone.
    let close_all = "for fd in /proc/$$/fd/*; do n=${fd##*/}; \
         [ $n -gt 2 ] && eval \"exec $n<&-\"; done; echo $$; exec sleep 1000";
    if Command::new("bash")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok()
    {
        check(&format!("exec bash -c '{close_all}'"));
    }
}
