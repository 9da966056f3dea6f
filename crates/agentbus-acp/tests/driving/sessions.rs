//! Sessions: kept, queued, taken up again, closed.

use agentbus::ErrorCode;
use serde_json::{Value, json};

use crate::fixture::Fixture;

#[tokio::test]
async fn a_session_remembers_and_sessions_are_apart() {
    let it = Fixture::rig(&[]).await;
    assert_eq!(it.say("a", "recall").await, "1");
    assert_eq!(it.say("b", "recall").await, "1");
    let again = it.turn("a", "recall").await.unwrap();
    assert_eq!(
        (again.text(), &again.started["opened"]),
        ("2", &json!("kept"))
    );
    // Without a name each prompt has a session of its own.
    assert_eq!(it.say("", "recall").await, "1");
    assert_eq!(it.say("", "recall").await, "1");
    assert_eq!(it.agents.list()[0].sessions, ["a", "b"]);
    it.end().await;
}

#[tokio::test]
async fn turns_of_a_session_take_turns_and_the_queue_has_an_end() {
    let limits = |config: &mut agentbus_acp::AgentConfig| config.limits.queue = 2;
    let nobody = std::sync::Arc::new(agentbus_acp::decide::Nobody);
    let it = Fixture::rig_with(&[], limits, nobody).await;
    let mut first = it.open("s", "say begun; wait").await;
    while first.next().await.unwrap().unwrap().event_type.as_str() != "agent.response.delta" {}
    let (second, third) = (it.open("s", "recall").await, it.open("s", "recall").await);
    let full = it.turn("s", "recall").await.unwrap_err();
    assert_eq!(full.code(), ErrorCode::BackpressureDrop);
    assert!(full.is_retryable());
    assert!(full.to_string().contains("2 turns wait"), "{full}");
    drop(first);
    let (second, third) = tokio::join!(
        crate::fixture::collect(second),
        crate::fixture::collect(third)
    );
    let mut told = [
        second.unwrap().text().to_owned(),
        third.unwrap().text().to_owned(),
    ];
    told.sort();
    assert_eq!(told, ["2", "3"]);
    it.end().await;
}

#[tokio::test]
async fn after_a_crash_the_session_is_taken_up_as_the_agent_can() {
    for (flags, opened, recalled) in [
        (&["resume"][..], "resumed", "2"),
        (&["load"], "loaded", "2"),
        (&[], "lost", "1"),
    ] {
        let it = Fixture::rig(flags).await;
        it.say("s", "say hello").await;
        it.turn("s", "exit 3").await.unwrap_err();
        let turn = it.turn("s", "recall").await.unwrap();
        assert_eq!(turn.started["opened"], opened);
        assert_eq!(turn.text(), recalled, "{opened}");
        it.end().await;
    }
}

#[tokio::test]
async fn sessions_are_closed_by_order_and_after_a_prompt_without_a_name() {
    let it = Fixture::rig(&["close"]).await;
    it.say("", "say once").await;
    it.say("s", "say hello").await;
    let close = json!({ "do": "close", "agent": "rig", "session": "s" });
    let closed = it.bus.invoke("agentbus.agents", &close).await.unwrap();
    assert_eq!(
        closed.payload.unwrap().decode::<Value>().unwrap(),
        json!({ "closed": true })
    );
    assert!(it.agents.list()[0].sessions.is_empty());
    let wire = it.end().await;
    assert_eq!(wire.matches("\"session/close\"").count(), 2, "{wire}");
}

#[tokio::test]
async fn the_tools_of_the_bus_are_given_to_each_session() {
    let it = Fixture::rig(&[]).await;
    it.agents.offer(|_| agentbus_acp::BusServer {
        command: "/bin/agentbus".into(),
        args: vec!["mcp".to_owned()],
        env: vec![("AGENTBUS_TOKEN".to_owned(), "secret".to_owned())],
    });
    let servers: Value = serde_json::from_str(&it.say("s", "servers").await).unwrap();
    assert_eq!(
        servers,
        json!([{ "name": "agentbus", "command": "/bin/agentbus", "args": ["mcp"],
        "env": [{ "name": "AGENTBUS_TOKEN", "value": "secret" }] }])
    );
    it.end().await;
}
