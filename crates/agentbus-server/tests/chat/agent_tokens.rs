//! The tokens of agents that the bus drives: the tools of the bus and nothing else.

use agentbus_server::AuthMode;
use serde_json::{Value, json};

use super::client::{Answer, Host};
use super::mcp_session::McpSession;

async fn send(host: &Host, token: &str, method: &str, path: &str) -> Answer {
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str())];
    let body = match method {
        "GET" => Value::Null,
        _ => json!({}),
    };
    host.json_as(method, path, &headers, body).await
}

#[tokio::test]
async fn the_token_of_an_agent_opens_the_tools_and_nothing_else() {
    // Also where people need no token, it says who its holder is.
    for auth in [AuthMode::Token, AuthMode::Off] {
        let host = Host::start_with(|config, _| config.auth = auth).await;
        let token = host.server.agent_token("claude");
        for (method, path) in [
            ("GET", "/api/decisions"),
            ("POST", "/api/decisions/d"),
            ("POST", "/api/threads/t/admin/decision"),
            ("POST", "/v1/pools/p/restart"),
            ("POST", "/v1/pools/p/drain"),
            ("GET", "/v1/pools/p/logs"),
            ("PUT", "/api/settings"),
            ("GET", "/api/logs"),
            ("POST", "/api/mcp/tool/thread_list"),
            ("POST", "/api/agents/a/kick"),
            ("POST", "/v1/events/decision.closed"),
            ("GET", "/v1/ws"),
            ("GET", "/mcpx"),
            ("GET", "/"),
        ] {
            let refused = send(&host, &token, method, path).await;
            assert_eq!(refused.status, 403, "{path}: {}", refused.text);
            let why = "the token of the agent `claude` opens /mcp and nothing else";
            assert!(refused.text.contains(why), "{}", refused.text);
        }
        let mcp = McpSession::open(&host, &token).await;
        let listed = mcp.call("agent_list", json!({})).await;
        assert_ne!(listed["isError"], true, "{listed}");
        for target in ["agentbus.agents", "agentbus.pools"] {
            let refused = mcp.call("agent_invoke", json!({ "target": target })).await;
            let text = refused.to_string();
            assert!(text.contains("for whoever runs the bus"), "{text}");
        }
        let bearer = format!("Bearer {token}");
        let elsewhere = [("authorization", bearer.as_str()), ("x-tenant-id", "acme")];
        let refused = host.json_as("POST", "/mcp", &elsewhere, json!({})).await;
        assert_eq!(refused.status, 403, "{}", refused.text);
        assert!(
            refused.text.contains("the tenant of the bus"),
            "{}",
            refused.text
        );
        let event = json!({ "event_type": "decision.closed" });
        let refused = mcp.call("event_publish", event).await;
        assert_eq!(refused["isError"], true, "{refused}");
    }
}

#[tokio::test]
async fn a_newer_token_takes_the_place_of_the_older() {
    let host = Host::start_with(|config, _| config.auth = AuthMode::Token).await;
    let (older, other) = (
        host.server.agent_token("claude"),
        host.server.agent_token("codex"),
    );
    let newer = host.server.agent_token("claude");
    assert_eq!(send(&host, &older, "GET", "/mcp").await.status, 401);
    for token in [newer, other] {
        McpSession::open(&host, &token).await;
    }
}
