//! What agents and threads say about themselves.

use serde_json::json;

use super::client::{Host, quiet};

#[tokio::test]
async fn an_agent_is_shown_by_the_face_and_name_that_it_chose() {
    let host = Host::start(quiet()).await;
    let new = json!({ "ide": "IDE", "model": "m", "emoji": "🦕", "display_name": "Dino" });
    let made = host.json("POST", "/api/agents/register", new).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let (id, token) = (made.body["agent_id"].clone(), made.body["token"].clone());
    let one = format!("/api/agents/{}", id.as_str().unwrap());
    let headers = [("x-agent-token", token.as_str().unwrap())];
    let seen = host.get(&one).await.body;
    for shown in [&made.body, &seen] {
        assert_eq!(shown["emoji"], "🦕", "{shown}");
        assert_eq!(shown["preferred_display_name"], "Dino", "{shown}");
        assert_eq!(shown["configured_display_name"], "Dino", "{shown}");
    }
    let new = json!({ "topic": "t", "creator_agent_id": id, "workspace": "/srv/app" });
    let thread = host.json_as("POST", "/api/threads", &headers, new).await;
    assert_eq!(thread.status, 201, "{}", thread.text);
    assert_eq!(thread.body["workspace"], "/srv/app");
    let thread = format!("/api/threads/{}", thread.body["id"].as_str().unwrap());
    assert_eq!(host.get(&thread).await.body["workspace"], "/srv/app");

    let messages = format!("{thread}/messages");
    let post = json!({ "author": id, "content": "hi" });
    let posted = host.json_as("POST", &messages, &headers, post).await;
    assert_eq!(posted.body["author_emoji"], "🦕", "{}", posted.text);
    let read = format!("/api/messages/{}", posted.body["id"].as_str().unwrap());
    assert_eq!(host.get(&read).await.body["author_emoji"], "🦕");
    for list in [messages, format!("{thread}/transcript")] {
        let list = host.get(&list).await.body;
        assert_eq!(list[0]["author_emoji"], "🦕", "{list}");
    }

    let update = json!({ "token": token, "emoji": "", "display_name": "" });
    let updated = host.json("PUT", &one, update).await;
    assert_eq!(updated.status, 200, "{}", updated.text);
    let seen = host.get(&one).await.body;
    assert_ne!(seen["emoji"], "🦕");
    assert_eq!(seen["preferred_display_name"], "IDE (m)");
    assert!(seen["configured_display_name"].is_null(), "{seen}");
    host.server.shutdown().await;
}

/// The administrator of a thread is shown with this face, alone and in the settings.
async fn check_admin(host: &Host, thread: &str, kind: &str, face: &str) {
    let admin = host.get(&format!("{thread}/admin")).await.body;
    assert_eq!(admin["admin_emoji"], face, "{admin}");
    let path = format!("{thread}/settings");
    let read = host.get(&path).await.body;
    let written = host.json("POST", &path, json!({ "timeout_seconds": 45 }));
    for settings in [read, written.await.body] {
        let key = format!("{kind}_admin_emoji");
        assert_eq!(settings[key.as_str()], face, "{settings}");
    }
}

#[tokio::test]
async fn an_administrator_is_shown_by_the_face_that_it_chose() {
    let host = Host::start(quiet()).await;
    let register = async |emoji: &str| {
        let new = json!({ "ide": "IDE", "model": "m", "emoji": emoji });
        host.json("POST", "/api/agents/register", new).await.body
    };
    let (first, second) = (register("🦕").await, register("🦖").await);
    let headers = [("x-agent-token", first["token"].as_str().unwrap())];
    let new = json!({ "topic": "t", "creator_agent_id": first["agent_id"] });
    let made = host.json_as("POST", "/api/threads", &headers, new).await;
    let thread = format!("/api/threads/{}", made.body["id"].as_str().unwrap());
    check_admin(&host, &thread, "creator", "🦕").await;

    let switch = json!({ "action": "switch", "candidate_admin_id": second["agent_id"] });
    let path = format!("{thread}/admin/decision");
    let decided = host.json("POST", &path, switch).await;
    assert_eq!(decided.status, 200, "{}", decided.text);
    check_admin(&host, &thread, "auto_assigned", "🦖").await;

    let one = format!("/api/agents/{}", second["agent_id"].as_str().unwrap());
    let update = json!({ "token": second["token"], "emoji": "" });
    let updated = host.json("PUT", &one, update).await;
    assert_eq!(updated.status, 200, "{}", updated.text);
    let own = updated.body["emoji"].as_str().unwrap();
    assert_ne!(own, "🦖");
    check_admin(&host, &thread, "auto_assigned", own).await;
    host.server.shutdown().await;
}

#[tokio::test]
async fn a_face_is_given_over_mcp_too() {
    let host = Host::start(quiet()).await;
    let join = json!({ "thread_name": "t", "ide": "IDE", "model": "m", "emoji": "🦕" });
    let joined = host.json("POST", "/api/mcp/tool/bus_connect", join).await;
    assert_eq!(joined.status, 200, "{}", joined.text);
    let new = json!({ "ide": "IDE", "model": "m", "emoji": "🦖" });
    let made = host.json("POST", "/api/mcp/tool/agent_register", new).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let agents = host.get("/api/agents").await.body;
    let faces = [&agents[0]["emoji"], &agents[1]["emoji"]];
    assert_eq!(faces, [&json!("🦕"), &json!("🦖")]);
    host.server.shutdown().await;
}

#[tokio::test]
async fn a_face_that_is_none_is_refused() {
    let host = Host::start(quiet()).await;
    let register = async |emoji: serde_json::Value| {
        let new = json!({ "ide": "IDE", "model": "m", "emoji": emoji });
        host.json("POST", "/api/agents/register", new).await
    };
    for (emoji, status) in [
        (json!(7), 422),
        (json!("admin"), 400),
        (json!("🦕".repeat(20)), 413),
    ] {
        let refused = register(emoji).await;
        assert_eq!(refused.status, status, "{}", refused.text);
    }
    let none = host.get("/api/agents").await.body;
    assert_eq!(none, json!([]), "nobody was registered");
    host.server.shutdown().await;
}
