//! Every method of the agent's side, and the requirements of the official test kit's list.

use agentbus_acp::worker::EngineOptions;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::peer::Peer;

async fn started() -> (TempDir, Peer) {
    let directory = tempfile::tempdir().unwrap();
    let mut peer = Peer::start(directory.path(), EngineOptions::Echo);
    peer.initialize().await;
    (directory, peer)
}

#[tokio::test]
async fn a_version_from_the_future_is_answered_with_our_own() {
    let directory = tempfile::tempdir().unwrap();
    let mut peer = Peer::start(directory.path(), EngineOptions::Echo);
    let params = json!({ "protocolVersion": 65535, "clientCapabilities": {} });
    let answer = peer.call("initialize", params).await;
    let result = &answer["result"];
    assert_eq!(result["protocolVersion"], 1);
    assert_eq!(result["agentCapabilities"]["loadSession"], true);
    assert_eq!(
        result["agentCapabilities"]["promptCapabilities"]["embeddedContext"],
        true
    );
    assert_eq!(result["agentCapabilities"]["mcpCapabilities"]["http"], true);
    assert_eq!(result["authMethods"], json!([]));
    peer.end().await;
}

#[tokio::test]
async fn authenticate_asks_for_nothing() {
    let (_directory, mut peer) = started().await;
    let answer = peer
        .call("authenticate", json!({ "methodId": "any" }))
        .await;
    assert_eq!(answer["result"], json!({}));
    peer.end().await;
}

#[tokio::test]
async fn two_new_sessions_have_two_ids() {
    let (_directory, mut peer) = started().await;
    assert_ne!(peer.session().await, peer.session().await);
    peer.end().await;
}

#[tokio::test]
async fn unknown_methods_are_answered_and_unknown_notifications_ignored() {
    let (_directory, mut peer) = started().await;
    for method in ["_vendor/thing", "_x"] {
        assert_eq!(peer.call(method, json!({})).await["error"]["code"], -32601);
    }
    peer.notify("_vendor/news", json!({ "a": 1 })).await;
    peer.write("{\"jsonrpc\":\"2.0\",\"method\":\"nobody/knows\"}")
        .await;
    // The next request is answered as if nothing had been.
    peer.session().await;
    peer.end().await;
}

#[tokio::test]
async fn garbage_is_answered_and_passed_over() {
    let (_directory, mut peer) = started().await;
    for line in ["no json", "[]", "{\"jsonrpc\":\"2.0\"}", "\u{0}"] {
        peer.write(line).await;
        let frame = peer.read().await.unwrap();
        assert_eq!(frame["id"], Value::Null, "{line}");
        assert!(frame["error"]["code"].is_i64(), "{line}");
    }
    peer.write("").await;
    peer.session().await;
    peer.end().await;
}

#[tokio::test]
async fn a_session_that_cannot_be_is_refused_with_a_reason() {
    let (_directory, mut peer) = started().await;
    let sse = json!({ "type": "sse", "name": "old", "url": "http://127.0.0.1:1/", "headers": [] });
    for (params, reason) in [
        (
            json!({ "cwd": "here", "mcpServers": [] }),
            "here is no absolute path",
        ),
        (json!({ "cwd": "/", "mcpServers": [sse] }), "MCP server old"),
    ] {
        let answer = peer.call("session/new", params).await;
        assert_eq!(answer["error"]["code"], -32602);
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(reason), "{message}");
    }
    peer.end().await;
}

#[tokio::test]
async fn an_mcp_server_that_does_not_start_is_reported_and_the_session_begins() {
    let (_directory, mut peer) = started().await;
    let server = json!({ "name": "gone", "command": "/nowhere/server", "args": [], "env": [] });
    let params = json!({ "cwd": "/", "mcpServers": [server] });
    let answer = peer.call("session/new", params).await;
    let report = &answer["result"]["_meta"]["agentbus.mcpServers"][0];
    assert_eq!(
        (&report["name"], &report["connected"]),
        (&json!("gone"), &json!(false))
    );
    assert!(
        report["error"]
            .as_str()
            .unwrap()
            .contains("/nowhere/server")
    );
    peer.end().await;
}

#[tokio::test]
async fn unknown_sessions_are_named_in_the_error() {
    let (_directory, mut peer) = started().await;
    for id in ["nope", "../../etc/passwd", ""] {
        let answer = peer.prompt(id, "x").await;
        assert_eq!(answer["error"]["code"], -32002);
        assert_eq!(answer["error"]["data"]["sessionId"], id);
        for method in ["session/load", "session/resume"] {
            let params = json!({ "sessionId": id, "cwd": "/", "mcpServers": [] });
            assert_eq!(
                peer.call(method, params).await["error"]["code"],
                -32002,
                "{method}"
            );
        }
        let closed = peer.call("session/close", json!({ "sessionId": id })).await;
        assert_eq!(closed["error"]["code"], -32002);
    }
    peer.end().await;
}

#[tokio::test]
async fn load_replays_the_whole_history_and_resume_none_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut peer = Peer::start(directory.path(), EngineOptions::Echo);
    peer.initialize().await;
    let session = peer.session().await;
    peer.prompt(&session, "one").await;
    peer.prompt(&session, "two").await;
    peer.end().await;

    let mut peer = Peer::start(directory.path(), EngineOptions::Echo);
    peer.initialize().await;
    let params = json!({ "sessionId": session, "cwd": "/tmp", "mcpServers": [] });
    peer.call("session/load", params.clone()).await;
    let told: Vec<_> = peer
        .updates("")
        .iter()
        .map(|update| format!("{} {}", update["sessionUpdate"], update["content"]["text"]))
        .collect();
    let told = told.join("\n").replace('"', "");
    let expected = "user_message_chunk one\nagent_message_chunk one\nuser_message_chunk two\nagent_message_chunk two";
    assert_eq!(told, expected);
    peer.call("session/resume", params).await;
    assert!(peer.updates("user_message_chunk").is_empty());
    assert_eq!(
        peer.prompt(&session, "three").await["result"]["stopReason"],
        "end_turn"
    );
    peer.end().await;
}

#[tokio::test]
async fn sessions_are_listed_closed_and_deleted() {
    let (_directory, mut peer) = started().await;
    let first = peer.session().await;
    let second = peer.session().await;
    peer.prompt(&first, "the title\nand more").await;
    let list = peer.call("session/list", json!({})).await;
    let listed = list["result"]["sessions"].as_array().unwrap().clone();
    assert_eq!(listed.len(), 2);
    assert_eq!(
        (&listed[0]["sessionId"], &listed[0]["title"]),
        (&json!(first), &json!("the title"))
    );
    let elsewhere = peer
        .call("session/list", json!({ "cwd": "/elsewhere" }))
        .await;
    assert_eq!(elsewhere["result"]["sessions"], json!([]));

    peer.call("session/close", json!({ "sessionId": first }))
        .await;
    assert_eq!(peer.prompt(&first, "x").await["error"]["code"], -32002);
    for id in [&first, &second, &first] {
        // Deleting twice is as good as deleting once.
        let deleted = peer
            .call("session/delete", json!({ "sessionId": id }))
            .await;
        assert_eq!(deleted["result"], json!({}));
    }
    let list = peer.call("session/list", json!({})).await;
    assert_eq!(list["result"]["sessions"], json!([]));
    peer.end().await;
}

#[tokio::test]
async fn a_list_comes_in_pages() {
    let (_directory, mut peer) = started().await;
    for _ in 0..103 {
        let session = peer.session().await;
        peer.call("session/close", json!({ "sessionId": session }))
            .await;
    }
    let page = peer.call("session/list", json!({})).await;
    assert_eq!(page["result"]["sessions"].as_array().unwrap().len(), 100);
    let cursor = page["result"]["nextCursor"].clone();
    let rest = peer.call("session/list", json!({ "cursor": cursor })).await;
    assert_eq!(rest["result"]["sessions"].as_array().unwrap().len(), 3);
    assert!(rest["result"].get("nextCursor").is_none());
    let wrong = peer.call("session/list", json!({ "cursor": "x" })).await;
    assert_eq!(wrong["error"]["code"], -32602);
    peer.end().await;
}

#[tokio::test]
async fn modes_and_options_show_the_same_choice() {
    let (_directory, mut peer) = started().await;
    let session = peer.session().await;
    let params = json!({ "sessionId": session, "modeId": "allow" });
    assert_eq!(
        peer.call("session/set_mode", params).await["result"],
        json!({})
    );
    // The update comes right after the answer; this answer comes after it.
    let params = json!({ "sessionId": session, "configId": "mode", "value": "ask" });
    let set = peer.call("session/set_config_option", params).await;
    assert_eq!(set["result"]["configOptions"][0]["currentValue"], "ask");
    peer.session().await;
    let options = peer.said.iter().map(|frame| &frame["params"]["update"]);
    let told: Vec<_> = options
        .filter_map(|update| match update["sessionUpdate"].as_str().unwrap() {
            "config_option_update" => Some(update["configOptions"][0]["currentValue"].clone()),
            "current_mode_update" => Some(update["currentModeId"].clone()),
            _ => None,
        })
        .collect();
    assert_eq!(told, ["allow", "ask"]);
    for (method, params) in [
        (
            "session/set_mode",
            json!({ "sessionId": session, "modeId": "fly" }),
        ),
        (
            "session/set_config_option",
            json!({ "sessionId": session, "configId": "mode", "value": "fly" }),
        ),
        (
            "session/set_config_option",
            json!({ "sessionId": session, "configId": "model", "value": "x" }),
        ),
    ] {
        let answer = peer.call(method, params).await;
        assert_eq!(answer["error"]["code"], -32602, "{method}");
        assert!(
            answer["error"]["message"]
                .as_str()
                .unwrap()
                .contains("choose one of")
        );
    }
    peer.end().await;
}

#[tokio::test]
async fn a_history_that_a_crash_cut_off_is_read_to_its_last_whole_line() {
    let (directory, mut peer) = started().await;
    let session = peer.session().await;
    peer.prompt(&session, "kept").await;
    peer.end().await;
    let file = directory.path().join(format!("sessions/{session}.jsonl"));
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str("{\"update\":{\"sessionUpd");
    std::fs::write(&file, text).unwrap();

    let mut peer = Peer::start(directory.path(), EngineOptions::Echo);
    peer.initialize().await;
    for _ in 0..2 {
        let params = json!({ "sessionId": session, "cwd": "/", "mcpServers": [] });
        peer.call("session/load", params).await;
        assert_eq!(peer.text(), "kept");
    }
    peer.prompt(&session, "more").await;
    peer.end().await;
}
