use std::time::Duration;

use serde_json::{Map, Value, json};

use super::*;
use crate::{Choice, Form};

fn permission(patience: Duration) -> Question {
    let option = |id: &str| Choice {
        id: id.to_owned(),
        name: id.to_owned(),
        kind: "allow_once".to_owned(),
    };
    let options = vec![option("yes"), option("no")];
    let ask = Ask::Permission { kind: None };
    Question {
        patience,
        ..Question::new(Asker::agent("a"), "t", ask, options)
    }
}

fn form() -> Question {
    let schema = json!({ "properties": { "age": { "type": "integer" } }, "required": ["age"] });
    Question::form(Asker::agent("a"), "How old?", Form::new(schema).unwrap())
}

fn person() -> Voice {
    Voice::Person("p".to_owned())
}

fn accept(content: &Value) -> Answer {
    let content: Map<String, Value> = content.as_object().unwrap().clone();
    Answer {
        content: Some(content),
        ..Answer::option(Question::ACCEPT)
    }
}

fn taken(option: &str, already_decided: bool) -> Result<Taken, NotTaken> {
    let option = option.to_owned();
    Ok(Taken {
        option,
        already_decided,
    })
}

async fn board() -> (Bus, Board) {
    let bus = Bus::builder("test").connect().await.unwrap();
    (bus.clone(), Board::new(bus))
}

fn only(board: &Board) -> String {
    let open = board.open();
    assert_eq!(open.len(), 1);
    open[0].id.clone()
}

async fn heard(events: &mut agentbus::Subscription) -> (String, Value) {
    let event = events.next().await.unwrap();
    let event = event.envelope();
    let payload = event.payload.as_ref().unwrap().decode().unwrap();
    (event.event_type.as_str().to_owned(), payload)
}

#[tokio::test]
async fn the_first_answer_wins_and_everybody_hears_of_it() {
    let (bus, board) = board().await;
    let mut events = bus.subscribe("decision.*").await.unwrap();
    let mut asked = board.decide(permission(Duration::from_secs(60)));
    assert!(futures_util::poll!(&mut asked).is_pending());
    let id = only(&board);
    let say =
        async |id: &str, option: &str| board.answer(id, Answer::option(option), &person()).await;
    assert_eq!(
        say(&id, "maybe").await.unwrap_err().to_string(),
        "`maybe` is no option of this decision; there is yes, no"
    );
    assert_eq!(
        say("x", "yes").await,
        Err(NotTaken::Unknown("x".to_owned()))
    );
    assert_eq!(say(&id, "yes").await, taken("yes", false));
    assert_eq!(say(&id, "yes").await, taken("yes", true), "a repetition");
    let other = say(&id, "no").await.unwrap_err();
    assert_eq!(other.to_string(), "the decision was made before: `yes`");
    assert_eq!(asked.await, Some(Answer::option("yes")));
    assert!(board.open().is_empty());
    let (opened, what) = heard(&mut events).await;
    assert_eq!(
        (opened.as_str(), &what["type"]),
        ("decision.opened", &json!("permission"))
    );
    let (closed, what) = heard(&mut events).await;
    assert_eq!(closed, "decision.closed");
    assert_eq!(
        what,
        json!({ "id": id, "outcome": "answered", "option": "yes", "by": "p" })
    );
}

#[tokio::test(start_paused = true)]
async fn a_question_that_nobody_answers_or_wants_is_closed() {
    let (_bus, board) = board().await;
    assert_eq!(board.decide(permission(Duration::from_secs(1))).await, None);
    assert!(board.open().is_empty());
    let mut changes = board.changes();
    let mut withdrawn = board.decide(permission(Duration::from_secs(60)));
    assert!(futures_util::poll!(&mut withdrawn).is_pending());
    let id = only(&board);
    drop(withdrawn);
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    let late = board.answer(&id, Answer::option("yes"), &person()).await;
    assert_eq!(late, Err(NotTaken::Closed { decided: None }));
    assert!(!changes.has_changed().unwrap(), "nothing was closed twice");
}

#[tokio::test]
async fn a_form_takes_only_what_fits_it() {
    let (_bus, board) = board().await;
    let mut asked = board.decide(form());
    assert!(futures_util::poll!(&mut asked).is_pending());
    let id = only(&board);
    assert_eq!(
        board.open()[0].until,
        None,
        "it waits for as long as its asker does"
    );
    let say = async |answer: Answer| board.answer(&id, answer, &person()).await;
    let told = async |answer: Answer| say(answer).await.unwrap_err().to_string();
    assert_eq!(
        told(Answer::option("accept")).await,
        "the answer does not fit the form: the field `age` is missing"
    );
    assert_eq!(
        told(accept(&json!({ "age": "old" }))).await,
        "the answer does not fit the form: `age`: value is not of type \"integer\""
    );
    let declined = Answer {
        option: "decline".to_owned(),
        ..accept(&json!({ "age": 3 }))
    };
    assert!(
        told(declined)
            .await
            .contains("only a form that is accepted")
    );
    assert_eq!(
        say(accept(&json!({ "age": 36 }))).await,
        taken("accept", false)
    );
    assert_eq!(
        say(accept(&json!({ "age": 36 }))).await,
        taken("accept", true)
    );
    let other = say(accept(&json!({ "age": 37 }))).await;
    assert!(matches!(other, Err(NotTaken::Closed { .. })));
    assert_eq!(asked.await, Some(accept(&json!({ "age": 36 }))));
}

#[tokio::test]
async fn an_agent_answers_nothing_and_an_assistant_not_for_its_person() {
    let (_bus, board) = board().await;
    let tool = Question {
        asker: Asker::tool("t"),
        ..form()
    };
    let (mut asked, mut of_tool) = (board.decide(form()), board.decide(tool));
    assert!(futures_util::poll!(&mut asked).is_pending());
    let id = only(&board);
    assert!(futures_util::poll!(&mut of_tool).is_pending());
    // Those of one millisecond stand in any order.
    let open = board.open();
    let mut ids = open.iter().map(|one| one.id.clone());
    let by_tool = ids.find(|other| *other != id).unwrap();
    let say =
        async |id: &str, voice: Voice| board.answer(id, Answer::option("decline"), &voice).await;
    for agent in ["a", "b"] {
        let refused = say(&id, Voice::Agent(agent.to_owned())).await;
        assert!(matches!(refused, Err(NotTaken::NotYours(_))), "{agent}");
    }
    let assistant = Voice::Assistant("token".to_owned());
    assert_eq!(
        say(&by_tool, assistant.clone()).await,
        Err(NotTaken::Unknown(by_tool.clone()))
    );
    let seen = async |voice: Voice| board.list(&voice).await.unwrap().len();
    assert_eq!(seen(person()).await, 2);
    assert_eq!(seen(assistant.clone()).await, 1);
    assert_eq!(seen(Voice::Agent("a".to_owned())).await, 1, "its own");
    assert_eq!(seen(Voice::Agent("b".to_owned())).await, 0);
    assert_eq!(say(&id, assistant).await, taken("decline", false));
    assert_eq!(asked.await, Some(Answer::option("decline")));
}

#[tokio::test]
async fn what_is_done_elsewhere_is_accepted_and_told() {
    let (bus, board) = board().await;
    let mut events = bus.subscribe("decision.*").await.unwrap();
    let to = |url: &str| Question::url(Asker::agent("a"), "Log in", url.to_owned(), "e".to_owned());
    let url = || to("https://x").unwrap();
    for bad in ["javascript:alert(1)", "file:///etc/passwd", "http://a b"] {
        assert!(to(bad).is_err(), "{bad}");
    }
    let mut asked = board.decide(url());
    assert!(futures_util::poll!(&mut asked).is_pending());
    board.complete(&Asker::agent("b"), "e");
    board.complete(&Asker::agent("a"), "f");
    assert_eq!(board.open().len(), 1, "it is somebody else's");
    board.complete(&Asker::agent("a"), "e");
    assert_eq!(asked.await, Some(Answer::option("accept")));
    let mut asked = board.decide(url());
    assert!(futures_util::poll!(&mut asked).is_pending());
    let id = only(&board);
    board
        .answer(&id, Answer::option("accept"), &person())
        .await
        .unwrap();
    board.complete(&Asker::agent("a"), "e");
    let mut told = Vec::new();
    for _ in 0..6 {
        let (event, what) = heard(&mut events).await;
        told.push((
            event,
            what["outcome"].as_str().unwrap_or_default().to_owned(),
        ));
    }
    let told: Vec<_> = told
        .iter()
        .map(|(event, how)| (&event[9..], how.as_str()))
        .collect();
    let expect = [
        ("opened", ""),
        ("closed", "completed"),
        ("completed", ""),
        ("opened", ""),
        ("closed", "answered"),
        ("completed", ""),
    ];
    assert_eq!(told, expect);
}

#[tokio::test]
async fn an_answer_from_elsewhere_counts_if_it_is_the_first() {
    let (bus, board) = board().await;
    let mut events = bus.subscribe("decision.closed").await.unwrap();
    let elsewhere = async { Some(Answer::option("decline")) };
    let answer = board.decide_beside(form(), "editor", elsewhere).await;
    assert_eq!(answer, Some(Answer::option("decline")));
    assert_eq!(heard(&mut events).await.1["by"], "editor");
    assert_eq!(
        board.decide_beside(form(), "editor", async { None }).await,
        None
    );
    assert_eq!(heard(&mut events).await.1["outcome"], "cancelled");
    let mut asked = Box::pin(board.decide_beside(form(), "editor", std::future::pending()));
    assert!(futures_util::poll!(&mut asked).is_pending());
    let decline = Answer::option("decline");
    board
        .answer(&only(&board), decline.clone(), &person())
        .await
        .unwrap();
    assert_eq!(asked.await, Some(decline));
}

#[tokio::test]
async fn there_is_room_for_so_many_and_no_more() {
    let (_bus, board) = board().await;
    let mut open = Vec::new();
    for _ in 0..DECISIONS_OPEN {
        let mut asked = board.decide(permission(Duration::from_secs(60)));
        assert!(futures_util::poll!(&mut asked).is_pending());
        open.push(asked);
    }
    assert_eq!(
        board.decide(permission(Duration::from_secs(60))).await,
        None
    );
    drop(open);
    board.close().await;
    assert!(board.open().is_empty());
}
