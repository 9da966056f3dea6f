//! Agents that others have written: one on the TypeScript SDK, one on the Python SDK.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use agentbus_acp::decide::Nobody;
use agentbus_acp::{AgentConfig, Policy};

use crate::fixture::Fixture;
use crate::support::frames::{python, typescript};
use crate::support::install::node;

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/driving")
        .join(name)
}

fn words(paths: &[&Path]) -> Vec<String> {
    paths
        .iter()
        .map(|path| path.to_str().unwrap().to_owned())
        .collect()
}

/// The agent on the TypeScript SDK. Node looks for packages beside the script.
fn typescript_agent() -> Option<Vec<String>> {
    let home = typescript()?;
    let copy = home.join(format!("agent-{}.mjs", std::process::id()));
    std::fs::copy(source("agent.mjs"), &copy).unwrap();
    Some(words(&[&node(&home), &copy]))
}

/// The agent on the Python SDK.
fn python_agent() -> Option<Vec<String>> {
    Some(words(&[&python()?, &source("agent.py")]))
}

async fn journey(command: Option<Vec<String>>) {
    let Some(command) = command else { return };
    let root = tempfile::tempdir().unwrap();
    let root = root.path().canonicalize().unwrap();
    std::fs::write(root.join("a.txt"), "from the file").unwrap();
    let change = |config: &mut AgentConfig| {
        config.root = Some(root.clone());
        config.policy = Policy::AllowOnce;
    };
    let it = Fixture::start(command, change, Arc::new(Nobody)).await;

    let turn = it.turn("s", "stream").await.unwrap();
    assert_eq!(turn.text(), "one two three");
    let kinds = turn.kinds();
    for kind in [
        "agent_thought_chunk",
        "agent_message_chunk",
        "tool_call",
        "tool_call_update",
        "plan",
    ] {
        assert!(kinds.contains(&kind), "no {kind} in {kinds:?}");
    }
    assert_eq!(it.say("s", "permission").await, "allowed with allow");
    let read = format!("read {}", root.join("a.txt").display());
    assert_eq!(it.say("s", &read).await, "from the file");
    assert!(
        it.say("s", "read /etc/hostname")
            .await
            .starts_with("refused")
    );

    let mut frames = it.open("s", "wait").await;
    while frames.next().await.unwrap().unwrap().event_type.as_str() != "agent.response.delta" {}
    drop(frames);
    assert_eq!(it.say("s", "count").await, "6");

    let died = it.turn("s", "crash").await.unwrap_err();
    assert!(died.to_string().contains("ended (exit code 9"), "{died}");
    let after = it.turn("s", "count").await.unwrap();
    assert_eq!(after.started["opened"], "lost");
    assert_eq!(after.text(), "1");
    let wire = it.end().await;
    assert!(
        wire.contains("\"stopReason\":\"cancelled\"")
            || wire.contains("\"stopReason\": \"cancelled\"")
    );
}

#[tokio::test]
async fn an_agent_on_the_typescript_sdk_is_driven() {
    journey(typescript_agent()).await;
}

#[tokio::test]
async fn an_agent_on_the_python_sdk_is_driven() {
    journey(python_agent()).await;
}
