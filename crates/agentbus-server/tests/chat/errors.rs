//! What goes wrong, and the answer it gets.

use serde_json::{Value, json};

use super::client::{Host, quiet};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mistake_has_its_answer() {
    let host = Host::start(quiet()).await;
    let thread = host.thread("t").await;
    let messages = format!("/api/threads/{thread}/messages");
    let table: [(&str, &str, Value, u16); 22] = [
        (
            "POST",
            "/api/threads",
            json!({ "creator_agent_id": "x" }),
            422,
        ),
        (
            "POST",
            "/api/threads",
            json!({ "topic": "a", "creator_agent_id": "x" }),
            401,
        ),
        ("GET", "/api/threads?before=xx", Value::Null, 400),
        ("GET", "/api/threads/nope", Value::Null, 404),
        ("DELETE", "/api/threads/nope", Value::Null, 404),
        (
            "POST",
            "/api/threads/nope/state",
            json!({ "state": "foo" }),
            404,
        ),
        (
            "POST",
            "/api/threads/nope/rename",
            json!({ "topic": "x" }),
            404,
        ),
        ("GET", "/api/threads/nope/admin", Value::Null, 404),
        (
            "POST",
            "/api/threads/nope/wait",
            json!({ "after_seq": 0 }),
            404,
        ),
        ("POST", "/api/threads/nope/wait", json!({}), 422),
        ("POST", &messages, json!({}), 422),
        (
            "POST",
            &messages,
            json!({ "content": "x".repeat(1024 * 1024 + 1) }),
            413,
        ),
        (
            "POST",
            &messages,
            json!({ "content": "x", "metadata": [] }),
            422,
        ),
        (
            "PUT",
            "/api/messages/nope",
            json!({ "edited_by": "a" }),
            422,
        ),
        (
            "PUT",
            "/api/messages/nope",
            json!({ "new_content": "x", "edited_by": "a" }),
            404,
        ),
        ("GET", "/api/messages/nope", Value::Null, 404),
        ("GET", "/api/search?q=x&after=never", Value::Null, 400),
        (
            "POST",
            "/api/templates",
            json!({ "id": "", "name": "n" }),
            400,
        ),
        (
            "POST",
            "/api/templates",
            json!({ "id": " ", "name": "n" }),
            400,
        ),
        ("GET", "/static/uploads/..%2Ftoken", Value::Null, 404),
        ("PATCH", "/api/agents", Value::Null, 405),
        ("GET", "/api/nothing", Value::Null, 404),
    ];
    for (method, path, body, expect) in table {
        let answer = host.json(method, path, body).await;
        assert_eq!(answer.status, expect, "{method} {path}: {}", answer.text);
        assert!(
            !answer.body["detail"].is_null(),
            "{method} {path}: {}",
            answer.text
        );
    }
    let not_json = host
        .send("POST", &messages, &[("content-type", "text/plain")], "{}")
        .await;
    assert_eq!(not_json.status, 415);
    let broken = host
        .send(
            "POST",
            &messages,
            &[("content-type", "application/json")],
            "{",
        )
        .await;
    assert_eq!(broken.status, 422);
    let long = format!("{{\"content\":\"{}\"}}", "x".repeat(4 * 1024 * 1024));
    let kind = [("content-type", "application/json")];
    let long = host.send("POST", &messages, &kind, long).await;
    assert_eq!(long.status, 413, "{}", long.text);
    assert_eq!(long.body["detail"], "body exceeds 4 MiB limit");
    host.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused_on_every_route() {
    let host = Host::start(quiet()).await;
    for path in [
        "/health",
        "/events",
        "/api/threads",
        "/api/agents",
        "/static/uploads/x.png",
    ] {
        let foreign = host
            .send("GET", path, &[("host", "evil.example")], "")
            .await;
        assert_eq!(foreign.status, 403, "{path}");
        let origin = host
            .send("GET", path, &[("origin", "http://evil.example")], "")
            .await;
        assert_eq!(origin.status, 403, "{path}");
    }
    host.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_is_limited_in_all_its_parts() {
    let host = Host::start(quiet()).await;
    let kind = [("content-type", "multipart/form-data; boundary=b")];
    let filler = "x".repeat(6 * 1024 * 1024);
    for form in [
        format!("--b\r\nX-Long: {filler}"),
        format!("--b\r\nContent-Disposition: form-data; name=\"other\"\r\n\r\n{filler}"),
    ] {
        let answer = host.send("POST", "/api/upload/image", &kind, form).await;
        assert_eq!(answer.status, 413, "{}", answer.text);
    }
    host.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_told_once_and_never_again() {
    let host = Host::start(quiet()).await;
    let (id, token) = host.agent().await;
    let thread = host.thread("t").await;
    let (events, agent) = (
        format!("/api/agents/{id}"),
        format!("/api/threads/{thread}/agents"),
    );
    for path in [
        "/api/agents",
        &events,
        &agent,
        "/api/metrics",
        "/api/system/diagnostics",
        "/api/settings",
        "/openapi.json",
    ] {
        let answer = host.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(!answer.text.contains(&token), "{path}");
    }
    let resume = host
        .json(
            "POST",
            "/api/agents/resume",
            json!({ "agent_id": id, "token": token }),
        )
        .await;
    assert_eq!(resume.status, 200);
    assert!(!resume.text.contains(&token));
    host.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_is_described() {
    let described = serde_json::to_value(agentbus_server::openapi()).unwrap();
    let paths = described["paths"].as_object().unwrap();
    for path in [
        "/api/threads/{id}/messages",
        "/api/threads/{id}/wait",
        "/api/search",
        "/events",
        "/api/upload/image",
        "/api/threads/{id}/admin/decision",
    ] {
        assert!(paths.contains_key(path), "{path}");
    }
}
