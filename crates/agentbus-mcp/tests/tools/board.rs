//! A form that a tool shows its client waits on the board too, and the first answer counts.

use agentbus_decisions::{Answer, Board, Voice};
use agentbus_mcp::{Ask, Call, Fault, Reply, Tool};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::line::Client;

#[derive(Deserialize, JsonSchema)]
struct Nothing {}

async fn client() -> (Client, Board) {
    let mut board = None;
    let asks = json!({ "elicitation": { "form": {} } });
    let client = Client::start_with(
        |config, bus| {
            board = Some(Board::new(bus.clone()));
            config.board.clone_from(&board);
            let about = Tool::new("age", "Asks how old somebody is.");
            let tool = |call: Call, _: Nothing| async move {
                let schema = json!({ "type": "object", "required": ["age"],
                    "properties": { "age": { "type": "integer" } } });
                let answer = call.ask("age", Ask::form("How old?", &schema)).await?;
                let told = json!({ "action": answer.action(), "fields": answer.fields() });
                Ok::<_, Fault>(Reply::data(&told))
            };
            config.catalog.add_tool(about, tool).unwrap();
        },
        asks,
    );
    (client.await, board.unwrap())
}

#[tokio::test]
async fn the_board_answers_and_the_client_is_told() {
    let (mut client, board) = client().await;
    let mut changes = board.changes();
    let answering = async {
        changes.changed().await.unwrap();
        let open = board.open();
        let shown = serde_json::to_value(&open[0]).unwrap();
        assert_eq!(shown["asker"], json!({ "kind": "tool", "name": "age" }));
        let content = json!({ "age": 36 });
        let answer = Answer {
            content: content.as_object().cloned(),
            ..Answer::option("accept")
        };
        let person = Voice::Person("p".to_owned());
        board.answer(&open[0].id, answer, &person).await.unwrap();
    };
    let (result, ()) = tokio::join!(client.call("age", json!({})), answering);
    assert_eq!(
        Client::text(&result),
        json!({ "action": "accept", "fields": { "age": 36 } })
    );
    let asked = client
        .heard
        .iter()
        .find(|it| it["method"] == "elicitation/create");
    let taken_back = client
        .heard
        .iter()
        .find(|it| it["method"] == "notifications/cancelled");
    assert_eq!(
        taken_back.unwrap()["params"]["requestId"],
        asked.unwrap()["id"]
    );
}

#[tokio::test]
async fn the_client_answers_and_the_board_is_told() {
    let (mut client, board) = client().await;
    let mut changes = board.changes();
    for (fill, expect) in [
        (
            json!({ "action": "accept", "content": { "age": 36 } }),
            json!({ "action": "accept", "fields": { "age": 36 } }),
        ),
        (
            json!({ "action": "decline" }),
            json!({ "action": "decline", "fields": null }),
        ),
    ] {
        client.fill = Some(fill);
        let result = client.call("age", json!({})).await;
        assert_eq!(Client::text(&result), expect);
        assert!(board.open().is_empty());
    }
    assert_eq!(*changes.borrow_and_update(), 4, "twice opened and closed");
    client.fill = Some(json!({ "action": "accept", "content": { "age": "old" } }));
    let params = json!({ "name": "age", "arguments": {} });
    let failed: Value = client.request("tools/call", params).await["error"].take();
    let said = failed["message"].as_str().unwrap();
    assert!(said.contains("does not fit the form: `age`"), "{said}");
    assert!(board.open().is_empty());
}
