//! A hundred runs leave nothing behind. Alone in its binary, because it counts for the process.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail the test"
)]

mod support;

use std::time::Duration;

use agentbus_process::{Limits, Program, RunError};
use support::{children, eventually, script};

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

async fn every_way_to_end() {
    script("cat; exit 1").run("hello".into()).await.unwrap();
    // The grace itself is tested elsewhere; here it would only cost time.
    let limits = Limits {
        pipe_grace: Duration::from_millis(10),
        ..Limits::default()
    };
    script("sleep 1000 & exit")
        .limits(limits)
        .run("hello".into())
        .await
        .unwrap();
    assert!(matches!(
        Program::new("no-such-program").run("".into()).await,
        Err(RunError::Spawn(_))
    ));
    drop(script("sleep 1000").spawn().await.unwrap());
    // Abandoned at its first await: the fork happens all the same.
    let abandoned = Program::new("cat");
    tokio::select! {
        biased;
        _ = abandoned.spawn() => {}
        () = std::future::ready(()) => {}
    }
}

#[tokio::test]
async fn a_hundred_runs_leave_no_descriptor_thread_or_zombie() {
    every_way_to_end().await;
    eventually("the first round is gone", || children() == 0);
    let (descriptors_before, threads_before) = (descriptors(), threads());
    for _ in 0..20 {
        every_way_to_end().await;
    }
    let round = (0..100).map(|_| tokio::spawn(async { Program::new("cat").run("x".into()).await }));
    for run in round.collect::<Vec<_>>() {
        assert_eq!(run.await.unwrap().unwrap().stdout, "x");
    }
    eventually("no child is left, not even a zombie", || children() == 0);
    eventually("no descriptor is left", || {
        descriptors() <= descriptors_before
    });
    assert_eq!(threads(), threads_before);
}
