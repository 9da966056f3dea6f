//! The search index of a file is filled in groups, which nobody who searches may notice.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use std::path::Path;

use agentbus_chat::model::SearchQuery;
use agentbus_chat::{Chat, ChatConfig, Draft, NewAgent, NewThread, ThreadId};

async fn open(path: &Path) -> Chat {
    let config = ChatConfig {
        rate_limit: 0,
        ..ChatConfig::default()
    };
    Chat::open(path, config).await.unwrap()
}

async fn thread(chat: &Chat) -> ThreadId {
    let agent = chat.register(NewAgent::new("index", "m")).await.unwrap();
    let new = NewThread::new("index", agent.agent.id);
    chat.create_thread(new).await.unwrap().thread.id
}

async fn post(chat: &Chat, thread: &ThreadId, text: &str) {
    let draft = Draft::new(thread.clone(), "p", text);
    chat.post(draft).await.unwrap();
}

async fn found(chat: &Chat, word: &str) -> usize {
    let query = SearchQuery {
        text: word.to_owned(),
        limit: 200,
        ..SearchQuery::default()
    };
    chat.search(query).await.unwrap().hits.len()
}

#[tokio::test]
async fn whoever_has_posted_finds_it_and_so_does_who_comes_after_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("chat.db");
    let chat = open(&path).await;
    let thread = thread(&chat).await;
    post(&chat, &thread, "heron").await;
    assert!(chat.store().index_is_behind());
    assert_eq!(found(&chat, "heron").await, 1);
    assert!(!chat.store().index_is_behind());
    post(&chat, &thread, "heron and 世界の海").await;
    // What is on the disk now is what a bus would leave that is killed.
    let killed = directory.path().join("killed.db");
    for end in ["", "-wal"] {
        let from = directory.path().join(format!("chat.db{end}"));
        std::fs::copy(from, directory.path().join(format!("killed.db{end}"))).unwrap();
    }
    let after = open(&killed).await;
    assert!(!after.store().index_is_behind());
    assert_eq!(found(&after, "heron").await, 2);
    assert_eq!(found(&after, "世界の海").await, 1);
    assert_eq!(after.check_search().await.unwrap(), None);
    after.close().await;
    chat.close().await;
}

#[tokio::test]
async fn many_posts_fill_the_index_by_themselves() {
    let directory = tempfile::tempdir().unwrap();
    let chat = open(&directory.path().join("chat.db")).await;
    let thread = thread(&chat).await;
    let mut caught_up = 0;
    for _ in 0..150 {
        post(&chat, &thread, "egret").await;
        caught_up += usize::from(!chat.store().index_is_behind());
    }
    assert_eq!(caught_up, 2, "two groups of 64 in 150 posts");
    assert_eq!(found(&chat, "egret").await, 150);
    assert_eq!(chat.check_search().await.unwrap(), None);
    chat.close().await;
}
