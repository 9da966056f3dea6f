//! A process and everything it started end when they should.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail the test"
)]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentbus_process::{Exit, Limits, LineError};
use support::{PATIENCE, eventually, is_alive, parse_pids, pids, script};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

const TREE: &str = "sleep 1000 & echo $$ $!; wait";
const FOREVER: Duration = Duration::from_secs(1000);

#[tokio::test]
async fn drop_kills_the_whole_tree() {
    let mut process = script(TREE).spawn().await.unwrap();
    let pids = pids(process.take_stdout().unwrap()).await;
    assert_eq!(pids[0], process.id());
    assert!(pids.iter().all(|&pid| is_alive(pid)));
    drop(process);
    eventually("the tree is gone", || {
        !pids.iter().any(|&pid| is_alive(pid))
    });
}

#[test]
fn the_end_of_the_runtime_kills_the_whole_tree() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (found, tree) = std::sync::mpsc::channel();
    runtime.spawn(async move {
        let mut process = script(TREE).spawn().await.unwrap();
        found
            .send(pids(process.take_stdout().unwrap()).await)
            .unwrap();
        process.wait().await
    });
    let pids = tree.recv_timeout(PATIENCE).unwrap();
    runtime.shutdown_background();
    eventually("the tree is gone", || {
        !pids.iter().any(|&pid| is_alive(pid))
    });
}

#[tokio::test]
async fn dropping_a_run_kills_the_whole_tree() {
    let (found, tree) = std::sync::mpsc::channel();
    let program = script("sleep 1000 & echo $$ $! >&2; wait");
    let program = program.on_stderr(move |line| found.send(line.to_owned()).unwrap());
    let run = tokio::spawn(async move { program.run("".into()).await });
    let line = tokio::task::spawn_blocking(move || tree.recv_timeout(PATIENCE))
        .await
        .unwrap();
    let pids = parse_pids(&line.unwrap().into());
    run.abort();
    assert!(run.await.unwrap_err().is_cancelled());
    eventually("the tree is gone", || {
        !pids.iter().any(|&pid| is_alive(pid))
    });
}

#[tokio::test]
async fn terminate_lets_a_program_say_goodbye() {
    // In the background: a shell runs its trap during `wait`, but only after a foreground program.
    let program = script("trap 'echo bye >&2; exit 5' TERM; sleep 1000 & echo ready; wait");
    let mut process = program.spawn().await.unwrap();
    let mut lines = process.take_stdout().unwrap().lines();
    assert_eq!(lines.next().await.unwrap().unwrap(), "ready");
    let outcome = timeout(PATIENCE, process.terminate(FOREVER)).await.unwrap();
    assert_eq!(outcome.exit, Exit::Code(5));
    assert_eq!(outcome.last_stderr_line(), Some("bye"));
    assert_eq!(
        process.terminate(FOREVER).await,
        outcome,
        "a second time changes nothing"
    );
}

#[tokio::test]
async fn terminate_kills_what_ignores_it() {
    let program = script("trap '' TERM; sleep 1000 & echo $$ $!; wait");
    let mut process = program.spawn().await.unwrap();
    let pids = pids(process.take_stdout().unwrap()).await;
    let outcome = timeout(PATIENCE, process.terminate(Duration::from_millis(50)))
        .await
        .unwrap();
    assert_eq!(outcome.exit, Exit::Signal(9));
    eventually("the tree is gone", || {
        !pids.iter().any(|&pid| is_alive(pid))
    });
}

#[test]
fn a_program_outlives_the_thread_that_asked_for_it() {
    let asking = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let process =
            runtime.block_on(async { script("read line; exit 7").spawn().await.unwrap() });
        (runtime, process)
    });
    let (runtime, mut process) = asking.join().unwrap();
    assert_eq!(runtime.block_on(process.wait()).exit, Exit::Code(7));
}

#[tokio::test]
async fn a_conversation_by_lines() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let report = Arc::clone(&seen);
    let program = script("while read line; do echo \"got $line\"; echo \"saw $line\" >&2; done")
        .on_stderr(move |line| report.lock().unwrap().push(line.to_owned()));
    let mut process = program.spawn().await.unwrap();
    let mut stdin = process.take_stdin().unwrap();
    let mut lines = process.take_stdout().unwrap().lines();
    for word in ["one", "two"] {
        stdin
            .write_all(format!("{word}\n").as_bytes())
            .await
            .unwrap();
        let line = timeout(PATIENCE, lines.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(line, format!("got {word}"));
    }
    drop(stdin);
    assert_eq!(lines.next().await.unwrap(), None);
    assert!(process.wait().await.success());
    assert_eq!(*seen.lock().unwrap(), ["saw one", "saw two"]);
}

#[tokio::test]
async fn a_line_over_the_limit_is_an_error_and_nothing_follows() {
    let limits = Limits {
        line_bytes: 1000,
        ..Limits::default()
    };
    let program = script("echo short; head -c 1001 /dev/zero; echo; echo after").limits(limits);
    let mut process = program.spawn().await.unwrap();
    let mut lines = process.take_stdout().unwrap().lines();
    assert_eq!(lines.next().await.unwrap().unwrap(), "short");
    let error = lines.next().await.unwrap_err();
    assert!(
        matches!(error, LineError::TooLong { limit: 1000 }),
        "{error}"
    );
    assert_eq!(lines.next().await.unwrap(), None);
}
