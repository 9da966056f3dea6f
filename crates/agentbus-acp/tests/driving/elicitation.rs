//! What an agent asks a person for beside permissions: facts, and to do something elsewhere.

use std::sync::Arc;
use std::time::Duration;

use agentbus::Bus;
use agentbus_acp::decide::{Answer, Nobody};
use agentbus_acp::{AgentConfig, Policy};
use agentbus_decisions::{Board, Decision, Voice};
use serde_json::{Value, json};

use crate::fixture::Fixture;

const FORM: &str = r#"elicit {"mode":"form","message":"How old?","toolCallId":"t9","requestedSchema":
    {"type":"object","properties":{"age":{"type":"integer","minimum":0},"name":{"type":"string"},
    "days":{"type":"array","items":{"type":"string","enum":["mo","tu"]}}},"required":["age"]}}"#;

async fn asked_of(board: &Board) -> Decision {
    let mut changes = board.changes();
    loop {
        if let Some(first) = board.open().into_iter().next() {
            return first;
        }
        let changed = tokio::time::timeout(Duration::from_secs(30), changes.changed());
        changed.await.expect("nothing was asked").unwrap();
    }
}

fn person() -> Voice {
    Voice::Person("p".to_owned())
}

async fn rig(change: impl FnOnce(&mut AgentConfig)) -> (Fixture, Board) {
    let board = Board::new(Bus::builder("board").connect().await.unwrap());
    let it = Fixture::rig_with(&[], change, Arc::new(board.clone())).await;
    (it, board)
}

#[tokio::test]
async fn a_form_is_filled_in_and_the_agent_gets_the_fields() {
    let (it, board) = rig(|_| {}).await;
    let content = json!({ "age": 36, "name": "Ada", "days": ["mo"] });
    let answering = async {
        let open = asked_of(&board).await;
        let shown = serde_json::to_value(&open).unwrap();
        assert_eq!(shown["type"], "form");
        assert_eq!(shown["asker"], json!({ "kind": "agent", "name": "rig" }));
        assert_eq!(
            (&shown["session"], &shown["title"]),
            (&json!("s"), &json!("How old?"))
        );
        assert_eq!(shown["form"]["properties"]["age"]["minimum"], 0);
        assert_eq!(shown["detail"]["toolCallId"], "t9");
        let wrong = Answer::option("accept");
        let wrong = board.answer(&open.id, wrong, &person()).await.unwrap_err();
        assert!(wrong.to_string().contains("`age` is missing"), "{wrong}");
        let answer = Answer {
            content: content.as_object().cloned(),
            ..Answer::option("accept")
        };
        board.answer(&open.id, answer, &person()).await.unwrap();
    };
    let (said, ()) = tokio::join!(it.say("s", FORM), answering);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said, json!({ "action": "accept", "content": content }));
    let wire = it.end().await;
    let initialize = wire.lines().next().unwrap();
    assert!(
        initialize.contains(r#""elicitation":{"form":{},"url":{}}"#),
        "{initialize}"
    );
}

#[tokio::test]
async fn a_person_who_was_elsewhere_has_accepted() {
    let (it, board) = rig(|_| {}).await;
    let visit = r#"elicit {"mode":"url","elicitationId":"e1","url":"https://example.org/login",
        "message":"Log in"}"#;
    let done = async {
        let open = serde_json::to_value(asked_of(&board).await).unwrap();
        assert_eq!(open["url"], "https://example.org/login");
        it.say("other", "done e1").await;
    };
    let (said, ()) = tokio::join!(it.say("s", visit), done);
    assert_eq!(said, r#"{"action":"accept"}"#);
    let script = visit.replace("https://example.org/login", "javascript:alert(1)");
    let refused = it.say("s", &script).await;
    assert!(refused.starts_with("error -32602"), "{refused}");
    it.end().await;
}

#[tokio::test]
async fn nobody_is_asked_for_what_no_person_can_fill_in() {
    let it = Fixture::rig_with(&[], |_| {}, Arc::new(Nobody)).await;
    let nested = FORM.replace(r#""type":"integer""#, r#""type":"object""#);
    let said = it.say("s", &nested).await;
    assert!(said.contains("-32602") && said.contains("`age`"), "{said}");
    let other = r#"elicit {"mode":"_telepathy","message":"Think"}"#;
    let said = it.say("s", other).await;
    assert!(said.starts_with("error -32601"), "{said}");
    assert_eq!(
        it.say("s", FORM).await,
        r#"{"action":"cancel"}"#,
        "nobody is there"
    );
    it.end().await;
}

#[tokio::test]
async fn no_policy_invents_an_answer_but_deny_declines() {
    let allow = |config: &mut AgentConfig| config.policy = Policy::AllowOnce;
    let (it, board) = rig(allow).await;
    let declining = async {
        let open = asked_of(&board).await;
        let decline = Answer::option("decline");
        board.answer(&open.id, decline, &person()).await.unwrap();
    };
    let (said, ()) = tokio::join!(it.say("s", FORM), declining);
    assert_eq!(said, r#"{"action":"decline"}"#);
    it.end().await;
    let (it, board) = rig(|config| config.policy = Policy::Deny).await;
    assert_eq!(it.say("s", FORM).await, r#"{"action":"decline"}"#);
    assert!(board.open().is_empty());
    let wire = it.end().await;
    assert!(!wire.lines().next().unwrap().contains("elicitation"));
}

#[tokio::test]
async fn a_form_outside_of_a_session_is_asked_too() {
    let (it, board) = rig(|_| {}).await;
    let answering = async {
        let open = asked_of(&board).await;
        assert_eq!(open.question.session, "");
        let answer = Answer::option("accept");
        board.answer(&open.id, answer, &person()).await.unwrap();
    };
    let (said, ()) = tokio::join!(it.say("s", "outside"), answering);
    assert_eq!(said, r#"{"action":"accept"}"#);
    it.end().await;
}

#[tokio::test]
async fn a_cancelled_turn_withdraws_its_form() {
    let (it, board) = rig(|_| {}).await;
    let frames = it.open("s", &format!("{FORM}; wait")).await;
    asked_of(&board).await;
    drop(frames);
    assert_eq!(it.say("s", "say next").await, "next");
    assert!(board.open().is_empty());
    let wire = it.end().await;
    let cancelled = wire
        .lines()
        .filter(|line| line.starts_with("> ") && line.contains(r#""action":"cancel""#));
    assert_eq!(cancelled.count(), 1, "{wire}");
}
