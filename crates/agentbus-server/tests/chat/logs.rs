//! The bus's own log.

use agentbus_server::{AuthMode, LogLines};
use serde_json::json;

use super::client::{Host, quiet};

#[tokio::test]
async fn the_log_is_read_page_by_page() {
    let log = LogLines::default();
    let host = Host::start_with(|config, _| {
        config.chat = quiet();
        config.log = Some(log.clone());
    })
    .await;
    assert_eq!(
        host.get("/api/logs").await.body,
        json!({ "entries": [], "next_cursor": 0 })
    );
    for line in ["a", "b", "c"] {
        log.push(line);
    }
    let entry = |id: u64, line: &str| json!({ "id": id, "line": line });
    let first = host.get("/api/logs?after=0&limit=2").await.body;
    assert_eq!(
        first,
        json!({ "entries": [entry(1, "a"), entry(2, "b")], "next_cursor": 2 })
    );
    let second = host.get("/api/logs?after=2&limit=2").await.body;
    assert_eq!(
        second,
        json!({ "entries": [entry(3, "c")], "next_cursor": 3 })
    );
    let newest = host.get("/api/logs?limit=1").await.body;
    assert_eq!(newest, second);
    for wrong in ["after=x", "limit=all"] {
        let refused = host.get(&format!("/api/logs?{wrong}")).await;
        assert_eq!(refused.status, 422, "{wrong}: {}", refused.text);
    }
    host.server.shutdown().await;
}

#[tokio::test]
async fn the_log_is_for_whoever_has_the_token() {
    let host = Host::start_with(|config, _| config.auth = AuthMode::Token).await;
    assert_eq!(host.get("/api/logs").await.status, 401);
    host.server.shutdown().await;
}
