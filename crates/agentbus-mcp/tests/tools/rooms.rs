//! Tools of a thread as a room: who leads it, who waits in it, and who closes it.

use std::time::Duration;

use agentbus_chat::model::{Message, Role};
use agentbus_chat::store::MessageQuery;
use agentbus_chat::{AgentId, Decision, DecisionAction, Draft, ThreadId, emoji};
use agentbus_mcp::Profile;
use serde_json::{Value, json};

use crate::line::Client;

/// Longest time that a look may take before the test has failed.
const GUARD: Duration = Duration::from_secs(60);

async fn said(client: &mut Client, tool: &str, arguments: Value) -> Value {
    let result = client.call(tool, arguments).await;
    Client::text(&result)
}

/// Joins the room; the first to do so leads it.
async fn join(client: &mut Client) -> Value {
    let join = json!({ "thread_name": "room", "ide": "IDE", "model": "m" });
    said(client, "bus_connect", join).await
}

/// The ids of a thread and of an agent, out of what the agent was told when it joined.
fn ids(joined: &Value) -> (ThreadId, AgentId) {
    let thread = joined["thread"]["thread_id"].as_str().unwrap();
    let agent = joined["agent"]["agent_id"].as_str().unwrap();
    (ThreadId::new(thread), AgentId::new(agent))
}

/// Makes an agent the administrator, as a person does.
async fn appoint(client: &Client, joined: &Value) {
    let (thread_id, agent) = ids(joined);
    let decision = Decision {
        thread_id,
        action: DecisionAction::Switch,
        candidate: Some(agent),
        source: None,
    };
    client.chat.decide(decision).await.unwrap();
}

#[tokio::test]
async fn the_settings_of_a_thread_are_read_as_they_are() {
    let mut client = Client::start().await;
    let room = join(&mut client).await;
    let thread = room["thread"]["thread_id"].clone();
    let asked = json!({ "thread_id": thread });
    let settings = said(&mut client, "thread_settings_get", asked.clone()).await;
    let expected = json!({ "thread_id": thread, "auto_administrator_enabled": true,
        "timeout_seconds": 60, "switch_timeout_seconds": 60, "auto_assigned_admin_id": null,
        "auto_assigned_admin_name": null });
    assert_eq!(settings, expected);

    appoint(&client, &room).await;
    let update = json!({ "thread_id": thread, "auto_administrator_enabled": false,
        "timeout_seconds": 45, "switch_timeout_seconds": 90 });
    let updated = said(&mut client, "thread_settings_update", update).await;
    assert_eq!(updated["ok"], true, "{updated}");
    let settings = said(&mut client, "thread_settings_get", asked).await;
    let expected = json!({ "thread_id": thread, "auto_administrator_enabled": false,
        "timeout_seconds": 45, "switch_timeout_seconds": 90,
        "auto_assigned_admin_id": room["agent"]["agent_id"],
        "auto_assigned_admin_name": room["agent"]["name"] });
    assert_eq!(settings, expected);

    let unknown = json!({ "thread_id": "nope" });
    let refused = said(&mut client, "thread_settings_get", unknown).await;
    assert_eq!(refused, json!({ "error": "Thread not found" }));
}

/// Who waits in the room, as soon as so many do.
async fn waiting(client: &mut Client, thread: &Value, count: usize) -> Value {
    let look = async {
        loop {
            let asked = json!({ "thread_id": thread });
            let seen = said(client, "thread_wait_state_get", asked).await;
            if seen["count"] == count {
                return seen;
            }
        }
    };
    tokio::time::timeout(GUARD, look).await.unwrap()
}

#[tokio::test]
async fn who_waits_in_a_thread_is_seen_until_somebody_posts() {
    let mut client = Client::start().await;
    let room = join(&mut client).await;
    let thread = room["thread"]["thread_id"].clone();
    let nobody = json!({ "thread_id": thread, "agents_waiting": [], "count": 0 });
    assert_eq!(waiting(&mut client, &thread, 0).await, nobody);

    let mut waiter = client.beside(Profile::Core, None).await;
    let joined = join(&mut waiter).await;
    let wait = json!({ "thread_id": thread, "after_seq": joined["current_seq"],
        "timeout_ms": 300_000 });
    let chat = client.chat.clone();
    let watching = async {
        let seen = waiting(&mut client, &thread, 1).await;
        let (thread, _) = ids(&room);
        let post = Draft::new(thread, "human", "wake up");
        chat.post(post).await.unwrap();
        seen
    };
    let (seen, waited) = tokio::join!(watching, waiter.call("msg_wait", wait));
    assert_eq!(waited["isError"], false, "{waited}");
    let one = &seen["agents_waiting"][0];
    assert_eq!(one["agent_id"], joined["agent"]["agent_id"]);
    assert_eq!(one["timeout_ms"], 300_000);
    assert!(one["entered_at"].is_string(), "{one}");
    assert_eq!(waiting(&mut client, &thread, 0).await, nobody);

    let unknown = json!({ "thread_id": "nope" });
    let refused = said(&mut client, "thread_wait_state_get", unknown).await;
    assert_eq!(refused, json!({ "error": "Thread not found" }));
}

/// What closes the room in the name of who joined.
fn closing(joined: &Value, summary: Option<&str>) -> Value {
    json!({ "thread_id": joined["thread"]["thread_id"], "agent_id": joined["agent"]["agent_id"],
        "token": joined["agent"]["token"], "summary": summary })
}

#[tokio::test]
async fn only_who_leads_a_meeting_closes_it() {
    let mut client = Client::start().await;
    let lead = join(&mut client).await;
    let guest = join(&mut client).await;
    let mut forged = closing(&guest, None);
    forged["agent_id"] = lead["agent"]["agent_id"].clone();
    let mut elsewhere = closing(&lead, None);
    elsewhere["thread_id"] = json!("nope");
    for (asked, error) in [
        (closing(&guest, None), "FORBIDDEN"),
        (forged, "AUTHENTICATION_REQUIRED"),
        (elsewhere, "THREAD_NOT_FOUND"),
    ] {
        let refused = said(&mut client, "close_meeting", asked).await;
        assert_eq!(refused["error"], error, "{refused}");
    }
    let asked = json!({ "thread_id": lead["thread"]["thread_id"] });
    let open = said(&mut client, "thread_get", asked.clone()).await;
    assert_eq!(open["status"], "discuss");

    // Whom a person appoints leads in place of whoever made the thread.
    appoint(&client, &guest).await;
    let refused = said(&mut client, "close_meeting", closing(&lead, None)).await;
    assert_eq!(refused["error"], "FORBIDDEN", "{refused}");
    let closed = said(&mut client, "close_meeting", closing(&guest, Some("tea"))).await;
    let expected = json!({ "ok": true, "thread_id": lead["thread"]["thread_id"],
        "status": "closed", "already_closed": false, "closed_sessions_count": 0 });
    assert_eq!(closed, expected);
    let kept = said(&mut client, "thread_get", asked).await;
    assert_eq!(kept["summary"], "tea");
    assert!(kept["closed_at"].is_string(), "{kept}");
}

#[tokio::test]
async fn a_meeting_that_is_closed_again_keeps_its_summary() {
    let mut client = Client::start().await;
    let lead = join(&mut client).await;
    let asked = json!({ "thread_id": lead["thread"]["thread_id"] });
    let first = said(&mut client, "close_meeting", closing(&lead, Some("tea"))).await;
    assert_eq!(first["already_closed"], false, "{first}");
    let kept = said(&mut client, "thread_get", asked.clone()).await;
    let again = said(&mut client, "close_meeting", closing(&lead, None)).await;
    assert_eq!(again["already_closed"], true, "{again}");
    assert_eq!(again["status"], "closed", "{again}");
    assert_eq!(said(&mut client, "thread_get", asked.clone()).await, kept);
    // Who says more is heard.
    said(&mut client, "close_meeting", closing(&lead, Some("coffee"))).await;
    let changed = said(&mut client, "thread_get", asked).await;
    assert_eq!(changed["summary"], "coffee");
}

/// What the bus has said to the agents in a thread, in order.
async fn told(client: &Client, thread: &ThreadId) -> Vec<Message> {
    let query = MessageQuery {
        for_agents: true,
        limit: 10,
        ..MessageQuery::default()
    };
    let (messages, _) = client
        .chat
        .messages(thread.clone(), query, false)
        .await
        .unwrap();
    let told = messages.into_iter();
    told.filter(|one| one.role == Role::System).collect()
}

/// A meeting that is closed with a summary says this in its history, and nothing when it is closed
/// again.
async fn check_told(summary: Option<&str>, expected: &str) {
    let mut client = Client::start().await;
    let lead = join(&mut client).await;
    let (thread, agent) = ids(&lead);
    said(&mut client, "close_meeting", closing(&lead, summary)).await;
    let history = told(&client, &thread).await;
    let [notice] = history.as_slice() else {
        panic!("{history:?}")
    };
    let (face, name) = (emoji::of_agent(agent.as_str()), &lead["agent"]["name"]);
    let name = name.as_str().unwrap();
    assert_eq!(notice.content, format!("{face} {name} {expected}"));
    assert_eq!(notice.author, "system");
    assert_eq!(notice.meta("ui_type"), Some("meeting_closed_notice"));
    assert_eq!(notice.meta("closed_by_id"), Some(agent.as_str()));
    for summary in [None, Some("coffee")] {
        said(&mut client, "close_meeting", closing(&lead, summary)).await;
    }
    assert_eq!(told(&client, &thread).await, history);
}

#[tokio::test]
async fn a_meeting_that_is_closed_says_so_once() {
    let with = "has closed this thread. What came of it: tea";
    check_told(Some("tea"), with).await;
    let without = "has closed this thread, without a summary.";
    for summary in [None, Some(" ")] {
        check_told(summary, without).await;
    }
}

#[tokio::test]
async fn a_summary_with_a_secret_closes_nothing() {
    let mut client = Client::start().await;
    let lead = join(&mut client).await;
    let (thread, _) = ids(&lead);
    let secret = format!("use AKIA{}", "A".repeat(16));
    let asked = closing(&lead, Some(secret.as_str()));
    let refused = said(&mut client, "close_meeting", asked).await;
    assert_eq!(refused["error"], "Content blocked by filter", "{refused}");
    assert!(told(&client, &thread).await.is_empty());
    let asked = json!({ "thread_id": lead["thread"]["thread_id"] });
    let open = said(&mut client, "thread_get", asked).await;
    assert_eq!(open["status"], "discuss", "{open}");
}

#[tokio::test]
async fn a_thread_is_made_with_the_directory_that_it_is_about() {
    let mut client = Client::start().await;
    let me = join(&mut client).await;
    let make = |topic: &str, workspace: Option<&str>| {
        json!({ "topic": topic, "agent_id": me["agent"]["agent_id"],
            "token": me["agent"]["token"], "workspace": workspace })
    };
    let made = said(&mut client, "thread_create", make("app", Some("/srv/app"))).await;
    assert_eq!(made["workspace"], "/srv/app", "{made}");
    let asked = json!({ "thread_id": made["thread_id"] });
    let thread = said(&mut client, "thread_get", asked).await;
    assert_eq!(thread["workspace"], "/srv/app", "{thread}");
    // The one that is there keeps its own.
    let found = said(&mut client, "thread_create", make("app", Some("/tmp"))).await;
    assert_eq!(found["thread_id"], made["thread_id"]);
    assert_eq!(found["workspace"], "/srv/app", "{found}");

    let plain = said(&mut client, "thread_create", make("plain", None)).await;
    assert_eq!(plain.get("workspace"), None, "{plain}");
    let long = "x".repeat(agentbus_chat::limits::WORKSPACE_BYTES_MAX + 1);
    let refused = said(
        &mut client,
        "thread_create",
        make("long", Some(long.as_str())),
    )
    .await;
    assert_eq!(refused["error"], "LIMIT_EXCEEDED", "{refused}");
    let wrong = json!({ "topic": "x", "agent_id": "a", "token": "t", "workspace": 7 });
    let wrong = client.call("thread_create", wrong).await;
    assert_eq!(wrong["isError"], true, "{wrong}");
}
