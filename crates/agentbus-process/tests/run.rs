//! One run of a program: input in, output out, nothing left.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail the test"
)]

mod support;

use std::time::{Duration, Instant};

use agentbus_process::{Exit, Limits, Program, RunError, SpawnError};
use bytes::Bytes;
use support::{PATIENCE, eventually, is_alive, parse_pids, script};
use tokio::time::timeout;

const MIB: usize = 1024 * 1024;

fn payload(length: usize) -> Bytes {
    (0..length).map(|index| (index % 251) as u8).collect()
}

async fn run(program: &Program, input: Bytes) -> Result<agentbus_process::Output, RunError> {
    timeout(PATIENCE, program.run(input))
        .await
        .expect("the run ends")
}

#[tokio::test]
async fn echoes_more_than_any_pipe_holds() {
    let input = payload(8 * MIB);
    let limits = Limits {
        output_bytes: 8 * MIB,
        ..Limits::default()
    };
    let output = run(&Program::new("cat").limits(limits), input.clone())
        .await
        .unwrap();
    assert!(output.stdout == input);
    assert!(output.outcome.success());
}

#[tokio::test]
async fn output_over_the_limit_is_an_error_and_stops_the_program() {
    let error = run(&Program::new("cat"), payload(8 * MIB))
        .await
        .unwrap_err();
    assert!(
        matches!(error, RunError::OutputTooLarge { limit, .. } if limit == 4 * MIB),
        "{error}"
    );
    // It would never end by itself.
    let error = run(&Program::new("yes"), Bytes::new()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the program \"yes\" wrote more than 4194304 bytes and was stopped: \
         let it write less, stream its lines, or raise the output limit"
    );
}

#[tokio::test]
async fn a_program_may_leave_its_input_unread() {
    let output = run(&script("echo done"), payload(8 * MIB)).await.unwrap();
    assert_eq!(output.stdout, "done\n");
    assert!(output.outcome.success());
}

#[tokio::test]
async fn a_failure_comes_with_its_code_and_the_last_words() {
    let program = script(
        "for n in $(seq 100); do echo line $n >&2; done; echo ' oh no ' >&2; echo >&2; exit 3",
    );
    let outcome = run(&program, Bytes::new()).await.unwrap().outcome;
    assert_eq!(outcome.exit, Exit::Code(3));
    assert_eq!(outcome.stderr_tail.len(), 64);
    assert_eq!(outcome.stderr_tail[0], "line 39");
    assert_eq!(outcome.to_string(), "exit code 3: oh no");
}

#[tokio::test]
async fn a_signal_is_told_from_a_code() {
    let outcome = run(&script("kill -9 $$"), Bytes::new())
        .await
        .unwrap()
        .outcome;
    assert_eq!(outcome.exit, Exit::Signal(9));
    assert_eq!(outcome.to_string(), "killed by signal 9");
}

#[tokio::test]
async fn endless_standard_error_is_drained() {
    let program = script("head -c 4194304 /dev/zero >&2; echo; echo end >&2");
    let output = run(&program, Bytes::new()).await.unwrap();
    assert!(output.outcome.success());
    assert_eq!(output.outcome.stderr_tail.len(), 1);
    assert_eq!(output.outcome.stderr_tail[0].len(), 4096);
}

#[tokio::test]
async fn what_does_not_start_says_what_to_do() {
    let error = Program::new("no-such-program").spawn().await.unwrap_err();
    assert!(matches!(error, SpawnError::NotFound { .. }), "{error:?}");
    assert!(
        error.to_string().contains("check its spelling and PATH"),
        "{error}"
    );

    let error = Program::new("/etc/passwd").spawn().await.unwrap_err();
    assert!(
        matches!(error, SpawnError::PermissionDenied { .. }),
        "{error:?}"
    );

    for directory in ["/no/such/directory", "/etc/passwd"] {
        let error = Program::new("cat")
            .current_dir(directory)
            .spawn()
            .await
            .unwrap_err();
        assert!(matches!(error, SpawnError::Directory { .. }), "{error:?}");
        assert!(error.to_string().contains(directory), "{error}");
    }

    let error = Program::new("cat").arg("a\0b").spawn().await.unwrap_err();
    assert!(matches!(error, SpawnError::Other { .. }), "{error:?}");
}

#[tokio::test]
async fn the_environment_is_inherited_but_for_what_is_withheld() {
    let program = Program::new("env")
        .env("AGENTBUS_TOKEN", "secret")
        .env("AGENTCHATBUS_ADMIN_TOKEN", "secret")
        .env("AGENTBUS_CHAT_STORE", "postgresql://u:secret@h/d")
        .env("GIVEN", "yes")
        .env("HIDDEN", "no")
        .withhold("HIDDEN");
    let output = run(&program, Bytes::new()).await.unwrap();
    let text = String::from_utf8(output.stdout.into()).unwrap();
    assert!(text.lines().any(|line| line == "GIVEN=yes"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("PATH=")), "{text}");
    assert!(
        !text.contains("secret") && !text.contains("HIDDEN"),
        "{text}"
    );
}

#[tokio::test]
async fn no_shell_reads_the_arguments() {
    let argv = ["echo", "$HOME", "; exit 9", "a  b"]
        .map(Into::into)
        .to_vec();
    let output = run(&Program::from_argv(argv).unwrap(), Bytes::new())
        .await
        .unwrap();
    assert_eq!(output.stdout, "$HOME ; exit 9 a  b\n");
}

#[tokio::test]
async fn a_grandchild_that_keeps_the_pipes_open_ends_with_the_run() {
    let output = run(&script("sleep 1000 & echo $!"), Bytes::new())
        .await
        .unwrap();
    assert!(output.outcome.success());
    let grandchild = parse_pids(&output.stdout)[0];
    eventually("the grandchild is gone", || !is_alive(grandchild));
}

#[tokio::test]
async fn a_grandchild_without_pipes_ends_with_the_run() {
    let program = script("sleep 1000 </dev/null >/dev/null 2>&1 & echo $!");
    let limits = Limits {
        pipe_grace: Duration::from_secs(1000),
        ..Limits::default()
    };
    // No grace is spent on it: the pipes end with the program.
    let output = run(&program.limits(limits), Bytes::new()).await.unwrap();
    let grandchild = parse_pids(&output.stdout)[0];
    eventually("the grandchild is gone", || !is_alive(grandchild));
}

#[tokio::test]
async fn a_process_that_left_the_group_cannot_hang_the_run() {
    // It holds all three pipes, reads none and writes for ever.
    let program = script(
        "exec 3<&0; setsid sh -c 'echo $$; while :; do echo more; done' <&3 & read line; exit 4",
    );
    let limits = Limits {
        output_bytes: usize::MAX,
        ..Limits::default()
    };
    let start = Instant::now();
    let output = run(&program.limits(limits), payload(8 * MIB))
        .await
        .unwrap();
    assert!(start.elapsed() < PATIENCE);
    assert_eq!(output.outcome.exit, Exit::Code(4));
    let first = output.stdout.split(|&byte| byte == b'\n').next().unwrap();
    let escaped = parse_pids(&Bytes::copy_from_slice(first))[0];
    // Nobody reads its pipe any more, so it dies of that.
    eventually("the escaped process is gone", || !is_alive(escaped));
}

#[tokio::test]
async fn what_a_slow_reader_left_in_the_pipe_is_not_lost() {
    let limits = Limits {
        pipe_grace: Duration::ZERO,
        ..Limits::default()
    };
    let program = script("head -c 60000 /dev/zero").limits(limits);
    for _ in 0..20 {
        let mut process = program.spawn().await.unwrap();
        let mut stdout = process.take_stdout().unwrap();
        // The group has been killed before the first read.
        assert!(process.wait().await.success());
        let mut output = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut stdout, &mut output)
            .await
            .unwrap();
        assert_eq!(output.len(), 60_000);
    }
}
