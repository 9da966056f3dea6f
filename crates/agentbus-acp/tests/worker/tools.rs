//! MCP servers of a session: their tools, their permissions and their ends.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use agentbus_acp::worker::EngineOptions;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::peer::Peer;

/// The MCP server that `cargo test` builds beside this program.
fn program() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let program = here
        .parent()
        .unwrap()
        .with_file_name("examples")
        .join("mcp_echo");
    assert!(
        program.exists(),
        "build it: cargo build -p agentbus-acp --example mcp_echo"
    );
    program
}

pub(crate) fn echo_server() -> Value {
    json!({ "name": "echo", "command": program(), "args": [], "env": [] })
}

/// The same server, which ends after so many lines.
fn mortal_server(lines: usize) -> Value {
    let pass =
        format!("i=0; while [ $i -lt {lines} ] && read -r l; do echo \"$l\"; i=$((i+1)); done");
    let script = format!("{pass} | '{}'", program().display());
    json!({ "name": "mortal", "command": "sh", "args": ["-c", script], "env": [] })
}

async fn started(server: Value) -> (TempDir, Peer, String) {
    started_with(&[server]).await
}

async fn started_with(servers: &[Value]) -> (TempDir, Peer, String) {
    let directory = tempfile::tempdir().unwrap();
    let mut peer = Peer::start(directory.path(), EngineOptions::Echo);
    peer.initialize().await;
    let params = json!({ "cwd": "/", "mcpServers": servers });
    let answer = peer.call("session/new", params).await;
    let session = answer["result"]["sessionId"].as_str().unwrap().to_owned();
    let reports = answer["result"]["_meta"]["agentbus.mcpServers"].as_array();
    for report in reports.unwrap() {
        assert_eq!(report["connected"], true, "{report}");
    }
    (directory, peer, session)
}

const REVERSE: &str = "/tool reverse {\"text\": \"abc\"}";

#[tokio::test]
async fn a_resource_link_is_followed_into_the_servers() {
    let (_directory, mut peer, session) = started(echo_server()).await;
    for (uri, said) in [
        (
            "test://greeting",
            "[Resource: n]\nHello from MCP Echo Server!",
        ),
        ("test://nope", "[Resource: n] test://nope"),
    ] {
        let prompt = json!([{ "type": "resource_link", "name": "n", "uri": uri }]);
        peer.call(
            "session/prompt",
            json!({ "sessionId": session, "prompt": prompt }),
        )
        .await;
        assert_eq!(peer.text(), said);
    }
    peer.end().await;
}

#[tokio::test]
async fn a_tool_is_announced_asked_for_and_run() {
    let (_directory, mut peer, session) = started(echo_server()).await;
    peer.prompt(&session, REVERSE).await;
    let steps: Vec<_> = peer
        .said
        .iter()
        .filter_map(
            |frame| match frame["params"]["update"]["sessionUpdate"].as_str() {
                None => Some("asked".to_owned()),
                Some("tool_call") => Some("announced".to_owned()),
                Some("tool_call_update") => {
                    Some(frame["params"]["update"]["status"].as_str()?.to_owned())
                }
                Some(_) => None,
            },
        )
        .collect();
    assert_eq!(steps, ["announced", "asked", "in_progress", "completed"]);
    let question = peer
        .said
        .iter()
        .find(|frame| frame["method"] == "session/request_permission");
    let options = question.unwrap()["params"]["options"]
        .as_array()
        .unwrap()
        .clone();
    let ids: Vec<_> = options
        .iter()
        .map(|option| option["optionId"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["allow_once", "allow_always", "reject_once"]);
    let call = peer
        .said
        .iter()
        .find(|frame| frame["params"]["update"]["sessionUpdate"] == "tool_call");
    let call = &call.unwrap()["params"]["update"];
    assert_eq!(call["title"], "Executing: reverse");
    assert_eq!(call["rawInput"], json!({ "text": "abc" }));
    assert!(call["toolCallId"].as_str().unwrap().starts_with("tool-"));
    assert_eq!(peer.text(), "cba");
    peer.end().await;
}

#[tokio::test]
async fn several_servers_are_one_to_the_session() {
    let rig = json!({ "name": "rig", "command": env!("CARGO_BIN_EXE_agentbus-acp-rig"),
        "args": ["mcp"], "env": [] });
    let (_directory, mut peer, session) = started_with(&[rig, echo_server()]).await;
    peer.prompt(&session, "/tools").await;
    let listed = peer.text();
    let tools: Vec<_> = listed
        .lines()
        .filter_map(|line| line.split(':').next())
        .collect();
    // The first server lists its tools in two pages.
    let expected = [
        "abilities",
        "elicit",
        "done",
        "echo",
        "reverse",
        "uppercase",
        "delay",
        "error",
    ];
    assert_eq!(tools, expected);
    // A resource is looked for in one server after the other.
    for (uri, said) in [
        (
            "test://greeting",
            "[Resource: n]\nHello from MCP Echo Server!",
        ),
        ("rig://bytes", "[Resource: n] (binary data, 4 bytes)"),
    ] {
        let prompt = json!([{ "type": "resource_link", "name": "n", "uri": uri }]);
        let params = json!({ "sessionId": session, "prompt": prompt });
        peer.call("session/prompt", params).await;
        assert_eq!(peer.text(), said);
    }
    peer.prompt(&session, REVERSE).await;
    assert_eq!(peer.text(), "cba");
    peer.end().await;
}

#[tokio::test]
async fn each_answer_to_a_question_has_its_meaning() {
    let (_directory, mut peer, session) = started(echo_server()).await;
    peer.choose = None;
    let chosen = |option: &str| {
        let outcome = json!({ "outcome": "selected", "optionId": option });
        json!({ "result": { "outcome": outcome } })
    };
    for (answer, status, said) in [
        // Clients have options of their own that begin so.
        (chosen("allow_in_this_directory"), "completed", "cba"),
        (chosen("reject_once"), "failed", "Error: Permission denied"),
        (chosen("perhaps"), "failed", "Error: Permission denied"),
        (
            json!({ "result": { "outcome": { "outcome": "cancelled" } } }),
            "failed",
            "Error: Permission request cancelled",
        ),
        (
            json!({ "error": { "code": -32603, "message": "no window" } }),
            "failed",
            "Error: Permission denied",
        ),
    ] {
        let turn = peer.ask_prompt(&session, REVERSE).await;
        let asked = loop {
            let frame = peer.read().await.unwrap();
            if frame["method"] == "session/request_permission" {
                break frame["id"].clone();
            }
        };
        let mut reply = json!({ "jsonrpc": "2.0", "id": asked });
        reply
            .as_object_mut()
            .unwrap()
            .extend(answer.as_object().unwrap().clone());
        peer.send(reply).await;
        assert_eq!(peer.answer(turn).await["result"]["stopReason"], "end_turn");
        let last = peer.updates("tool_call_update").pop().unwrap();
        let shown = &last["content"][0]["content"]["text"];
        assert_eq!(
            (&last["status"], shown),
            (&json!(status), &json!(said)),
            "{answer}"
        );
    }
    peer.end().await;
}

#[tokio::test]
async fn a_refused_tool_does_not_run() {
    let (_directory, mut peer, session) = started(echo_server()).await;
    peer.choose = Some("reject_once");
    peer.prompt(&session, REVERSE).await;
    let updates = peer.updates("tool_call_update");
    assert_eq!(updates.len(), 1);
    assert_eq!(updates[0]["status"], "failed");
    assert_eq!(
        updates[0]["content"][0]["content"]["text"],
        "Error: Permission denied"
    );
    peer.end().await;
}

#[tokio::test]
async fn allowing_always_and_the_allowing_mode_ask_no_more() {
    let (_directory, mut peer, session) = started(echo_server()).await;
    peer.choose = Some("allow_always");
    peer.prompt(&session, REVERSE).await;
    peer.choose = None;
    peer.said.clear();
    peer.prompt(&session, REVERSE).await;
    assert_eq!(peer.text(), "cba");
    peer.call(
        "session/set_mode",
        json!({ "sessionId": session, "modeId": "allow" }),
    )
    .await;
    peer.prompt(&session, "/tool uppercase {\"text\": \"abc\"}")
        .await;
    assert_eq!(peer.text(), "ABC");
    peer.end().await;
}

#[tokio::test]
async fn a_tool_that_fails_says_why() {
    let (_directory, mut peer, session) = started(echo_server()).await;
    for (tool, why) in [
        ("/tool error {\"message\": \"broken\"}", "Error: broken"),
        (
            "/tool reverse {}",
            "Error: the MCP server echo: The argument text is needed, as a string",
        ),
    ] {
        peer.prompt(&session, tool).await;
        let updates = peer.updates("tool_call_update");
        let last = updates.last().unwrap();
        assert_eq!(
            (&last["status"], &last["content"][0]["content"]["text"]),
            (&json!("failed"), &json!(why))
        );
    }
    peer.end().await;
}

#[tokio::test]
async fn a_cancel_while_somebody_is_asked_ends_the_turn() {
    let (_directory, mut peer, session) = started(echo_server()).await;
    peer.choose = None;
    let id = peer.ask_prompt(&session, REVERSE).await;
    while peer.read().await.unwrap()["method"] != "session/request_permission" {}
    peer.notify("session/cancel", json!({ "sessionId": session }))
        .await;
    assert_eq!(peer.answer(id).await["result"]["stopReason"], "cancelled");
    let updates = peer.updates("tool_call_update");
    assert_eq!(updates.last().unwrap()["status"], "failed");
    peer.choose = Some("allow_once");
    peer.prompt(&session, REVERSE).await;
    assert_eq!(peer.text(), "cba");
    peer.end().await;
}

#[tokio::test]
async fn a_cancel_while_a_tool_hangs_ends_the_turn() {
    let (_directory, mut peer, session) = started(echo_server()).await;
    let id = peer
        .ask_prompt(&session, "/tool delay {\"text\": \"x\", \"ms\": 30000}")
        .await;
    loop {
        let frame = peer.read().await.unwrap();
        if frame["params"]["update"]["status"] == "in_progress" {
            break;
        }
    }
    let begun = Instant::now();
    peer.notify("session/cancel", json!({ "sessionId": session }))
        .await;
    assert_eq!(peer.answer(id).await["result"]["stopReason"], "cancelled");
    assert!(begun.elapsed() < Duration::from_secs(5));
    let updates = peer.updates("tool_call_update");
    assert_eq!(updates.last().unwrap()["status"], "failed");
    peer.end().await;
}

#[tokio::test]
async fn a_tool_that_never_answers_fails_after_its_time() {
    let (_directory, mut peer, session) = started(echo_server()).await;
    let turn = peer
        .ask_prompt(&session, "/tool delay {\"text\": \"x\", \"ms\": 60000}")
        .await;
    while peer.read().await.unwrap()["params"]["update"]["status"] != "in_progress" {}
    // From here on time passes as soon as everybody waits for it.
    tokio::time::pause();
    peer.patience = Duration::from_secs(3600);
    assert_eq!(peer.answer(turn).await["result"]["stopReason"], "end_turn");
    let last = peer.updates("tool_call_update").pop().unwrap();
    let why = &last["content"][0]["content"]["text"];
    assert_eq!(
        (&last["status"], why.as_str().unwrap()),
        (
            &json!("failed"),
            "Error: the MCP server echo: it did not answer within 600 s"
        )
    );
    peer.said.clear();
    peer.prompt(&session, "still here").await;
    assert_eq!(peer.text(), "still here");
    peer.end().await;
}

#[tokio::test]
async fn a_server_that_ends_in_the_middle_of_a_call_is_named() {
    // Its handshake takes two lines, the list of its tools one: it is gone when it is called.
    let (_directory, mut peer, session) = started(mortal_server(3)).await;
    peer.prompt(&session, REVERSE).await;
    let updates = peer.updates("tool_call_update");
    let last = updates.last().unwrap();
    assert_eq!(last["status"], "failed");
    let why = last["content"][0]["content"]["text"].as_str().unwrap();
    assert!(why.contains("mortal ended unexpectedly"), "{why}");
    // Its tools went with it.
    peer.prompt(&session, "/tools").await;
    assert_eq!(peer.text(), "");
    peer.end().await;
}

#[tokio::test]
async fn a_server_that_speaks_something_else_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let mut peer = Peer::start(directory.path(), EngineOptions::Echo);
    peer.initialize().await;
    let script = "echo not a message; echo $WHY >&2; exit 3";
    let env = json!([{ "name": "WHY", "value": "because" }]);
    let server = json!({ "name": "odd", "command": "sh", "args": ["-c", script], "env": env });
    let answer = peer
        .call("session/new", json!({ "cwd": "/", "mcpServers": [server] }))
        .await;
    let report = &answer["result"]["_meta"]["agentbus.mcpServers"][0];
    assert_eq!(report["connected"], false);
    assert!(
        report["error"].as_str().unwrap().contains("because"),
        "{report}"
    );
    peer.end().await;
}
