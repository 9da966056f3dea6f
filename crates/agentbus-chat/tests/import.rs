//! Taking over the database of an AgentChatBus.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

#[path = "support/old.rs"]
mod old;

use std::path::Path;

use agentbus_chat::store::{MessageQuery, StoreError};
use agentbus_chat::{Chat, ChatConfig, ChatError, Credentials, Draft, MessageId};
use old::write_old;

const MESSAGES: i64 = 2_500;

async fn open(directory: &Path) -> Chat {
    Chat::open(directory.join("chat.db"), ChatConfig::default())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_database_is_imported_once_and_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let old = directory.path().join("bus.db");
    write_old(&old, MESSAGES);
    let before = std::fs::read(&old).unwrap();
    let chat = open(directory.path()).await;
    let mut told = Vec::new();
    let mut progress = |done, total| told.push((done, total));
    let first = chat.import(&old, &mut progress).await.unwrap();
    let all = usize::try_from(MESSAGES).unwrap();
    assert_eq!(
        (first.threads, first.messages, first.agents, first.known),
        (1, all, 1, 0)
    );
    assert_eq!(told.last(), Some(&(all, all)));
    let again = chat.import(&old, &mut |_, _| ()).await.unwrap();
    assert_eq!((again.threads, again.messages, again.known), (0, 0, all));
    assert_eq!(
        std::fs::read(&old).unwrap(),
        before,
        "the file is not touched"
    );

    let query = MessageQuery {
        limit: 3,
        ..MessageQuery::default()
    };
    let (page, reactions) = chat.messages("t1".into(), query, false).await.unwrap();
    let seqs: Vec<_> = page.iter().map(|message| message.seq).collect();
    assert_eq!(seqs, [2, 4, 6]);
    assert_eq!(reactions[0].reaction, "agree");
    let (_, edits) = chat.history(MessageId::new("m1")).await.unwrap();
    assert_eq!(edits[0].old_content, "before");
    assert_eq!(
        chat.settings("t1".into()).await.unwrap().timeout_seconds,
        90
    );
    let agent = Credentials {
        agent_id: "a1".into(),
        token: "secret".into(),
    };
    chat.resume(agent).await.unwrap();
    let posted = chat
        .post(Draft::new("t1".into(), "human", "new"))
        .await
        .unwrap();
    assert_eq!(posted.message.seq, 2 * MESSAGES + 1);
    assert_eq!(chat.check_search().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_are_taken_are_not_renumbered() {
    let directory = tempfile::tempdir().unwrap();
    let old = directory.path().join("bus.db");
    write_old(&old, MESSAGES);
    let chat = open(directory.path()).await;
    let who = chat
        .register(agentbus_chat::NewAgent::new("a", "b"))
        .await
        .unwrap();
    let new = agentbus_chat::NewThread::new("own", who.agent.id);
    let thread = chat.create_thread(new).await.unwrap().thread.id;
    for _ in 0..2 {
        chat.post(Draft::new(thread.clone(), "human", "own"))
            .await
            .unwrap();
    }
    let refused = chat.import(&old, &mut |_, _| ()).await;
    let Err(ChatError::Store(StoreError::Collision(text))) = refused else {
        panic!("{refused:?}");
    };
    assert!(text.contains("number 2"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_such_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let chat = open(directory.path()).await;
    let text = directory.path().join("notes.txt");
    std::fs::write(
        &text,
        "not a database, but long enough to be looked at. ".repeat(50),
    )
    .unwrap();
    let refused = chat.import(&text, &mut |_, _| ()).await;
    assert!(
        matches!(refused, Err(ChatError::Store(StoreError::Foreign { .. }))),
        "{refused:?}"
    );
    let missing = chat.import(Path::new("/nowhere.db"), &mut |_, _| ()).await;
    assert!(
        matches!(missing, Err(ChatError::Store(StoreError::Open { .. }))),
        "{missing:?}"
    );
}
