//! For whom a session speaks: not for an agent that was sent away, nor for another one.

use agentbus_chat::AgentId;
use agentbus_mcp::Profile;
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

#[tokio::test]
async fn an_agent_reacts_as_itself_and_as_nobody_else() {
    let mut client = Client::start().await;
    let join = json!({ "thread_name": "t", "ide": "IDE", "model": "m" });
    let first = said(&mut client, "bus_connect", join.clone()).await;
    let posted = said(&mut client, "msg_post", post(&first, &first)).await;
    // From here on the connection is that of the second.
    let second = said(&mut client, "bus_connect", join).await;
    let react = |who: &Value, token: Option<&Value>| {
        json!({ "message_id": posted["msg_id"], "agent_id": who["agent"]["agent_id"],
            "reaction": "agree", "token": token })
    };
    let own = said(&mut client, "msg_react", react(&second, None)).await;
    assert!(own["reaction_id"].is_string(), "{own}");
    let foreign = [None, Some(&second["agent"]["token"])];
    for tool in ["msg_react", "msg_unreact"] {
        for token in foreign {
            let refused = said(&mut client, tool, react(&first, token)).await;
            assert_eq!(refused["error"], "Invalid agent token", "{refused}");
        }
    }
    let token = &first["agent"]["token"];
    let shown = said(&mut client, "msg_react", react(&first, Some(token))).await;
    assert!(shown["reaction_id"].is_string(), "{shown}");
    let mut stranger = client.beside(Profile::Core, None).await;
    let refused = said(&mut stranger, "msg_react", react(&first, None)).await;
    let why = refused["error"].as_str().unwrap();
    assert!(why.contains("pass agent_id and token"), "{refused}");
}
