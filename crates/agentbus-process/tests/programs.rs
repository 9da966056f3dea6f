//! Real programs, started and ended.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use std::path::Path;
use std::time::Duration;

use agentbus_process::{OUTPUT_BYTES_MAX, Program, SpawnError};
use bytes::Bytes;

fn sh(script: &str) -> Program {
    Program::new("sh").argument("-c").argument(script)
}

/// Waits until a condition holds that another process brings about.
async fn eventually(condition: impl Fn() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the condition did not come to hold within 5 s");
}

fn lives(pid: &str) -> bool {
    // A zombie has ended; only its parent has not looked yet.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").starts_with(" Z"))
}

#[tokio::test]
async fn input_comes_back_as_output() {
    let input = Bytes::from(vec![b'x'; OUTPUT_BYTES_MAX]);
    let (output, exit) = Program::new("cat")
        .start()
        .unwrap()
        .run(input.clone())
        .await
        .unwrap();
    assert!(exit.success());
    assert_eq!(output, input);
}

#[tokio::test]
async fn too_much_output_is_an_error() {
    let error = sh("yes")
        .start()
        .unwrap()
        .run(Bytes::new())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("more than"), "{error}");
}

#[tokio::test]
async fn a_program_that_ignores_its_input_is_fine() {
    let input = Bytes::from(vec![b'x'; 1 << 20]);
    let (output, exit) = sh("echo hi").start().unwrap().run(input).await.unwrap();
    assert_eq!((&output[..], exit.success()), (&b"hi\n"[..], true));
}

#[tokio::test]
async fn a_failure_has_a_code_and_last_words() {
    let (_, exit) = sh("echo one >&2; echo two >&2; exit 3")
        .start()
        .unwrap()
        .run(Bytes::new())
        .await
        .unwrap();
    assert_eq!((exit.code, exit.last_words()), (Some(3), Some("two")));
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let error = Program::new("no-such-program-here").start().unwrap_err();
    assert!(matches!(&error, SpawnError::NotFound(name) if name == "no-such-program-here"));
    let directory = Program::new("/tmp").start().unwrap_err();
    assert!(
        matches!(directory, SpawnError::NotExecutable(_)),
        "{directory}"
    );
}

#[tokio::test]
async fn lines_come_as_they_are_printed() {
    let mut seen = Vec::new();
    let exit = sh("printf 'a\\nb\\r\\n\\nlast'")
        .start()
        .unwrap()
        .run_lines(Bytes::new(), |line| {
            seen.push(String::from_utf8(line.to_vec()).unwrap());
            std::future::ready(Ok::<_, std::io::Error>(()))
        })
        .await
        .unwrap();
    assert!(exit.success());
    assert_eq!(seen, ["a", "b", "", "last"]);
}

#[tokio::test]
async fn dropping_the_run_kills_the_whole_group() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let script = format!(
        "sleep 1000 & echo $! > {f}.new; mv {f}.new {f}; wait",
        f = file.display()
    );
    let run = tokio::spawn(sh(&script).start().unwrap().run(Bytes::new()));
    eventually(|| Path::new(&file).exists()).await;
    let grandchild = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    assert!(lives(&grandchild));
    run.abort();
    eventually(|| !lives(&grandchild)).await;
}

#[tokio::test]
async fn a_grandchild_that_keeps_the_pipe_does_not_hold_up_the_reply() {
    let (output, exit) = sh("sleep 1000 & echo $!; exit 0")
        .start()
        .unwrap()
        .run(Bytes::new())
        .await
        .unwrap();
    assert!(exit.success());
    let grandchild = String::from_utf8(output.to_vec())
        .unwrap()
        .trim()
        .to_owned();
    eventually(|| !lives(&grandchild)).await;
}

#[tokio::test]
async fn a_hundred_runs_leave_no_descriptor_and_no_zombie() {
    let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    Program::new("true")
        .start()
        .unwrap()
        .run(Bytes::new())
        .await
        .unwrap();
    let before = count();
    for _ in 0..100 {
        let (_, exit) = Program::new("true")
            .start()
            .unwrap()
            .run(Bytes::new())
            .await
            .unwrap();
        assert!(exit.success());
    }
    // Other tests of this program run beside this one, so a few may be open at the moment.
    assert!(count() < before + 50, "descriptors leak");
}
