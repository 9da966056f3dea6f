//! Prompts: what is said, in which order, and how they are cancelled.

use std::time::{Duration, Instant};

use agentbus_acp::worker::EngineOptions;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::peer::Peer;

async fn started() -> (TempDir, Peer, String) {
    let directory = tempfile::tempdir().unwrap();
    let mut peer = Peer::start(directory.path(), EngineOptions::Echo);
    peer.initialize().await;
    let session = peer.session().await;
    (directory, peer, session)
}

fn reason(answer: &Value) -> &str {
    answer["result"]["stopReason"].as_str().unwrap()
}

#[tokio::test]
async fn each_block_is_said_back_in_its_own_way() {
    let (_directory, mut peer, session) = started().await;
    for (block, said) in [
        (json!({ "type": "text", "text": "añb\n" }), "añb\n"),
        (
            json!({ "type": "resource_link", "name": "n", "uri": "file:///n" }),
            "[Resource: n] file:///n",
        ),
        (
            json!({ "type": "resource", "resource": { "uri": "file:///t", "text": "in it" } }),
            "[Embedded resource: file:///t]\nin it",
        ),
        (
            json!({ "type": "resource", "resource": { "uri": "file:///b", "blob": "AA==" } }),
            "[Embedded resource: file:///b] (binary data)",
        ),
        (
            json!({ "type": "image", "mimeType": "image/png", "data": "AA==" }),
            "[Image: image/png]",
        ),
        (
            json!({ "type": "audio", "mimeType": "audio/wav", "data": "AA==" }),
            "[Audio: audio/wav]",
        ),
        (
            json!({ "type": "text", "text": "/unknown command" }),
            "/unknown command",
        ),
    ] {
        peer.said.clear();
        let params = json!({ "sessionId": session, "prompt": [block] });
        let answer = peer.call("session/prompt", params).await;
        assert_eq!(reason(&answer), "end_turn");
        assert_eq!(peer.text(), said);
    }
    peer.end().await;
}

#[tokio::test]
async fn blocks_of_one_prompt_are_chunks_of_their_own() {
    let (_directory, mut peer, session) = started().await;
    let prompt = json!([{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }]);
    peer.call(
        "session/prompt",
        json!({ "sessionId": session, "prompt": prompt }),
    )
    .await;
    assert_eq!(peer.updates("agent_message_chunk").len(), 2);
    peer.end().await;
}

#[tokio::test]
async fn meta_of_a_prompt_is_no_obstacle() {
    let (_directory, mut peer, session) = started().await;
    let params = json!({
        "sessionId": session,
        "prompt": [{ "type": "text", "text": "x", "_meta": { "k": [1] } }],
        "_meta": { "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" },
    });
    assert_eq!(
        reason(&peer.call("session/prompt", params).await),
        "end_turn"
    );
    peer.end().await;
}

#[tokio::test]
async fn a_cancelled_turn_says_so_at_once_and_the_next_one_works() {
    let (_directory, mut peer, session) = started().await;
    for _ in 0..3 {
        let begun = Instant::now();
        let id = peer.ask_prompt(&session, "/wait 60").await;
        peer.notify("session/cancel", json!({ "sessionId": session }))
            .await;
        assert_eq!(reason(&peer.answer(id).await), "cancelled");
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert_eq!(reason(&peer.prompt(&session, "again").await), "end_turn");
    }
    assert_eq!(peer.text(), "againagainagain");
    peer.end().await;
}

#[tokio::test]
async fn cancelling_what_does_not_run_does_nothing() {
    let (_directory, mut peer, session) = started().await;
    peer.notify("session/cancel", json!({ "sessionId": session }))
        .await;
    peer.notify("session/cancel", json!({ "sessionId": "unknown" }))
        .await;
    assert_eq!(reason(&peer.prompt(&session, "x").await), "end_turn");
    peer.end().await;
}

#[tokio::test]
async fn a_withdrawn_request_is_answered_as_cancelled() {
    let (_directory, mut peer, session) = started().await;
    let id = peer.ask_prompt(&session, "/wait 60").await;
    peer.notify("$/cancel_request", json!({ "requestId": id }))
        .await;
    assert_eq!(reason(&peer.answer(id).await), "cancelled");
    peer.end().await;
}

#[tokio::test]
async fn prompts_of_a_session_wait_in_line_and_other_sessions_do_not() {
    let (_directory, mut peer, session) = started().await;
    let other = peer.session().await;
    let slow = peer.ask_prompt(&session, "/wait 60").await;
    let behind = peer.ask_prompt(&session, "behind").await;
    assert_eq!(reason(&peer.prompt(&other, "beside").await), "end_turn");
    assert_eq!(peer.text(), "beside");
    // Both were there when the cancellation came.
    peer.notify("session/cancel", json!({ "sessionId": session }))
        .await;
    assert_eq!(reason(&peer.answer(slow).await), "cancelled");
    assert_eq!(reason(&peer.answer(behind).await), "cancelled");
    peer.end().await;
}

#[tokio::test]
async fn prompts_in_line_are_answered_in_order_and_too_many_are_refused() {
    let (_directory, mut peer, session) = started().await;
    let slow = peer.ask_prompt(&session, "/wait 0.5").await;
    let mut line = Vec::new();
    for number in 0..16 {
        line.push(peer.ask_prompt(&session, &number.to_string()).await);
    }
    let refused = peer.prompt(&session, "one too many").await;
    assert_eq!(refused["error"]["code"], -32600);
    peer.answer(slow).await;
    for id in line {
        assert_eq!(reason(&peer.answer(id).await), "end_turn");
    }
    assert!(peer.text().ends_with("0123456789101112131415"));
    peer.end().await;
}

#[tokio::test]
async fn closing_a_session_cancels_its_turn() {
    let (_directory, mut peer, session) = started().await;
    let id = peer.ask_prompt(&session, "/wait 60").await;
    let close = peer
        .ask("session/close", json!({ "sessionId": session }))
        .await;
    assert_eq!(reason(&peer.answer(id).await), "cancelled");
    assert_eq!(peer.answer(close).await["result"], json!({}));
    peer.end().await;
}

#[tokio::test]
async fn a_tool_that_is_not_there_fails_visibly() {
    let (_directory, mut peer, session) = started().await;
    let answer = peer.prompt(&session, "/tool nope {}").await;
    assert_eq!(reason(&answer), "end_turn");
    let updates = peer.updates("tool_call_update");
    assert_eq!(updates[0]["status"], "failed");
    let text = updates[0]["content"][0]["content"]["text"]
        .as_str()
        .unwrap();
    assert!(text.starts_with("Error: there is no tool `nope`"), "{text}");
    let wrong = peer.prompt(&session, "/tool nope {no json").await;
    assert_eq!(wrong["error"]["code"], -32602);
    peer.end().await;
}

#[tokio::test]
async fn stopping_answers_the_turn_that_runs() {
    let (_directory, mut peer, session) = started().await;
    let id = peer.ask_prompt(&session, "/wait 60").await;
    // The turn has begun once another request behind it is answered.
    peer.session().await;
    peer.stop.cancel();
    assert_eq!(reason(&peer.answer(id).await), "cancelled");
    assert!(peer.read().await.is_none());
    peer.served.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_end_of_the_input_ends_a_turn_soon() {
    let (_directory, mut peer, session) = started().await;
    peer.ask_prompt(&session, "/wait 60").await;
    let begun = Instant::now();
    peer.end().await;
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn answers_to_the_last_lines_come_after_the_end_of_the_input() {
    let directory = tempfile::tempdir().unwrap();
    let mut peer = Peer::start(directory.path(), EngineOptions::Echo);
    for _ in 0..20 {
        peer.ask("session/new", json!({ "cwd": "/", "mcpServers": [] }))
            .await;
    }
    let before = peer.frames.count;
    assert_eq!(before, 20);
    peer.end().await;
    let kept = std::fs::read_dir(directory.path().join("sessions")).unwrap();
    assert_eq!(kept.count(), 20);
}

#[tokio::test]
async fn the_bus_finds_its_routing_id_on_every_line_of_a_turn() {
    let (_directory, mut peer, session) = started().await;
    let prompt = json!([{ "type": "text", "text": "x" }]);
    let params = json!({ "sessionId": session, "prompt": prompt });
    let line = json!({ "jsonrpc": "2.0", "id": "r", "method": "session/prompt", "sessionId": "route-1", "params": params });
    peer.frames
        .check(crate::frames::From::Client, &line.to_string());
    peer.write(&line.to_string()).await;
    loop {
        let frame = peer.read().await.unwrap();
        // What the worker said of the session before is not part of the turn.
        if frame["params"]["update"]["sessionUpdate"] == "available_commands_update" {
            continue;
        }
        assert_eq!(frame["sessionId"], "route-1", "{frame}");
        if frame["id"] == "r" {
            break;
        }
    }
    peer.end().await;
}

#[tokio::test]
async fn a_line_that_comes_in_pieces_keeps_its_routing_id() {
    let (_directory, mut peer, session) = started().await;
    let prompt = json!([{ "type": "text", "text": "añb" }]);
    let params = json!({ "sessionId": session, "prompt": prompt });
    let line = json!({ "jsonrpc": "2.0", "id": "p", "sessionId": "route-2", "method": "session/prompt", "params": params });
    let line = line.to_string();
    peer.frames.check(crate::frames::From::Client, &line);
    for piece in line.as_bytes().chunks(5) {
        peer.write_piece(piece).await;
        // The worker reads what there is.
        tokio::task::yield_now().await;
    }
    peer.write("").await;
    let mut said = String::new();
    loop {
        let frame = peer.read().await.unwrap();
        let update = &frame["params"]["update"];
        if update["sessionUpdate"] == "agent_message_chunk" {
            assert_eq!(frame["sessionId"], "route-2");
            said += update["content"]["text"].as_str().unwrap();
        }
        if frame["id"] == "p" {
            assert_eq!(frame["sessionId"], "route-2");
            break;
        }
    }
    assert_eq!(said, "añb");
    peer.end().await;
}

#[tokio::test]
async fn a_long_history_forgets_its_oldest_turns_only() {
    let (directory, mut peer, session) = started().await;
    let long = "x".repeat(1024 * 1024);
    for number in 0..6 {
        peer.prompt(&session, &format!("{number} {long}")).await;
    }
    peer.said.clear();
    let file = directory.path().join(format!("sessions/{session}.jsonl"));
    assert!(std::fs::metadata(file).unwrap().len() <= 8 * 1024 * 1024);
    let params = json!({ "sessionId": session, "cwd": "/", "mcpServers": [] });
    peer.call("session/load", params).await;
    let told = peer.updates("user_message_chunk");
    let first = told[0]["content"]["text"].as_str().unwrap();
    let last = told.last().unwrap()["content"]["text"].as_str().unwrap();
    assert!(!first.starts_with("0 "), "the oldest turn is still there");
    assert!(last.starts_with("5 "));
    peer.end().await;
}

#[tokio::test]
async fn a_cancel_right_behind_its_prompt_or_its_answer_hurts_nobody() {
    let (_directory, mut peer, session) = started().await;
    for _ in 0..20 {
        let id = peer.ask_prompt(&session, "/wait 0").await;
        peer.notify("session/cancel", json!({ "sessionId": session }))
            .await;
        let answer = peer.answer(id).await;
        assert!(
            ["end_turn", "cancelled"].contains(&reason(&answer)),
            "{answer}"
        );
        assert_eq!(reason(&peer.prompt(&session, "on").await), "end_turn");
    }
    peer.end().await;
}

#[tokio::test]
async fn a_client_that_can_do_nothing_is_asked_for_nothing() {
    // It names no capability of its own, and the tools of a session are all that is asked about.
    let (_directory, mut peer, session) = started().await;
    let link = json!({ "type": "resource_link", "name": "n", "uri": "file:///etc/hostname" });
    let text =
        json!({ "type": "text", "text": "/tool read_text_file {\"path\":\"/etc/hostname\"}" });
    for block in [link, text] {
        let params = json!({ "sessionId": session, "prompt": [block] });
        peer.call("session/prompt", params).await;
    }
    for frame in &peer.said {
        assert_eq!(frame["method"], "session/update", "{frame}");
    }
    peer.end().await;
}
