//! The agents that people use, without a login: what they want is what the caller is told.
//!
//! Together they are 829 MB of packages, so that they are only fetched when
//! `AGENTBUS_TEST_REAL_AGENTS` is set.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use agentbus::{Error, ErrorCode};
use agentbus_acp::AgentConfig;
use agentbus_acp::decide::Nobody;

use crate::fixture::{Fixture, argv};
use crate::support::install;

const PACKAGES: &[&str] = &[
    "@agentclientprotocol/claude-agent-acp@0.100.0",
    "@agentclientprotocol/codex-acp@2.6.0",
];

fn home() -> Option<PathBuf> {
    if std::env::var_os("AGENTBUS_TEST_REAL_AGENTS").is_none() {
        println!(
            "SKIPPED: Claude and Codex are not driven; set AGENTBUS_TEST_REAL_AGENTS=1 to fetch 829 MB and drive them"
        );
        return None;
    }
    let home = install::npm("acp-real-agents", PACKAGES);
    assert!(
        home.is_some(),
        "the agents were asked for and npm cannot install them"
    );
    home
}

/// Starts an agent as somebody who has never logged in.
async fn stranger(home: &Path, before: &[&str], program: &str) -> Fixture {
    let mut command = argv(before);
    let program = home.join(format!("node_modules/.bin/{program}"));
    for part in [install::node(home), program] {
        command.push(part.display().to_string());
    }
    let change = |config: &mut AgentConfig| {
        let nobody = config.cwd.clone().unwrap();
        config
            .env
            .insert("HOME".into(), nobody.display().to_string());
        for key in ["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "CODEX_API_KEY"] {
            config.env.insert(key.into(), String::new());
        }
    };
    Fixture::start(command, change, Arc::new(Nobody)).await
}

/// Prompts the agent, which must have introduced itself; returns why it did not answer.
async fn refused(it: Fixture, name: &str) -> Error {
    let error = it.turn("s", "hello").await.unwrap_err();
    println!("{name}: {:?}: {error}", error.code());
    let wire = it.end().await;
    assert!(
        wire.contains(&format!("\"name\":\"{name}\"")),
        "no introduction in {wire}"
    );
    error
}

#[tokio::test]
async fn codex_without_a_login_asks_for_one() {
    let Some(home) = home() else { return };
    let it = stranger(&home, &[], "codex-acp").await;
    let error = refused(it, "@agentclientprotocol/codex-acp").await;
    assert_eq!(error.code(), ErrorCode::AuthFailure);
    let told = error.to_string();
    assert!(
        told.contains("authentication required") && told.contains("ChatGPT"),
        "{told}"
    );
}

#[tokio::test]
async fn claude_says_why_it_does_not_work_for_a_stranger() {
    let Some(home) = home() else { return };
    let it = stranger(&home, &[], "claude-agent-acp").await;
    let error = refused(it, "@agentclientprotocol/claude-agent-acp").await;
    let told = error.to_string();
    if rustix::process::geteuid().is_root() {
        assert!(
            told.contains("cannot be used with root/sudo privileges"),
            "{told}"
        );
    } else {
        assert_eq!(error.code(), ErrorCode::AuthFailure, "{told}");
    }
}
