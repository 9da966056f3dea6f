//! A session whose agent is sent away.

use agentbus_chat::AgentId;
use serde_json::{Value, json};

use crate::line::Client;

async fn said(client: &mut Client, tool: &str, arguments: Value) -> Value {
    let result = client.call(tool, arguments).await;
    Client::text(&result)
}

/// A post that the session alone proves.
fn post(room: &Value, sync: &Value) -> Value {
    json!({ "thread_id": room["thread"]["thread_id"], "author": room["agent"]["agent_id"],
        "content": "here", "expected_last_seq": sync["current_seq"],
        "reply_token": sync["reply_token"] })
}

#[tokio::test]
async fn a_session_of_a_kicked_agent_does_nothing_until_it_joins_again() {
    let mut client = Client::start().await;
    let join = json!({ "thread_name": "t", "ide": "IDE", "model": "m" });
    let room = said(&mut client, "bus_connect", join.clone()).await;
    let first = said(&mut client, "msg_post", post(&room, &room)).await;
    assert!(first["seq"].is_i64(), "{first}");
    let agent = AgentId::new(room["agent"]["agent_id"].as_str().unwrap());
    client.chat.kick(agent).await.unwrap();

    let refused = said(&mut client, "msg_post", post(&room, &first)).await;
    assert_eq!(refused["error"], "Invalid agent token");
    let edit = json!({ "message_id": first["msg_id"], "new_content": "there" });
    let refused = said(&mut client, "msg_edit", edit).await;
    assert_eq!(refused["error"], "Invalid agent token");
    let wait = json!({ "thread_id": room["thread"]["thread_id"], "after_seq": 0 });
    let refused = said(&mut client, "msg_wait", wait).await;
    assert_eq!(refused["error"], "InvalidCredentials");

    let room = said(&mut client, "bus_connect", join).await;
    let posted = said(&mut client, "msg_post", post(&room, &room)).await;
    assert!(posted["seq"].is_i64(), "{posted}");
}
