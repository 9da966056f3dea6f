//! MCP servers of a session that ask the person behind its client.

use agentbus_acp::worker::EngineOptions;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::peer::Peer;

async fn started(capabilities: Value) -> (TempDir, Peer, String) {
    let directory = tempfile::tempdir().unwrap();
    let mut peer = Peer::start(directory.path(), EngineOptions::Echo);
    peer.initialize_with(capabilities).await;
    let server = json!({ "name": "rig", "command": env!("CARGO_BIN_EXE_agentbus-acp-rig"),
        "args": ["mcp"], "env": [] });
    let params = json!({ "cwd": "/", "mcpServers": [server] });
    let answer = peer.call("session/new", params).await;
    let reached = &answer["result"]["_meta"]["agentbus.mcpServers"][0];
    assert_eq!(reached["connected"], true, "{answer}");
    let session = answer["result"]["sessionId"].as_str().unwrap().to_owned();
    (directory, peer, session)
}

async fn tool(peer: &mut Peer, session: &str, call: &str) -> Value {
    peer.prompt(session, &format!("/tool {call}")).await;
    let text = peer.text();
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"))
}

const FORM: &str = r#"elicit {"mode": "form", "message": "How old?", "requestedSchema":
    {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}}"#;

#[tokio::test]
async fn what_a_server_asks_reaches_the_client_and_the_answer_the_server() {
    let (_directory, mut peer, session) =
        started(json!({ "elicitation": { "form": {}, "url": {} } })).await;
    let abilities = tool(&mut peer, &session, "abilities {}").await;
    assert_eq!(abilities["elicitation"], json!({ "form": {}, "url": {} }));
    peer.fill = Some(json!({ "action": "accept", "content": { "age": 36 } }));
    let asking = peer.ask_prompt(&session, &format!("/tool {FORM}")).await;
    peer.answer(asking).await;
    let asked = peer
        .said
        .iter()
        .find(|it| it["method"] == "elicitation/create");
    let asked = &asked.unwrap()["params"];
    assert_eq!(
        (&asked["sessionId"], &asked["mode"]),
        (&json!(session), &json!("form"))
    );
    assert_eq!(
        asked["requestedSchema"]["properties"]["age"]["type"],
        "integer"
    );
    let said: Value = serde_json::from_str(&peer.text()).unwrap();
    assert_eq!(
        said,
        json!({ "action": "accept", "content": { "age": 36 } })
    );
    peer.fill = Some(json!({ "action": "decline" }));
    let visit = r#"elicit {"mode": "url", "message": "Log in", "url": "https://example.org/",
        "elicitationId": "e1"}"#;
    assert_eq!(
        tool(&mut peer, &session, visit).await,
        json!({ "action": "decline" })
    );
    peer.prompt(&session, r#"/tool done {"elicitationId": "e1"}"#)
        .await;
    let done = peer
        .said
        .iter()
        .find(|it| it["method"] == "elicitation/complete");
    assert_eq!(done.unwrap()["params"]["elicitationId"], "e1");
    peer.end().await;
}

#[tokio::test]
async fn a_server_is_told_when_nobody_can_be_asked() {
    let (_directory, mut peer, session) = started(json!({})).await;
    let abilities = tool(&mut peer, &session, "abilities {}").await;
    assert_eq!(abilities.get("elicitation"), None);
    let refused = tool(&mut peer, &session, FORM).await;
    assert_eq!(refused["code"], -32602, "{refused}");
    peer.end().await;
}
