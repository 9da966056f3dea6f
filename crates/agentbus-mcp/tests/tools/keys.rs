//! Writes under an idempotency key.

use agentbus_chat::ThreadId;
use agentbus_chat::store::MessageQuery;
use serde_json::{Value, json};

use crate::line::Client;

/// An agent in a thread: what it needs for its next post.
async fn joined(client: &mut Client) -> Value {
    let join = json!({ "thread_name": "t", "ide": "IDE", "model": "m" });
    Client::text(&client.call("bus_connect", join).await)
}

async fn said(client: &mut Client, tool: &str, arguments: &Value) -> Value {
    let result = client.call(tool, arguments.clone()).await;
    Client::text(&result)
}

#[tokio::test]
async fn the_same_call_under_the_same_key_is_done_once() {
    let mut client = Client::start().await;
    let room = joined(&mut client).await;
    let (thread, agent) = (&room["thread"]["thread_id"], &room["agent"]["agent_id"]);
    let mut post = json!({ "thread_id": thread, "author": agent, "content": "once",
        "expected_last_seq": room["current_seq"], "reply_token": room["reply_token"],
        "idempotency_key": "k" });
    let first = said(&mut client, "msg_post", &post).await;
    assert!(first["seq"].is_i64(), "{first}");
    // The reply token is spent; the answer is the one that was lost.
    assert_eq!(said(&mut client, "msg_post", &post).await, first);
    post["content"] = json!("another");
    let reused = said(&mut client, "msg_post", &post).await;
    assert!(
        reused["error"]
            .as_str()
            .unwrap()
            .contains("used for another request"),
        "{reused}"
    );
    post["idempotency_key"] = json!("");
    let empty = said(&mut client, "msg_post", &post).await;
    assert_eq!(empty["error"], "INVALID_ARGUMENT");

    let mut edit =
        json!({ "message_id": first["msg_id"], "new_content": "twice", "idempotency_key": "e" });
    let edited = said(&mut client, "msg_edit", &edit).await;
    assert_eq!(edited["version"], 1, "{edited}");
    assert_eq!(
        said(&mut client, "msg_edit", &edit).await,
        edited,
        "not `no_change`"
    );
    edit.as_object_mut().unwrap().remove("idempotency_key");
    assert_eq!(
        said(&mut client, "msg_edit", &edit).await["no_change"],
        true
    );

    let react = json!({ "message_id": first["msg_id"], "agent_id": agent, "reaction": "agree",
        "idempotency_key": "r" });
    let reacted = said(&mut client, "msg_react", &react).await;
    assert!(reacted["reaction_id"].is_string(), "{reacted}");
    let unreact = json!({ "message_id": first["msg_id"], "agent_id": agent, "reaction": "agree",
        "idempotency_key": "u" });
    for _ in 0..2 {
        assert_eq!(
            said(&mut client, "msg_unreact", &unreact).await["removed"],
            true
        );
        assert_eq!(said(&mut client, "msg_react", &react).await, reacted);
    }
    let thread = ThreadId::new(thread.as_str().unwrap());
    let all = MessageQuery {
        limit: 10,
        ..MessageQuery::default()
    };
    let (kept, _) = client.chat.messages(thread, all, false).await.unwrap();
    let kept: Vec<_> = kept
        .iter()
        .map(|message| message.content.as_str())
        .collect();
    assert_eq!(kept, ["twice"]);
}

#[tokio::test]
async fn a_refused_write_is_not_kept_and_a_key_is_one_tool_s() {
    let mut client = Client::start().await;
    let room = joined(&mut client).await;
    let template = json!({ "id": "t1", "name": "T", "idempotency_key": "k" });
    let made = said(&mut client, "template_create", &template).await;
    assert_eq!(made["id"], "t1", "{made}");
    assert_eq!(said(&mut client, "template_create", &template).await, made);
    let other = json!({ "thread_id": room["thread"]["thread_id"], "state": "done", "idempotency_key": "k" });
    let reused = said(&mut client, "thread_set_state", &other).await;
    assert!(
        reused["error"]
            .as_str()
            .unwrap()
            .contains("used for another request"),
        "{reused}"
    );
    let mut closing = json!({ "thread_id": "nowhere", "idempotency_key": "c" });
    assert_eq!(
        said(&mut client, "thread_close", &closing).await["error"],
        "Thread not found"
    );
    closing["thread_id"] = room["thread"]["thread_id"].clone();
    let closed = said(&mut client, "thread_close", &closing).await;
    assert_eq!(closed["status"], "closed", "a failure is not kept");
}

#[tokio::test]
async fn every_write_to_conversations_takes_a_key() {
    let mut client = Client::start().await;
    for tool in [
        "msg_post",
        "msg_edit",
        "msg_react",
        "msg_unreact",
        "thread_create",
        "thread_set_state",
        "thread_close",
        "thread_archive",
        "thread_delete",
        "thread_settings_update",
        "template_create",
    ] {
        let described = client.call("bus_tools", json!({ "name": tool })).await;
        let text = described.to_string();
        assert!(text.contains("idempotency_key"), "{tool}: {text}");
    }
}
