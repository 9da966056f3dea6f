//! Agents that do what no agent should: whoever waits is told what it was, and nothing is stuck.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agentbus::{Error, ErrorCode};
use agentbus_acp::decide::Nobody;
use agentbus_acp::{AgentConfig, AgentTargets};

use crate::fixture::{Fixture, argv};

#[tokio::test]
async fn a_crash_ends_the_turn_at_once_and_says_so_and_the_next_prompt_works() {
    let it = Fixture::rig(&[]).await;
    it.say("s", "say warm").await;
    let begun = Instant::now();
    let died = it.turn("s", "say a; exit 3").await.unwrap_err();
    let took = begun.elapsed();
    assert!(died.to_string().contains("ended (exit code 3"), "{died}");
    assert!(died.to_string().contains("started again"), "{died}");
    assert_eq!(died.code(), ErrorCode::AgentUnavailable);
    // Within 250 ms where the processor is free; the test leaves room for one that is not.
    assert!(took < Duration::from_secs(2), "learned after {took:?}");
    println!("a crash was learned of after {took:?}");
    assert_eq!(it.say("s", "say back").await, "back");
    it.end().await;
}

#[tokio::test]
async fn a_killed_agent_fails_all_turns_of_all_sessions() {
    let it = Fixture::rig(&[]).await;
    let mut one = it.open("a", "say begun; wait").await;
    while one.next().await.unwrap().unwrap().event_type.as_str() != "agent.response.delta" {}
    let two = it.open("b", "say x").await;
    let pid = it.agents.list()[0].pid.unwrap();
    let begun = Instant::now();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let died = crate::fixture::collect(one).await.unwrap_err();
    assert!(died.to_string().contains("killed by signal 9"), "{died}");
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    // It waited for its session to open, or had not been sent: it died, or a new agent served it.
    if let Err(error) = crate::fixture::collect(two).await {
        assert!(error.to_string().contains("uring this turn"), "{error}");
    }
    assert_eq!(it.say("a", "say back").await, "back");
    it.end_spoilt().await;
}

#[tokio::test]
async fn some_garbage_is_tolerated_and_too_much_is_an_error() {
    let it = Fixture::rig(&["banner"]).await;
    assert_eq!(it.say("s", "garbage 50; say fine").await, "fine");
    let error = it.turn("s", "garbage 50; say never").await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("more than 64 lines that are no messages"),
        "{error}"
    );
    assert_eq!(it.say("s", "say again").await, "again");
    it.end_spoilt().await;
}

#[tokio::test]
async fn an_agent_that_never_introduces_itself_is_ended() {
    let limits = |config: &mut AgentConfig| config.limits.initialize_s = 1;
    let it = Fixture::rig_with(&["mute"], limits, Arc::new(Nobody)).await;
    let silent = it.turn("s", "say x").await.unwrap_err();
    assert_eq!(silent.code(), ErrorCode::AgentTimeout);
    assert!(
        silent
            .to_string()
            .contains("did not answer `initialize` within 1 s"),
        "{silent}"
    );
    assert_eq!(it.agents.list()[0].state, "failing");
    // The second attempt is made at once, the third only after a pause.
    it.turn("s", "say x").await.unwrap_err();
    let pausing = it.turn("s", "say x").await.unwrap_err();
    assert!(pausing.to_string().contains("tried again in"), "{pausing}");
    assert!(pausing.is_retryable());
    it.end().await;
}

#[tokio::test]
async fn an_agent_that_never_opens_a_session_is_named() {
    let limits = |config: &mut AgentConfig| config.limits.opening_s = 1;
    let it = Fixture::rig_with(&["shut"], limits, Arc::new(Nobody)).await;
    let silent = it.turn("s", "say x").await.unwrap_err();
    assert_eq!(silent.code(), ErrorCode::AgentTimeout);
    let told = silent.to_string();
    assert!(
        told.contains("did not open a session within 1 s") && told.contains("limits.opening_s"),
        "{told}"
    );
    assert!(silent.is_retryable());
    it.end().await;
}

#[tokio::test]
async fn a_program_that_an_agent_waits_for_for_ever_ends_with_it() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().canonicalize().unwrap();
    let change = |config: &mut AgentConfig| {
        config.root = Some(root.clone());
        config.limits.cancel_s = 1;
    };
    let it = Fixture::rig_with(&[], change, Arc::new(Nobody)).await;
    let frames = it.open("s", "run echo $$ > pid && exec sleep 600").await;
    let started = async {
        loop {
            let noted = std::fs::read_to_string(root.join("pid")).unwrap_or_default();
            if let Some(pid) = noted.strip_suffix('\n') {
                return PathBuf::from("/proc").join(pid);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let process = tokio::time::timeout(Duration::from_secs(30), started).await;
    let process = process.expect("the program was not started");
    assert!(process.exists());
    // The caller leaves, the agent hears nothing of it, and the bus is stopped all the same.
    drop(frames);
    it.end().await;
    assert!(!process.exists(), "{} lives on", process.display());
}

#[tokio::test]
async fn another_version_is_named() {
    let it = Fixture::rig(&["version-2"]).await;
    let error = it.turn("s", "say x").await.unwrap_err();
    assert!(
        error.to_string().contains("speaks version 2 of ACP"),
        "{error}"
    );
    assert!(!error.is_retryable());
    it.end_spoilt().await;
}

#[tokio::test]
async fn an_agent_that_wants_a_login_says_so() {
    let it = Fixture::rig(&["login"]).await;
    let error = it.turn("s", "say x").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::AuthFailure);
    let told = error.to_string();
    assert!(
        told.contains("authentication required") && told.contains("An API key"),
        "{told}"
    );
    it.end().await;
}

#[tokio::test]
async fn a_program_that_cannot_run_or_ends_at_once_is_named() {
    let missing = Fixture::start(
        vec![],
        |config| config.command = argv(&["no-such-agent"]),
        Arc::new(Nobody),
    )
    .await;
    let error = missing.turn("s", "x").await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("there is no program \"no-such-agent\""),
        "{error}"
    );
    missing.end_spoilt().await;
    let script = argv(&["sh", "-c", "echo no model >&2; exit 7"]);
    let ends = Fixture::start(vec![], |config| config.command = script, Arc::new(Nobody)).await;
    let error = ends.turn("s", "x").await.unwrap_err();
    let told = error.to_string();
    assert!(
        told.contains("exit code 7: no model") && told.contains("introduced itself"),
        "{told}"
    );
    ends.end_spoilt().await;
}

#[tokio::test]
async fn updates_for_sessions_that_nobody_knows_are_counted() {
    let it = Fixture::rig(&[]).await;
    it.say("s", "say warm").await;
    let before = it.agents.list()[0].ignored_updates;
    let turn = it.turn("s", "stray 5; say mine").await.unwrap();
    assert_eq!((turn.text(), turn.updates.len()), ("mine", 1));
    assert_eq!(it.agents.list()[0].ignored_updates - before, 5);
    it.end().await;
}

#[tokio::test]
async fn a_line_longer_than_any_message_ends_the_agent() {
    let it = Fixture::rig(&[]).await;
    let error = it
        .turn("s", &format!("long {}", 9 * 1024 * 1024))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("wrote a line of more than"),
        "{error}"
    );
    it.end_spoilt().await;
}

#[tokio::test]
async fn requests_that_nobody_serves_are_answered() {
    let it = Fixture::rig(&[]).await;
    assert!(it.say("s", "unknown").await.contains("-32601"));
    // Without a root neither files nor terminals are served, and neither is advertised.
    assert!(it.say("s", "read /etc/passwd").await.contains("-32601"));
    assert!(it.say("s", "run true").await.contains("-32601"));
    let wire = it.end().await;
    let hello = wire.lines().next().unwrap();
    assert!(
        hello.contains("\"terminal\":false") && !hello.contains("Text_file\":true"),
        "{hello}"
    );
}

#[tokio::test]
async fn configurations_that_cannot_work_are_refused() {
    let bus = agentbus::Bus::builder("test").connect().await.unwrap();
    let command = argv(&["cat"]);
    let good = AgentConfig::new("a", command.clone());
    let mut rootless = good.clone();
    rootless.root = Some("/no/such/directory".into());
    let mut relative = good.clone();
    relative.cwd = Some("here".into());
    for (configs, want) in [
        (vec![good.clone(), good], "two agents named `a`"),
        (vec![AgentConfig::new("a", vec![])], "names no program"),
        (vec![rootless], "/no/such/directory"),
        (vec![relative], "absolute"),
    ] {
        let started = AgentTargets::start(&bus, configs, Arc::new(Nobody), None).await;
        let Err(Error::Setup(message)) = started else {
            panic!("{want}: {started:?}")
        };
        assert!(message.contains(want), "{message}");
    }
}
