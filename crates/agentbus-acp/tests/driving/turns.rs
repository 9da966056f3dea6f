//! What a turn is to its caller.

use std::time::Duration;

use agentbus::ErrorCode;
use serde_json::{Value, json};

use crate::fixture::{Fixture, collect};

#[tokio::test]
async fn updates_are_frames_in_their_order_and_the_text_is_final() {
    let it = Fixture::rig(&[]).await;
    let turn = it
        .turn("s", "think hm; say Hel; tool; say lo")
        .await
        .unwrap();
    assert_eq!(
        turn.kinds(),
        [
            "agent_thought_chunk",
            "agent_message_chunk",
            "plan",
            "tool_call",
            "tool_call_update",
            "usage_update",
            "current_mode_update",
            "agent_message_chunk"
        ]
    );
    assert_eq!(
        turn.updates[1],
        json!({ "sessionUpdate": "agent_message_chunk",
        "content": { "type": "text", "text": "Hel" } })
    );
    assert_eq!(
        turn.last,
        json!({ "text": "Hello", "stop_reason": "end_turn" })
    );
    // What an agent adds of its own is nobody else's to take away.
    let plan = &turn.updates[2];
    assert_eq!(plan["_meta"], json!({ "rig": { "kept": [1, null] } }));
    assert_eq!(plan["entries"][0]["_meta"], json!({ "deep": true }));
    assert_eq!(turn.started["agent"], "rig");
    assert_eq!(turn.started["session"], "s");
    assert_eq!(turn.started["opened"], "new");
    it.end().await;
}

#[tokio::test]
async fn an_invoke_gets_the_whole_text() {
    let it = Fixture::rig(&[]).await;
    for prompt in [
        json!("say hello"),
        json!({ "prompt": "say hello" }),
        json!([{ "type": "text", "text": "say hello" }]),
    ] {
        let reply = it.bus.invoke("rig", &prompt).await.unwrap();
        let said: Value = reply.payload.unwrap().decode().unwrap();
        assert_eq!(said["text"], "hello", "{prompt}");
    }
    it.end().await;
}

#[tokio::test]
async fn stop_reasons_end_a_turn_and_a_refusal_is_an_error() {
    let it = Fixture::rig(&[]).await;
    for reason in ["max_tokens", "max_turn_requests", "cancelled"] {
        let turn = it
            .turn("s", &format!("say a; stop {reason}"))
            .await
            .unwrap();
        assert_eq!(turn.last, json!({ "text": "a", "stop_reason": reason }));
    }
    let refused = it.turn("s", "say no; stop refusal").await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::InvalidRequest);
    assert!(
        refused.to_string().contains("refuses to go on: no"),
        "{refused}"
    );
    let failed = it.turn("s", "error the model is down").await.unwrap_err();
    assert_eq!(failed.code(), ErrorCode::AgentUnavailable);
    assert!(
        failed.to_string().contains("-32603: the model is down"),
        "{failed}"
    );
    assert_eq!(it.say("s", "say still here").await, "still here");
    it.end().await;
}

#[tokio::test]
async fn a_bad_prompt_starts_nothing() {
    let it = Fixture::rig(&[]).await;
    for bad in [json!(7), json!([]), json!({ "text": "x" })] {
        let error = it.bus.invoke("rig", &bad).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidRequest, "{bad}");
    }
    assert_eq!(it.agents.list()[0].state, "asleep");
    let image = json!([{ "type": "image", "data": "", "mimeType": "image/png" }]);
    let error = it.bus.invoke("rig", &image).await.unwrap_err();
    assert!(error.to_string().contains("takes no `image`"), "{error}");
    it.end().await;
}

#[tokio::test]
async fn who_leaves_has_the_turn_cancelled_and_the_next_one_begins_after_it() {
    let it = Fixture::rig(&[]).await;
    let mut frames = it.open("s", "say begun; wait; say after").await;
    while frames.next().await.unwrap().unwrap().event_type.as_str() != "agent.response.delta" {}
    drop(frames);
    assert_eq!(it.say("s", "recall").await, "2");
    let wire = it.end().await;
    let cancel = wire.find("\"session/cancel\"").unwrap();
    let ended = wire.find("\"cancelled\"").unwrap();
    let next = wire.find("recall").unwrap();
    assert!(cancel < ended && ended < next, "{wire}");
}

#[tokio::test]
async fn an_agent_that_does_not_stop_loses_its_session_and_nothing_else() {
    let limits = |config: &mut agentbus_acp::AgentConfig| config.limits.cancel_s = 1;
    let it = Fixture::rig_with(
        &[],
        limits,
        std::sync::Arc::new(agentbus_acp::decide::Nobody),
    )
    .await;
    let mut frames = it.open("s", "say begun; deaf").await;
    while frames.next().await.unwrap().unwrap().event_type.as_str() != "agent.response.delta" {}
    drop(frames);
    // The rig hears nothing while it is deaf; what matters is that a new session is asked of it.
    let next = it.open("s", "say x").await;
    let asked = async {
        while it.wire().matches("\"session/new\"").count() < 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), asked)
        .await
        .expect("the session is still held by the turn that does not end");
    drop(next);
    it.end().await;
}

#[tokio::test]
async fn a_flood_is_held_back_by_a_slow_caller_and_arrives_whole() {
    let it = Fixture::rig(&[]).await;
    let mut frames = it.open("s", "flood 20000").await;
    // The agent is far ahead if nothing holds it back.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let written = it.wire().matches("agent_message_chunk").count();
    assert!(
        written < 10_000,
        "{written} updates were taken from the agent"
    );
    let mut text = String::new();
    while let Some(frame) = frames.next().await {
        let payload: Value = frame.unwrap().payload.unwrap().decode().unwrap();
        text += payload["content"]["text"].as_str().unwrap_or_default();
    }
    let want: String = (0..20_000).map(|n| format!("{n} ")).collect();
    assert_eq!(text, want);
    it.end().await;
}

#[tokio::test]
async fn the_trace_of_a_call_goes_on_in_the_agent() {
    let it = Fixture::rig(&[]).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let call = it.bus.stream("rig", &Value::from("say hi"));
    let frames = call.traceparent(trace.to_owned()).await.unwrap();
    assert_eq!(collect(frames).await.unwrap().text(), "hi");
    let wire = it.end().await;
    let meta = format!(r#""_meta":{{"traceparent":"{trace}"}}"#);
    assert!(wire.contains(&meta), "{wire}");
}
