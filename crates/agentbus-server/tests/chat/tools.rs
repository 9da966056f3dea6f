//! Tools of MCP over plain HTTP.

use serde_json::{Value, json};

use super::client::{Host, quiet};

/// Calls a tool; what its only block says.
async fn call(host: &Host, tool: &str, arguments: Value) -> Value {
    let path = format!("/api/mcp/tool/{tool}");
    let answer = host.json("POST", &path, arguments).await;
    assert_eq!(answer.status, 200, "{tool}: {}", answer.text);
    said(&answer.body)
}

fn said(blocks: &Value) -> Value {
    assert_eq!(blocks.as_array().unwrap().len(), 1, "{blocks}");
    assert_eq!(blocks[0]["type"], "text");
    serde_json::from_str(blocks[0]["text"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn an_agent_joins_and_posts_without_a_session() {
    let host = Host::start(quiet()).await;
    let join = json!({ "thread_name": "t", "ide": "IDE", "model": "m" });
    let joined = call(&host, "bus_connect", join).await;
    let thread = &joined["thread"]["thread_id"];
    let post = json!({ "thread_id": thread, "author": joined["agent"]["agent_id"],
        "token": joined["agent"]["token"], "content": "hello",
        "expected_last_seq": joined["current_seq"], "reply_token": joined["reply_token"] });
    let posted = call(&host, "msg_post", post).await;
    assert!(posted["seq"].is_i64(), "{posted}");
    let path = format!("/api/threads/{}/messages", thread.as_str().unwrap());
    let messages = host.get(&path).await.body;
    assert_eq!(messages[0]["content"], "hello");
    // What an agent can put right is an answer, as over MCP.
    let none = call(&host, "thread_get", json!({ "thread_id": "nope" })).await;
    assert_eq!(none["error"], "Thread not found");
    host.server.shutdown().await;
}

#[tokio::test]
async fn nothing_is_remembered_from_call_to_call() {
    let host = Host::start(quiet()).await;
    let join = json!({ "thread_name": "t", "ide": "IDE", "model": "m" });
    let joined = call(&host, "bus_connect", join).await;
    let author = &joined["agent"]["agent_id"];
    let path = format!(
        "/api/threads/{}/messages",
        joined["thread"]["thread_id"].as_str().unwrap()
    );
    let posted = json!({ "author": author, "content": "mine" });
    let token = joined["agent"]["token"].as_str().unwrap();
    let posted = host
        .json_as("POST", &path, &[("x-agent-token", token)], posted)
        .await;
    assert_eq!(posted.status, 201, "{}", posted.text);
    let edit = json!({ "message_id": posted.body["id"], "new_content": "forged" });
    call(&host, "msg_edit", edit).await;
    let messages = host.get(&path).await.body;
    assert_eq!(messages[0]["content"], "mine", "nobody has proved itself");
    host.server.shutdown().await;
}

#[tokio::test]
async fn a_call_that_makes_no_sense_is_refused() {
    let host = Host::start(quiet()).await;
    let refused = async |tool: &str, arguments: Value| {
        let path = format!("/api/mcp/tool/{tool}");
        let answer = host.json("POST", &path, arguments).await;
        let detail = answer.body["detail"].as_str().unwrap_or_default();
        (answer.status, detail.to_owned())
    };
    let (status, detail) = refused("nope", json!({})).await;
    assert_eq!((status, detail.as_str()), (400, "Unknown tool: nope"));
    let (status, detail) = refused("msg_list", json!({})).await;
    assert_eq!(status, 400);
    assert!(detail.contains("'thread_id'"), "{detail}");
    let (status, _) = refused("msg_list", json!([1])).await;
    assert_eq!(status, 422);
    let form = host
        .send(
            "POST",
            "/api/mcp/tool/thread_list",
            &[("content-type", "text/plain")],
            "{}",
        )
        .await;
    assert_eq!(form.status, 415, "{}", form.text);
    host.server.shutdown().await;
}

#[tokio::test]
async fn a_message_without_a_session_is_answered_alone() {
    let host = Host::start(quiet()).await;
    let thread = host.thread("t").await;
    let ask = async |method: &str, params: Value| {
        let asked = json!({ "method": method, "params": params });
        let answer = host.json("POST", "/mcp/messages/", asked).await;
        assert_eq!(answer.status, 200, "{method}: {}", answer.text);
        answer.body["result"].clone()
    };
    let tools = ask("tools/list", Value::Null).await;
    let named = |name: &str| {
        let tools = tools.as_array().unwrap();
        tools.iter().any(|tool| tool["name"] == name)
    };
    assert!(named("bus_connect") && !named("agent_register"), "{tools}");
    let get = json!({ "name": "thread_get", "arguments": { "thread_id": thread } });
    assert_eq!(said(&ask("tools/call", get).await)["topic"], "t");
    let resources = ask("resources/list", json!({})).await;
    assert!(resources["resources"].is_array(), "{resources}");
    let uri = format!("chat://threads/{thread}/state");
    let state = ask("resources/read", json!({ "uri": uri })).await;
    assert_eq!(state["contents"][0]["uri"], uri.as_str());
    let prompts = ask("prompts/list", json!({})).await;
    assert_eq!(prompts["prompts"].as_array().unwrap().len(), 2);
    let arguments = json!({ "topic": "t", "transcript": "a: b" });
    let prompt = json!({ "name": "summarize_thread", "arguments": arguments });
    let prompt = ask("prompts/get", prompt).await;
    assert_eq!(prompt["messages"].as_array().unwrap().len(), 1);
    host.server.shutdown().await;
}

#[tokio::test]
async fn a_message_without_a_session_that_makes_no_sense_is_refused() {
    let host = Host::start(quiet()).await;
    for (body, status, says) in [
        (json!({}), 400, "method"),
        (json!({ "method": "initialize" }), 400, "/mcp"),
        (json!({ "method": "tools/call" }), 400, "`name`"),
        (
            json!({ "method": "tools/call", "params": { "name": "nope" } }),
            400,
            "Unknown tool: nope",
        ),
        (
            json!({ "method": "tools/call", "params": { "name": "msg_list", "arguments": [] } }),
            400,
            "`arguments`",
        ),
        (
            json!({ "method": "resources/read", "params": { "uri": "chat://nope" } }),
            404,
            "chat://nope",
        ),
    ] {
        let answer = host.json("POST", "/mcp/messages", body).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        let message = answer.body["message"].as_str().unwrap();
        assert!(message.contains(says), "{message}");
    }
    let plain = [("content-type", "text/plain")];
    let body = r#"{"method":"tools/list"}"#;
    let plain = host.send("POST", "/mcp/messages", &plain, body).await;
    assert_eq!(plain.status, 415, "{}", plain.text);
    host.server.shutdown().await;
}

/// Whoever asked for it must see that it was not their mistake, and whether to try again.
#[tokio::test]
async fn what_an_agent_failed_at_is_an_answer_with_its_code() {
    let host = Host::start(quiet()).await;
    let path = "/api/mcp/tool/agent_invoke";
    let asked = json!({ "target": "nobody", "payload": 1 });
    let answer = host.json("POST", path, asked).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let data = answer.body[1]["text"].as_str().unwrap();
    let data: Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["code"], "NO_HANDLER");
    host.server.shutdown().await;
}
