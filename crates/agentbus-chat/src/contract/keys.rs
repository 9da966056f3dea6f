//! Idempotency keys.

use super::{At, Room};
use crate::{Chat, ChatError, Draft, IdempotencyKey, limits};

fn under(chat: &Chat, key: &str, request: &str) -> Chat {
    chat.under(Some(IdempotencyKey::new("test", key, request).unwrap()))
}

pub async fn a_repeated_key_writes_once(at: At) {
    let room = Room::open(&at).await;
    let thread = room.thread("t").await;
    let post = |chat: Chat| {
        let draft = Draft::new(thread.clone(), "human", "once");
        async move { chat.post(draft).await }
    };
    let attempts = (0..16).map(|_| tokio::spawn(post(under(&room.chat, "k", "post"))));
    let mut ids = Vec::new();
    for attempt in attempts.collect::<Vec<_>>() {
        ids.push(attempt.await.unwrap().unwrap().message.id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    let reused = post(under(&room.chat, "k", "another")).await;
    assert!(matches!(reused, Err(ChatError::KeyReused)));
    room.chat.close().await;

    let room = Room::open(&at).await;
    let after = post(under(&room.chat, "k", "post")).await.unwrap();
    assert_eq!(after.message.id, ids[0], "also after a restart");
    // A failure is not kept: the next attempt may succeed.
    let failing = Draft::new("later".into(), "human", "x");
    let missing = under(&room.chat, "f", "r").post(failing).await;
    assert!(matches!(missing, Err(ChatError::ThreadNotFound(_))));
    post(under(&room.chat, "f", "r")).await.unwrap();
    room.clock.advance(limits::IDEMPOTENCY_TTL * 2);
    room.chat.prune().await.unwrap();
    let forgotten = post(under(&room.chat, "k", "post")).await.unwrap();
    assert_ne!(forgotten.message.id, ids[0]);
    assert!(IdempotencyKey::new("test", "", "r").is_err());
}
