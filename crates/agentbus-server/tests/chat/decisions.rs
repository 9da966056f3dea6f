//! What waits for a person: cards beside the questions of agents, and who may answer.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agentbus::Bus;
use agentbus_chat::store::SqliteStore;
use agentbus_chat::{
    Ambient, Chat, ChatConfig, Clock, Credentials, Draft, ManualClock, NewAgent, NewThread, Proof,
    SystemClock, ThreadId, WaitRequest,
};
use agentbus_decisions::{Answer, Ask, Asker, Board, Choice, Decider, Question};
use agentbus_server::AuthMode;
use serde_json::{Value, json};

use super::client::Host;
use super::mcp_session::McpSession;

/// Makes a thread whose only agent has waited until the coordinator asked about it.
async fn ask_about(chat: &Chat, clock: &ManualClock, topic: &str) -> ThreadId {
    let agent = chat.register(NewAgent::new("IDE", "m")).await.unwrap();
    let who = Credentials {
        agent_id: agent.agent.id.clone(),
        token: agent.token.clone(),
    };
    let new = NewThread::new(topic, agent.agent.id.clone());
    let thread = chat.create_thread(new).await.unwrap().thread.id;
    let hello = Draft {
        proof: Proof::Token(agent.token),
        ..Draft::new(thread.clone(), agent.agent.id.as_str(), "hello")
    };
    let seq = chat.post(hello).await.unwrap().message.seq;
    let request = WaitRequest {
        credentials: Some(who.clone()),
        timeout: Some(Duration::from_secs(3600)),
        ..WaitRequest::new(thread.clone(), seq)
    };
    let before = clock.sleepers();
    let waits = chat.clone();
    let waiting = tokio::spawn(async move { while waits.wait(request.clone()).await.is_ok() {} });
    while clock.sleepers() <= before {
        tokio::task::yield_now().await;
    }
    let asked = async || {
        let open = chat.open_cards().await.unwrap();
        open.iter().any(|card| card.message.thread_id == thread)
    };
    while !asked().await {
        clock.advance(Duration::from_secs(10));
        chat.heartbeat(who.clone()).await.unwrap();
        chat.coordinate().await.unwrap();
    }
    waiting.abort();
    thread
}

/// A database in which cards wait, one for each topic.
async fn cards(file: &Path, topics: &[&str]) -> Vec<ThreadId> {
    let clock = ManualClock::at(SystemClock.now().before(Duration::from_secs(7200)));
    let ambient = Ambient {
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        ..Ambient::default()
    };
    let store = Arc::new(SqliteStore::open(file).await.unwrap());
    let chat = Chat::over(store, ChatConfig::default(), ambient)
        .await
        .unwrap();
    let mut threads = Vec::new();
    for topic in topics {
        threads.push(ask_about(&chat, &clock, topic).await);
    }
    chat.close().await;
    threads
}

async fn open(host: &Host) -> Vec<Value> {
    let listed = host.get("/api/decisions").await;
    assert_eq!(listed.status, 200, "{}", listed.text);
    listed.body["decisions"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_card_is_answered_on_either_way_and_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cards.db");
    let threads = cards(&file, &["one", "two"]).await;
    let host = Host::start_with(|config, _| config.chat_database = Some(file)).await;
    let mut closed = host.bus.subscribe("decision.closed").await.unwrap();
    let listed = open(&host).await;
    assert_eq!(listed.len(), 2);
    let of = |thread: &ThreadId| {
        let card = listed.iter().find(|card| card["thread"] == thread.as_str());
        card.unwrap().clone()
    };
    let (one, two) = (of(&threads[0]), of(&threads[1]));
    assert_eq!(
        (&one["type"], &one["asker"]["kind"], &one["until"]),
        (&json!("card"), &json!("coordinator"), &Value::Null)
    );
    let words: Vec<_> = one["options"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["id"])
        .collect();
    assert_eq!(words, ["cancel", "takeover"]);
    assert!(one["title"].as_str().unwrap().contains("administrator"));

    // By its own route after the board.
    let id = one["id"].as_str().unwrap();
    let path = format!("/api/decisions/{id}");
    let say = async |option: &str| host.json("POST", &path, json!({ "option": option })).await;
    assert_eq!(
        say("keep").await.status,
        400,
        "it is no option of this card"
    );
    let first = say("cancel").await;
    let expect = json!({ "id": id, "option": "cancel", "already_decided": false });
    assert_eq!((first.status, first.body), (200, expect));
    assert_eq!(say("cancel").await.body["already_decided"], true);
    assert_eq!(say("takeover").await.status, 409);
    let own = async |card: &Value, action: &str| {
        let path = format!(
            "/api/threads/{}/admin/decision",
            card["thread"].as_str().unwrap()
        );
        let body = json!({ "action": action, "source_message_id": card["id"] });
        host.json("POST", &path, body).await
    };
    let late = own(&one, "takeover").await;
    assert_eq!(late.status, 200, "{}", late.text);
    assert_eq!(
        (&late.body["already_decided"], &late.body["action"]),
        (&json!(true), &json!("cancel"))
    );

    // The other way round.
    let decided = own(&two, "takeover").await;
    assert_eq!(
        (decided.status, &decided.body["already_decided"]),
        (200, &json!(false))
    );
    let path = format!("/api/decisions/{}", two["id"].as_str().unwrap());
    let again = host
        .json("POST", &path, json!({ "option": "takeover" }))
        .await;
    assert_eq!(
        (again.status, &again.body["already_decided"]),
        (200, &json!(true))
    );
    assert!(open(&host).await.is_empty());
    for (card, option) in [(&one, "cancel"), (&two, "takeover")] {
        let event = closed.next().await.unwrap();
        let told: Value = event.envelope().payload.as_ref().unwrap().decode().unwrap();
        assert_eq!(
            (&told["id"], &told["option"]),
            (&card["id"], &json!(option))
        );
    }
}

fn question(agent: &str) -> Question {
    let options = vec![Choice::plain("yes", "Yes"), Choice::plain("no", "No")];
    let ask = Ask::Permission { kind: None };
    Question::new(Asker::agent(agent), "Delete the world", ask, options)
}

fn asks(board: &Board, agent: &str) -> tokio::task::JoinHandle<Option<Answer>> {
    let (board, question) = (board.clone(), question(agent));
    tokio::spawn(async move { board.decide(question).await })
}

async fn id_of(board: &Board, agent: &str) -> String {
    let mut changes = board.changes();
    loop {
        let open = board.open();
        let its = open.iter().find(|it| it.question.asker.name == agent);
        if let Some(its) = its {
            return its.id.clone();
        }
        changes.changed().await.unwrap();
    }
}

async fn guarded_host() -> (Host, Board, String) {
    let mut board = None;
    let host = Host::start_with(|config, bus: &Bus| {
        config.auth = AuthMode::Token;
        board = Some(Board::new(bus.clone()));
        config.decisions.clone_from(&board);
    });
    let host = host.await;
    let token = std::fs::read_to_string(host.server.data_dir().token_path()).unwrap();
    (host, board.unwrap(), token.trim().to_owned())
}

#[tokio::test]
async fn an_agent_sees_its_own_questions_and_answers_none() {
    let (host, board, token) = guarded_host().await;
    let agent = host.server.agent_token("claude");
    let (own, other) = (asks(&board, "claude"), asks(&board, "codex"));
    let (id, other_id) = (id_of(&board, "claude").await, id_of(&board, "codex").await);
    let mcp = McpSession::open(&host, &agent).await;
    let asked = json!({ "decision_id": id, "option": "yes" });
    let refused = mcp.call("decision_answer", asked).await["structuredContent"].take();
    assert!(
        refused["error"]
            .as_str()
            .unwrap()
            .contains("a person has to"),
        "{refused}"
    );
    let listed = mcp.call("decision_list", json!({})).await["structuredContent"].take();
    assert_eq!(listed["decisions"].as_array().unwrap().len(), 1);
    let asked = json!({ "decision_id": other_id, "option": "yes" });
    let refused = mcp.call("decision_answer", asked).await["structuredContent"].take();
    assert!(
        refused["error"].is_string(),
        "nor what others ask: {refused}"
    );
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str())];
    let path = format!("/api/decisions/{id}");
    let taken = host
        .json_as("POST", &path, &headers, json!({ "option": "yes" }))
        .await;
    assert_eq!(taken.status, 200, "{}", taken.text);
    assert_eq!(own.await.unwrap(), Some(Answer::option("yes")));
    other.abort();
}

#[tokio::test]
async fn an_assistant_answers_until_it_is_an_agent_itself() {
    let (host, board, token) = guarded_host().await;
    let (first, second) = (asks(&board, "claude"), asks(&board, "codex"));
    let (id, other) = (id_of(&board, "claude").await, id_of(&board, "codex").await);
    let mcp = McpSession::open(&host, &token).await;
    let answer = async |id: &str, option: &str| {
        let asked = json!({ "decision_id": id, "option": option });
        mcp.call("decision_answer", asked).await["structuredContent"].take()
    };
    let wrong = answer(&id, "maybe").await;
    assert!(
        wrong["error"]
            .as_str()
            .unwrap()
            .contains("there is yes, no"),
        "{wrong}"
    );
    let expect = json!({ "decision_id": id, "option": "no", "already_decided": false });
    assert_eq!(answer(&id, "no").await, expect);
    assert_eq!(first.await.unwrap(), Some(Answer::option("no")));
    let join = json!({ "thread_name": "t", "ide": "IDE", "model": "m" });
    let joined = mcp.call("bus_connect", join).await;
    assert_ne!(joined["isError"], true, "{joined}");
    let refused = answer(&other, "yes").await;
    assert!(
        refused["error"]
            .as_str()
            .unwrap()
            .contains("a person has to"),
        "{refused}"
    );
    second.abort();
}
