//! Waiting, and the tokens that waits give out.

use std::time::Duration;

use serde_json::json;

use super::{At, Room, credentials, guarded, quiet, strict, until};
use crate::{
    AuthProblem, ChatConfig, ChatError, Credentials, Draft, Registered, Seq, ThreadId, WaitRequest,
    Waited,
};

fn wait_of(agent: &Registered, thread: &ThreadId, after: Seq) -> WaitRequest {
    WaitRequest {
        credentials: Some(credentials(agent)),
        timeout: Some(Duration::from_secs(30)),
        ..WaitRequest::new(thread.clone(), after)
    }
}

type Waiting = tokio::task::JoinHandle<Result<Waited, ChatError>>;

/// Begins a wait, and returns when it sleeps.
async fn sleeping(room: &Room, request: WaitRequest) -> Waiting {
    let chat = room.chat.clone();
    let before = room.clock.sleepers();
    let waiting = tokio::spawn(async move { chat.wait(request).await });
    // A wait sleeps until its end, and until its next heartbeat.
    until("the wait", || {
        room.clock.sleepers() >= before + 2 || waiting.is_finished()
    })
    .await;
    waiting
}

async fn over(waiting: Waiting) -> Waited {
    guarded("the end of the wait", waiting)
        .await
        .unwrap()
        .unwrap()
}

pub async fn a_wait_ends_with_the_commit(at: At) {
    let room = Room::open(&at).await;
    let thread = room.thread("t").await;
    let agent = room.agent().await;
    room.token(&thread, &agent).await;
    let waiting = sleeping(&room, wait_of(&agent, &thread, 0)).await;
    room.flush().await;
    assert_eq!(
        room.chat.waiting(Some(thread.clone())).await.unwrap().len(),
        1
    );
    room.say(&thread, "wake up").await;
    let waited = over(waiting).await;
    assert_eq!(waited.messages[0].content, "wake up");
    assert_eq!(waited.sync.current_seq, 1);
    room.flush().await;
    assert!(room.chat.waiting(None).await.unwrap().is_empty());
    // The token is good at once, although nobody waited for the disk.
    let post = strict(&thread, &agent, 1, &waited.sync.reply_token, "here");
    room.chat.post(post).await.unwrap();
    let unknown = room.chat.wait(WaitRequest::new("nope".into(), 0)).await;
    assert!(matches!(unknown, Err(ChatError::ThreadNotFound(_))));
}

pub async fn a_wait_that_times_out_keeps_its_token(at: At) {
    let room = Room::open(&at).await;
    let thread = room.thread("t").await;
    let agent = room.agent().await;
    let held = room.token(&thread, &agent).await.reply_token;
    for _ in 0..2 {
        let waiting = sleeping(&room, wait_of(&agent, &thread, 0)).await;
        room.clock.advance(Duration::from_secs(30));
        let waited = over(waiting).await;
        assert!(waited.messages.is_empty());
        assert_eq!(waited.sync.reply_token, held);
    }
    // Someone who is not known gets a new one each time.
    let anonymous = || WaitRequest {
        timeout: Some(Duration::ZERO),
        ..WaitRequest::new(thread.clone(), 0)
    };
    let first = room.chat.wait(anonymous()).await.unwrap().sync.reply_token;
    assert_ne!(
        first,
        room.chat.wait(anonymous()).await.unwrap().sync.reply_token
    );
}

pub async fn a_wait_after_a_failed_post_answers_at_once(at: At) {
    let room = Room::open(&at).await;
    let thread = room.thread("t").await;
    let agent = room.agent().await;
    let old = room.token(&thread, &agent).await.reply_token;
    let id = agent.agent.id.clone();
    room.chat
        .recover(thread.clone(), id, "SeqMismatchError")
        .await
        .unwrap();
    let waited = guarded("the answer", room.chat.wait(wait_of(&agent, &thread, 0)))
        .await
        .unwrap();
    assert!(waited.messages.is_empty());
    assert_ne!(waited.sync.reply_token, old);
    let refused = room.chat.post(strict(&thread, &agent, 0, &old, "x")).await;
    assert!(
        matches!(refused, Err(ChatError::TokenReplay { .. })),
        "the old one was withdrawn"
    );
    // Being in step again, it waits.
    let waiting = sleeping(&room, wait_of(&agent, &thread, 0)).await;
    assert!(!waiting.is_finished());
    waiting.abort();
}

pub async fn a_wait_needs_whole_credentials(at: At) {
    let room = Room::open(&at).await;
    let thread = room.thread("t").await;
    let agent = room.agent().await;
    let with = |id: &str, token: &str| WaitRequest {
        credentials: Some(Credentials {
            agent_id: id.into(),
            token: token.to_owned(),
        }),
        ..WaitRequest::new(thread.clone(), 0)
    };
    let refused = room.chat.wait(with(agent.agent.id.as_str(), "")).await;
    assert!(matches!(
        refused,
        Err(ChatError::Unauthenticated(AuthProblem::Incomplete))
    ));
    let refused = room.chat.wait(with(agent.agent.id.as_str(), "bad")).await;
    assert!(matches!(
        refused,
        Err(ChatError::Unauthenticated(AuthProblem::Credentials))
    ));
}

pub async fn a_wait_hears_only_what_is_handed_to_it(at: At) {
    let room = Room::open(&at).await;
    let thread = room.thread("t").await;
    let agent = room.agent().await;
    room.token(&thread, &agent).await;
    let mut request = wait_of(&agent, &thread, 0);
    request.for_agent = Some("b".to_owned());
    let waiting = sleeping(&room, request).await;
    room.say(&thread, "for all").await;
    let mut handed = Draft::new(thread.clone(), "human", "for b");
    handed.metadata = Some(json!({ "handoff_target": "b" }));
    room.chat.post(handed).await.unwrap();
    let texts: Vec<_> = over(waiting)
        .await
        .messages
        .into_iter()
        .map(|one| one.content)
        .collect();
    assert_eq!(texts, ["for b"]);
}

pub async fn a_wait_that_is_dropped_is_forgotten(at: At) {
    let room = Room::open(&at).await;
    let thread = room.thread("t").await;
    let agent = room.agent().await;
    room.token(&thread, &agent).await;
    let waiting = sleeping(&room, wait_of(&agent, &thread, 0)).await;
    waiting.abort();
    let _ = waiting.await;
    // Jobs are done in order, so the next one finds the wait cleared.
    room.say(&thread, "after").await;
    assert!(room.chat.waiting(None).await.unwrap().is_empty());
    assert_eq!(room.chat.store().feed().watched(), 0);
}

pub async fn a_kicked_agent_waits_no_more(at: At) {
    let room = Room::open(&at).await;
    let thread = room.thread("t").await;
    let agent = room.agent().await;
    room.token(&thread, &agent).await;
    let waiting = sleeping(&room, wait_of(&agent, &thread, 0)).await;
    let kicked = room.chat.kick(agent.agent.id.clone()).await.unwrap();
    assert_eq!(kicked.threads, [thread]);
    let ended = guarded("the end of the wait", waiting).await.unwrap();
    assert!(matches!(ended, Err(ChatError::Kicked(_))), "{ended:?}");
    let back = room.chat.resume(credentials(&agent)).await;
    assert!(back.is_err(), "its token is worth nothing any more");
    let all = room.chat.agents().await.unwrap();
    assert_eq!(all.len(), 2, "the list can still be read");
}

pub async fn a_wait_that_is_too_short_is_raised_or_refused(at: At) {
    let config = |wait_min_enforced| ChatConfig {
        wait_min: Duration::from_secs(60),
        wait_min_enforced,
        ..quiet()
    };
    let room = Room::with(&at, config(true)).await;
    let thread = room.thread("t").await;
    let agent = room.agent().await;
    room.token(&thread, &agent).await;
    for short in [
        wait_of(&agent, &thread, 0),
        WaitRequest {
            credentials: None,
            ..wait_of(&agent, &thread, 0)
        },
    ] {
        let refused = room.chat.wait(short).await;
        let (asked_ms, min_ms) = match refused {
            Err(ChatError::WaitTooShort { asked_ms, min_ms }) => (asked_ms, min_ms),
            other => panic!("{other:?}"),
        };
        assert_eq!((asked_ms, min_ms), (30_000, 60_000));
    }
    room.flush().await;
    assert!(room.chat.waiting(None).await.unwrap().is_empty());
    // Whoever is out of step is answered at once.
    let missed = room.agent().await;
    room.say(&thread, "news").await;
    let waited = guarded("news", room.chat.wait(wait_of(&missed, &thread, 0))).await;
    assert_eq!(waited.unwrap().messages.len(), 1);
    room.chat.close().await;

    let room = Room::with(&at, config(false)).await;
    room.token(&thread, &agent).await;
    let waiting = sleeping(&room, wait_of(&agent, &thread, 1)).await;
    room.flush().await;
    let waits = room.chat.waiting(None).await.unwrap();
    assert_eq!(waits[0].timeout_ms, 60_000, "it is raised");
    room.clock.advance(Duration::from_secs(60));
    assert!(over(waiting).await.messages.is_empty());
}
