//! The engine with a model behind it, against an endpoint that speaks the real wire.

use std::time::{Duration, Instant};

use agentbus_acp::worker::{EngineOptions, OpenAi};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::endpoint::{Endpoint, Script, delta, finish};
use crate::peer::Peer;
use crate::tools::echo_server;

fn options(url: &str) -> EngineOptions {
    EngineOptions::OpenAi(OpenAi {
        base_url: url.to_owned(),
        api_key: "sk-secret".to_owned(),
        models: vec!["small".to_owned(), "large".to_owned()],
        system_prompt: Some("be brief".to_owned()),
        max_tokens: Some(99),
        temperature: Some(0.5),
        context_tokens: 1000,
    })
}

async fn started(scripts: Vec<Script>) -> (TempDir, Endpoint, Peer, String) {
    let endpoint = Endpoint::start(scripts).await;
    let directory = tempfile::tempdir().unwrap();
    let mut peer = Peer::start(directory.path(), options(&endpoint.url));
    peer.initialize().await;
    let params = json!({ "cwd": "/", "mcpServers": [echo_server()] });
    let answer = peer.call("session/new", params).await;
    let session = answer["result"]["sessionId"].as_str().unwrap().to_owned();
    (directory, endpoint, peer, session)
}

fn text(text: &str) -> String {
    delta(json!({ "content": text }))
}

fn answer(texts: &[&str]) -> Vec<String> {
    let mut events: Vec<_> = texts.iter().map(|piece| text(piece)).collect();
    events.extend(finish("stop"));
    events
}

#[tokio::test]
async fn an_answer_streams_however_its_bytes_are_cut() {
    for piece in [1, 3, 7, 4096] {
        let script = Script::Events(answer(&["Grüß", "e, ", "世界"]), piece);
        let (_directory, endpoint, mut peer, session) = started(vec![script]).await;
        let done = peer.prompt(&session, "hello").await;
        assert_eq!(done["result"]["stopReason"], "end_turn");
        let used = peer
            .said
            .iter()
            .find(|frame| frame["params"]["update"]["sessionUpdate"] == "usage_update");
        let used = &used.unwrap()["params"]["update"];
        assert_eq!((&used["used"], &used["size"]), (&json!(7), &json!(1000)));
        assert_eq!(peer.updates("agent_message_chunk").len(), 3);
        let request = endpoint.request(0);
        assert_eq!(request["model"], "small");
        assert_eq!(
            (
                &request["stream"],
                &request["max_tokens"],
                &request["temperature"]
            ),
            (&json!(true), &json!(99), &json!(0.5))
        );
        assert_eq!(
            request["messages"][0],
            json!({ "role": "system", "content": "be brief" })
        );
        assert_eq!(
            request["messages"][1],
            json!({ "role": "user", "content": "hello" })
        );
        assert!(
            endpoint.requests.lock().unwrap()[0]
                .0
                .contains("authorization: bearer sk-secret")
        );
        peer.end().await;
    }
}

#[tokio::test]
async fn the_conversation_is_remembered_also_after_a_restart() {
    let scripts = vec![
        Script::Events(answer(&["first"]), 9),
        Script::Events(answer(&["second"]), 9),
    ];
    let (directory, endpoint, mut peer, session) = started(scripts).await;
    peer.prompt(&session, "one").await;
    peer.end().await;
    let mut peer = Peer::start(directory.path(), options(&endpoint.url));
    peer.initialize().await;
    let params = json!({ "sessionId": session, "cwd": "/", "mcpServers": [] });
    peer.call("session/resume", params).await;
    let params = json!({ "sessionId": session, "configId": "model", "value": "large" });
    peer.call("session/set_config_option", params).await;
    peer.prompt(&session, "two").await;
    let request = endpoint.request(1);
    assert_eq!(request["model"], "large");
    let told: Vec<_> = request["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["content"].clone())
        .collect();
    assert_eq!(told, ["be brief", "one", "first", "two"]);
    peer.end().await;
}

#[tokio::test]
async fn tools_run_with_permission_and_their_results_go_back() {
    let call = |piece: Value| delta(json!({ "tool_calls": [piece] }));
    let mut first = vec![
        text("Let me see. "),
        call(
            json!({ "index": 0, "id": "c0", "type": "function", "function": { "name": "reverse", "arguments": "" } }),
        ),
        call(json!({ "index": 0, "function": { "arguments": "{\"te" } })),
        call(
            json!({ "index": 1, "id": "c1", "function": { "name": "error", "arguments": "{\"message\":" } }),
        ),
        call(json!({ "index": 0, "function": { "arguments": "xt\":\"abc\"}" } })),
        call(json!({ "index": 1, "function": { "arguments": "\"no\"}" } })),
        call(json!({ "index": 2, "function": { "name": "reverse", "arguments": "{broken" } })),
    ];
    first.extend(finish("tool_calls"));
    let scripts = vec![
        Script::Events(first, 11),
        Script::Events(answer(&["It is cba."]), 11),
    ];
    let (_directory, endpoint, mut peer, session) = started(scripts).await;
    let done = peer.prompt(&session, "reverse abc").await;
    assert_eq!(done["result"]["stopReason"], "end_turn");
    let asked = peer
        .said
        .iter()
        .filter(|frame| frame["method"] == "session/request_permission");
    assert_eq!(asked.count(), 2);
    let ended: Vec<_> = peer
        .updates("tool_call_update")
        .into_iter()
        .filter(|update| update["status"] != "in_progress")
        .map(|update| update["status"].clone())
        .collect();
    assert_eq!(ended, ["completed", "failed", "failed"]);
    let offered = endpoint.request(0)["tools"].clone();
    assert_eq!(offered.as_array().unwrap().len(), 5);
    let request = endpoint.request(1);
    let results: Vec<_> = request["messages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|message| message["role"] == "tool")
        .map(|message| message["content"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(results[..2], ["cba", "Error: no"]);
    assert!(results[2].contains("no JSON object"), "{}", results[2]);
    peer.end().await;
}

#[tokio::test]
async fn a_model_that_never_stops_calling_is_stopped() {
    let call = json!({ "tool_calls": [{ "index": 0, "function": { "name": "echo", "arguments": "{\"text\":\"x\"}" } }] });
    let scripts = (0..40).map(|_| {
        let mut events = vec![delta(call.clone())];
        events.extend(finish("tool_calls"));
        Script::Events(events, 4096)
    });
    let (_directory, endpoint, mut peer, session) = started(scripts.collect()).await;
    peer.choose = Some("allow_always");
    let done = peer.prompt(&session, "go").await;
    assert_eq!(done["result"]["stopReason"], "max_turn_requests");
    assert_eq!(endpoint.requests.lock().unwrap().len(), 32);
    let asked = peer
        .said
        .iter()
        .filter(|frame| frame["method"] == "session/request_permission");
    assert_eq!(asked.count(), 1, "always means always");
    peer.end().await;
}

#[tokio::test]
async fn stop_reasons_keep_their_meaning() {
    for (reason, stop) in [
        ("length", "max_tokens"),
        ("content_filter", "refusal"),
        ("stop", "end_turn"),
    ] {
        let mut events = vec![text("x")];
        events.extend(finish(reason));
        let (_directory, _endpoint, mut peer, session) =
            started(vec![Script::Events(events, 64)]).await;
        assert_eq!(
            peer.prompt(&session, "x").await["result"]["stopReason"],
            stop
        );
        peer.end().await;
    }
}

#[tokio::test]
async fn a_cancel_in_the_middle_of_an_answer_ends_it_and_the_next_works() {
    let scripts = vec![
        Script::Hold(vec![text("half an ans")]),
        Script::Events(answer(&["whole"]), 64),
    ];
    let (_directory, endpoint, mut peer, session) = started(scripts).await;
    let id = peer.ask_prompt(&session, "one").await;
    while peer.updates("agent_message_chunk").is_empty() {
        peer.read().await.unwrap();
    }
    let begun = Instant::now();
    peer.notify("session/cancel", json!({ "sessionId": session }))
        .await;
    assert_eq!(peer.answer(id).await["result"]["stopReason"], "cancelled");
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(
        peer.prompt(&session, "two").await["result"]["stopReason"],
        "end_turn"
    );
    let told = endpoint.request(1)["messages"].clone();
    assert_eq!(
        told[2]["content"], "half an ans",
        "what was said is remembered"
    );
    peer.end().await;
}

#[tokio::test]
async fn a_pause_that_is_asked_for_is_made() {
    let scripts = vec![
        Script::Refuse(429, "retry-after: 0\r\n", "{}"),
        Script::Refuse(429, "Retry-After: 0.1\r\n", "{}"),
        Script::Refuse(429, "retry-after: Wed, 21 Oct 2015 07:28:00 GMT\r\n", "{}"),
        Script::Events(answer(&["at last"]), 64),
    ];
    let (_directory, _endpoint, mut peer, session) = started(scripts).await;
    assert_eq!(
        peer.prompt(&session, "x").await["result"]["stopReason"],
        "end_turn"
    );
    assert_eq!(peer.text(), "at last");
    peer.end().await;
}

#[tokio::test]
async fn each_refusal_is_an_error_of_its_own_and_the_next_prompt_works() {
    let long = "retry-after: 3600\r\n";
    let body = "{\"error\":{\"message\":\"quota\"}}";
    let refusals = [
        (Script::Refuse(401, "", body), -32000, "authentication"),
        (Script::Refuse(403, "", body), -32000, "authentication"),
        (Script::Refuse(429, long, body), -32603, "rate_limit"),
        (Script::Refuse(500, "", body), -32603, "server"),
        (Script::Refuse(404, "", "quota"), -32603, "request"),
        (
            Script::Refuse(302, "location: http://127.0.0.1:1/\r\n", "quota"),
            -32603,
            "request",
        ),
    ];
    for (script, code, kind) in refusals {
        let scripts = vec![script, Script::Events(answer(&["fine"]), 64)];
        let (_directory, _endpoint, mut peer, session) = started(scripts).await;
        let refused = peer.prompt(&session, "x").await["error"].clone();
        assert_eq!(
            (&refused["code"], &refused["data"]["kind"]),
            (&json!(code), &json!(kind))
        );
        assert!(
            refused["message"].as_str().unwrap().contains("quota"),
            "{refused}"
        );
        assert!(!refused.to_string().contains("sk-secret"));
        assert_eq!(
            peer.prompt(&session, "x").await["result"]["stopReason"],
            "end_turn"
        );
        peer.end().await;
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error() {
    let error = "{\"error\":{\"message\":\"overloaded\"}}".to_owned();
    for (script, kind) in [
        (Script::HangUp(vec![text("half")]), "hung_up"),
        (Script::HangUp(vec![]), "hung_up"),
        (Script::Events(vec![text("half"), error], 5), "refused"),
        (Script::Events(vec![text("half")], 5), "hung_up"),
    ] {
        let (_directory, _endpoint, mut peer, session) = started(vec![script]).await;
        let error = peer.prompt(&session, "x").await["error"].clone();
        assert_eq!(error["data"]["kind"], kind, "{error}");
        peer.end().await;
    }
}

#[tokio::test]
async fn an_answer_that_stops_in_the_middle_is_an_error_after_its_time() {
    let scripts = vec![
        Script::Hold(vec![text("half an ans")]),
        Script::Events(answer(&["whole"]), 64),
    ];
    let (_directory, _endpoint, mut peer, session) = started(scripts).await;
    let turn = peer.ask_prompt(&session, "x").await;
    while peer.updates("agent_message_chunk").is_empty() {
        peer.read().await.unwrap();
    }
    // From here on time passes as soon as everybody waits for it.
    tokio::time::pause();
    peer.patience = Duration::from_secs(3600);
    let error = peer.answer(turn).await["error"].clone();
    assert_eq!(error["data"]["kind"], "silent", "{error}");
    tokio::time::resume();
    let next = peer.prompt(&session, "x").await;
    assert_eq!(next["result"]["stopReason"], "end_turn");
    peer.end().await;
}

#[tokio::test]
async fn events_that_are_none_are_passed_over() {
    let odd = [
        "{\"choices\":[]}",
        "{\"unknown\":1}",
        "no json",
        "{\"half\":",
    ];
    let mut events: Vec<_> = odd.map(str::to_owned).into();
    events.extend(answer(&["x"]));
    let (_directory, _endpoint, mut peer, session) = started(vec![Script::Events(events, 5)]).await;
    peer.prompt(&session, "x").await;
    assert_eq!(peer.text(), "x");
    peer.end().await;
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let mut peer = Peer::start(directory.path(), options("http://127.0.0.1:1/v1"));
    peer.initialize().await;
    let session = peer.session().await;
    let error = peer.prompt(&session, "x").await["error"].clone();
    assert_eq!(error["data"]["kind"], "unreachable");
    peer.end().await;
}
