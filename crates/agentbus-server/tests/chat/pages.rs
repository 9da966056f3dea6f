//! Lists in pages.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::client::{Host, quiet};

/// The ids of a list, page by page.
async fn in_pages(host: &Host, path: &str) -> Vec<Vec<String>> {
    let (mut pages, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = host.get(&format!("{path}?limit=2{cursor}")).await;
        assert_eq!(page.status, 200, "{}", page.text);
        let rows = page.body.as_array().unwrap();
        let id = |row: &Value| row["id"].as_str().unwrap().to_owned();
        pages.push(rows.iter().map(id).collect());
        let Some(next) = page.headers.get("x-next-cursor") else {
            return pages;
        };
        cursor = format!("&cursor={}", next.to_str().unwrap());
    }
}

#[tokio::test]
async fn agents_and_templates_come_in_pages() {
    let host = Host::start(quiet()).await;
    for _ in 0..5 {
        host.agent().await;
    }
    let odd = json!({ "id": "ä ~ 部署", "name": "Odd" });
    assert_eq!(host.json("POST", "/api/templates", odd).await.status, 201);
    for path in ["/api/agents", "/api/templates"] {
        let whole = host.get(path).await;
        assert!(whole.headers.get("x-next-cursor").is_none(), "{path}");
        let rows = whole.body.as_array().unwrap();
        let all: Vec<_> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
        let pages = in_pages(&host, path).await;
        let sizes: Vec<_> = pages.iter().map(Vec::len).collect();
        assert_eq!(sizes, [2, 2, 1], "{path}");
        assert_eq!(pages.concat(), all, "{path}");
    }
    host.server.shutdown().await;
}

#[tokio::test]
async fn a_page_after_an_agent_that_has_left_misses_nobody() {
    let host = Host::start(quiet()).await;
    let mut agents = Vec::new();
    for _ in 0..4 {
        agents.push(host.agent().await);
    }
    let first = host.get("/api/agents?limit=2").await;
    let cursor = first.headers["x-next-cursor"].to_str().unwrap().to_owned();
    let (id, token) = &agents[1];
    let gone = json!({ "agent_id": id, "token": token });
    let gone = host.json("POST", "/api/agents/unregister", gone).await;
    assert_eq!(gone.status, 200, "{}", gone.text);
    let rest = host.get(&format!("/api/agents?cursor={cursor}")).await.body;
    let rest: BTreeSet<_> = rest
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["id"].as_str().unwrap().to_owned())
        .collect();
    assert!(rest.contains(&agents[2].0) && rest.contains(&agents[3].0));
    host.server.shutdown().await;
}

#[tokio::test]
async fn a_search_goes_on_where_its_page_ended() {
    let host = Host::start(quiet()).await;
    let thread = host.thread("t").await;
    let path = format!("/api/threads/{thread}/messages");
    for n in 0..5 {
        let post = json!({ "content": format!("needle {n}") });
        assert_eq!(host.json("POST", &path, post).await.status, 201);
    }
    for order in ["newest", "ranked"] {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let query = format!("/api/search?q=needle&order={order}&limit=2{cursor}");
            let page = host.get(&query).await.body;
            let rows = page["results"].as_array().unwrap();
            found.extend(rows.iter().map(|row| row["seq"].as_i64().unwrap()));
            assert_eq!(page["has_more"], !page["next_cursor"].is_null());
            let Some(next) = page["next_cursor"].as_str() else {
                break;
            };
            cursor = format!("&cursor={next}");
        }
        found.sort_unstable();
        assert_eq!(found, [1, 2, 3, 4, 5], "{order}");
    }
    host.server.shutdown().await;
}

#[tokio::test]
async fn a_cursor_that_is_none_is_refused() {
    let host = Host::start(quiet()).await;
    for path in [
        "/api/search?q=x&cursor=nonsense",
        "/api/search?q=x&cursor=-1~0",
        "/api/agents?cursor=zz",
        "/api/agents?cursor=6e6f",
        "/api/templates?cursor=zz",
        // The name of a template that is gone.
        "/api/templates?cursor=6e6f",
    ] {
        let refused = host.get(path).await;
        assert_eq!(refused.status, 400, "{path}: {}", refused.text);
        let why = refused.body["detail"].as_str().unwrap();
        assert!(why.contains("Invalid 'cursor'"), "{path}: {why}");
        assert!(why.contains("leave it out to begin anew"), "{path}: {why}");
    }
    let wrong = host.get("/api/agents?limit=many").await;
    assert_eq!(wrong.status, 422, "{}", wrong.text);
    host.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_threads_show_who_waits() {
    let host = Host::start(quiet()).await;
    let (busy, idle) = (host.thread("busy").await, host.thread("idle").await);
    let (agent, token) = host.agent().await;
    let path = format!("/api/threads/{busy}");
    // Whoever holds no token of the thread is answered at once, and then holds one.
    let context = json!({ "agent_id": agent });
    let synced = host
        .json("POST", &format!("{path}/sync-context"), context)
        .await;
    assert_eq!(synced.status, 200, "{}", synced.text);
    let wait = json!({ "after_seq": 0, "timeout_ms": 60_000, "agent_id": agent, "token": token });
    let waiting = async { host.json("POST", &format!("{path}/wait"), wait).await };
    let looking = async {
        loop {
            let rows = host.get("/api/threads").await.body["threads"].clone();
            let row = |id: &str| {
                let mut rows = rows.as_array().unwrap().iter();
                rows.find(|row| row["id"] == id).unwrap()["waiting_agents"].clone()
            };
            assert_eq!(row(&idle), json!([]));
            if row(&busy)[0]["id"] == agent.as_str() {
                break row(&busy)[0].clone();
            }
        }
    };
    let face = tokio::select! {
        answer = waiting => panic!("{}", answer.text),
        face = tokio::time::timeout(std::time::Duration::from_secs(60), looking) => face.unwrap(),
    };
    let name = face["display_name"].as_str().unwrap();
    assert!(name.starts_with("IDE (m)"), "{face}");
    assert!(!face["emoji"].as_str().unwrap().is_empty());
    host.server.shutdown().await;
}
