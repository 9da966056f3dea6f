//! What a request gets whose params do not have the form of its method.

use serde_json::{Value, json};

use crate::line::Client;

async fn check(client: &mut Client, method: &str, params: Value, code: i32) -> String {
    let answer = client.request(method, params).await;
    assert_eq!(answer["error"]["code"], code, "{method}: {answer}");
    answer["error"]["message"].to_string()
}

#[tokio::test]
async fn bad_params_are_not_taken_for_an_unknown_method() {
    let mut client = Client::start().await;
    let bad = [
        ("tools/call", json!({})),
        (
            "tools/call",
            json!({ "name": "msg_post", "arguments": [1] }),
        ),
        ("resources/read", json!({})),
        ("resources/read", Value::Null),
        ("resources/subscribe", json!({ "uri": 1 })),
        ("prompts/get", json!({})),
        ("logging/setLevel", json!({ "level": "foo" })),
    ];
    for (method, params) in bad {
        let text = check(&mut client, method, params, -32602).await;
        assert!(text.contains(method), "{text}");
    }
    check(&mut client, "tools/nothing", json!({}), -32601).await;
    // A method of another revision is none here, whatever its params.
    check(
        &mut client,
        "subscriptions/listen",
        json!({ "notifications": 1 }),
        -32601,
    )
    .await;
}
