//! Posting, editing and reacting.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::json;

use super::{At, Room, credentials, proven, quiet, strict};
use crate::model::Role;
use crate::store::MessageQuery;
use crate::{
    AuthProblem, ChatConfig, ChatError, Draft, MessageId, NewTemplate, NewThread, Proof, Sync,
    WaitRequest, limits,
};

/// What the filter refuses, made here so that no file holds what looks like a leak.
fn secret() -> String {
    format!("AKIA{}", "A".repeat(16))
}

pub async fn posts_have_one_order(at: At) {
    let room = Room::open(&at).await;
    let (a, b) = (room.thread("a").await, room.thread("b").await);
    let mut last = 0;
    for n in 0..6 {
        let thread = if n % 2 == 0 { &a } else { &b };
        let message = room.say(thread, "x").await;
        assert_eq!(message.seq, last + 1, "one counter for all threads");
        last = message.seq;
    }
}

pub async fn sixty_four_posters_all_succeed(at: At) {
    const POSTERS: usize = 64;
    const EACH: usize = 10;
    let room = Room::open(&at).await;
    let thread = room.thread("busy").await;
    let posters = (0..POSTERS).map(|poster| {
        let (chat, thread) = (room.chat.clone(), thread.clone());
        tokio::spawn(async move {
            let mut seqs = Vec::new();
            for n in 0..EACH {
                let draft = Draft::new(thread.clone(), format!("p{poster}"), format!("{n}"));
                seqs.push(chat.post(draft).await.unwrap().message.seq);
            }
            seqs
        })
    });
    let mut all = HashSet::new();
    for poster in posters.collect::<Vec<_>>() {
        let seqs = poster.await.unwrap();
        assert!(seqs.is_sorted(), "each poster sees its posts in order");
        all.extend(seqs);
    }
    assert_eq!(all.len(), POSTERS * EACH);
    assert_eq!(room.texts(&thread).await.len(), POSTERS * EACH);
    assert_eq!(room.chat.check_search().await.unwrap(), None);
}

pub async fn a_token_is_spent_once_however_many_try(at: At) {
    let room = Room::open(&at).await;
    let thread = room.thread("race").await;
    let agent = room.agent().await;
    let sync = room.token(&thread, &agent).await;
    let tries = (0..32).map(|_| {
        let chat = room.chat.clone();
        let draft = strict(&thread, &agent, sync.current_seq, &sync.reply_token, "mine");
        tokio::spawn(async move { chat.post(draft).await })
    });
    let mut won = 0;
    for attempt in tries.collect::<Vec<_>>() {
        match attempt.await.unwrap() {
            Ok(_) => won += 1,
            Err(ChatError::TokenReplay { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((won, room.texts(&thread).await.len()), (1, 1));
}

pub async fn strict_posts_are_checked_in_order(at: At) {
    let room = Room::open(&at).await;
    let (thread, other) = (room.thread("a").await, room.thread("b").await);
    let (agent, stranger) = (room.agent().await, room.agent().await);
    let post = |draft: Draft| room.chat.post(draft);

    let mut missing = strict(&thread, &agent, 0, "t", "x");
    missing.sync = Sync::Strict {
        expected_last_seq: None,
        reply_token: None,
    };
    let refused = post(missing).await.unwrap_err();
    let ChatError::MissingSyncFields { missing } = &refused else {
        panic!("{refused}");
    };
    assert_eq!(missing, &["expected_last_seq", "reply_token"]);

    let refused = post(strict(&thread, &agent, 0, "bogus", "x")).await;
    assert!(matches!(refused, Err(ChatError::TokenInvalid)));
    let elsewhere = room.token(&other, &agent).await.reply_token;
    let refused = post(strict(&thread, &agent, 0, &elsewhere, "x")).await;
    assert!(matches!(refused, Err(ChatError::TokenInvalid)));
    let token = room.token(&thread, &agent).await.reply_token;
    let refused = post(strict(&thread, &stranger, 0, &token, "x")).await;
    assert!(
        matches!(refused, Err(ChatError::TokenInvalid)),
        "bound to another agent"
    );

    room.say(&thread, "new").await;
    let refused = post(strict(&thread, &agent, 0, &token, "x"))
        .await
        .unwrap_err();
    let ChatError::SeqMismatch {
        current,
        new_messages,
        ..
    } = &refused
    else {
        panic!("{refused}");
    };
    assert_eq!((*current, new_messages.len()), (1, 1));
    // A mismatch does not spend the token, and having seen more than there is passes.
    post(strict(&thread, &agent, 99, &token, "x"))
        .await
        .unwrap();
    let refused = post(strict(&thread, &agent, 99, &token, "x")).await;
    assert!(matches!(refused, Err(ChatError::TokenReplay { .. })));
}

pub async fn a_strict_post_gives_the_next_token(at: At) {
    let room = Room::open(&at).await;
    let thread = room.thread("chain").await;
    let agent = room.agent().await;
    let mut sync = room.token(&thread, &agent).await;
    for n in 1..=3 {
        let draft = strict(&thread, &agent, sync.current_seq, &sync.reply_token, "x");
        sync = room.chat.post(draft).await.unwrap().next.unwrap();
        assert_eq!(sync.current_seq, n);
    }
    // An unregistered author may spend a token that was given to an agent, and gets none.
    let draft = Draft {
        proof: Proof::Nothing,
        author: "someone".to_owned(),
        ..strict(&thread, &agent, sync.current_seq, &sync.reply_token, "x")
    };
    assert_eq!(room.chat.post(draft).await.unwrap().next, None);
}

pub async fn only_the_agent_speaks_for_itself(at: At) {
    let room = Room::open(&at).await;
    let thread = room.thread("who").await;
    let (agent, other) = (room.agent().await, room.agent().await);
    let draft = |proof| Draft {
        proof,
        ..Draft::new(thread.clone(), agent.agent.id.as_str(), "x")
    };
    let refused = |problem| move |error: ChatError| matches!(error, ChatError::Unauthenticated(p) if p == problem);
    let post = |proof| room.chat.post(draft(proof));
    assert!(
        post(Proof::Nothing)
            .await
            .is_err_and(refused(AuthProblem::Missing))
    );
    assert!(
        post(Proof::Token("bad".into()))
            .await
            .is_err_and(refused(AuthProblem::Token))
    );
    let wrong = Proof::Agent(proven(&other));
    assert!(post(wrong).await.is_err_and(refused(AuthProblem::Missing)));
    let posted = post(Proof::Agent(proven(&agent))).await.unwrap().message;
    assert_eq!(posted.author, agent.agent.name);
    assert_eq!(posted.author_id.as_deref(), Some(agent.agent.id.as_str()));

    // A token that anybody could ask for in its name proves nothing.
    let asked = room.token(&thread, &agent).await;
    let mut forged = strict(&thread, &agent, asked.current_seq, &asked.reply_token, "x");
    forged.proof = Proof::ReplyToken;
    let forged = room.chat.post(forged).await;
    assert!(forged.is_err_and(refused(AuthProblem::Missing)));

    // One that was given to the agent itself does: here with its post.
    let mut first = strict(&thread, &agent, asked.current_seq, &asked.reply_token, "x");
    first.proof = Proof::Agent(proven(&agent));
    let sync = room.chat.post(first).await.unwrap().next.unwrap();
    let mut bound = strict(&thread, &agent, sync.current_seq, &sync.reply_token, "x");
    bound.proof = Proof::ReplyToken;
    room.chat.post(bound).await.unwrap();
    let mut spoofed = Draft::new(thread.clone(), "mallory", "x");
    spoofed.role = Role::System;
    assert!(matches!(
        room.chat.post(spoofed).await,
        Err(ChatError::Invalid(_))
    ));
}

pub async fn secrets_are_refused_everywhere(at: At) {
    let room = Room::open(&at).await;
    let thread = room.thread("safe").await;
    let blocked = |error: ChatError| matches!(error, ChatError::ContentBlocked { pattern, .. } if pattern == "AWS Access Key ID");
    let draft = Draft::new(thread.clone(), "human", secret());
    assert!(room.chat.post(draft).await.is_err_and(blocked));
    let message = room.say(&thread, "fine").await;
    let edit = room
        .chat
        .edit(message.id, secret(), "human".into(), Proof::Nothing)
        .await;
    assert!(edit.is_err_and(blocked));
    let creator = room.agent().await.agent.id;
    let mut new = NewThread::new("leaky", creator);
    new.system_prompt = Some(secret());
    assert!(room.chat.create_thread(new).await.is_err_and(blocked));
    let template = NewTemplate {
        id: "leaky".into(),
        name: "n".into(),
        description: None,
        system_prompt: Some(secret()),
        default_metadata: None,
    };
    assert!(
        room.chat
            .create_template(template)
            .await
            .is_err_and(blocked)
    );
    assert_eq!(room.texts(&thread).await, ["fine"]);
}

pub async fn an_author_may_post_so_much_and_no_more(at: At) {
    let config = ChatConfig {
        rate_limit: 3,
        ..quiet()
    };
    let room = Room::with(&at, config).await;
    let (a, b) = (room.thread("a").await, room.thread("b").await);
    for thread in [&a, &b, &a] {
        room.say(thread, "x").await;
        room.clock.advance(Duration::from_secs(10));
    }
    let again = || room.chat.post(Draft::new(b.clone(), "human", "x"));
    let refused = again().await;
    assert!(matches!(
        refused,
        Err(ChatError::RateLimited {
            limit: 3,
            window_s: 60
        })
    ));
    room.chat
        .post(Draft::new(b.clone(), "calm", "x"))
        .await
        .unwrap();
    // The first of them leaves the window.
    room.clock.advance(Duration::from_secs(30));
    again().await.unwrap();
    assert!(again().await.is_err());
}

pub async fn a_message_that_is_refused_is_not_stored(at: At) {
    let room = Room::open(&at).await;
    let (thread, other) = (room.thread("a").await, room.thread("b").await);
    let parent = room.say(&other, "elsewhere").await;
    let refused = |change: &dyn Fn(&mut Draft)| {
        let mut draft = Draft::new(thread.clone(), "human", "x");
        change(&mut draft);
        let chat = room.chat.clone();
        async move { chat.post(draft).await.unwrap_err() }
    };
    let stop = refused(&|draft| draft.metadata = Some(json!({ "stop_reason": "weird" }))).await;
    assert_eq!(
        stop.to_string(),
        "Invalid stop_reason 'weird'. Must be one of: complete, convergence, error, impasse, timeout"
    );
    let missing = refused(&|draft| draft.reply_to = Some("nope".into())).await;
    assert_eq!(
        missing.to_string(),
        "reply_to_msg_id 'nope' does not exist."
    );
    let elsewhere = refused(&|draft| draft.reply_to = Some(parent.id.clone())).await;
    assert!(
        elsewhere
            .to_string()
            .ends_with("belongs to a different thread."),
        "{elsewhere}"
    );
    let large = refused(&|draft| draft.content = "x".repeat(limits::CONTENT_BYTES_MAX + 1)).await;
    assert!(matches!(large, ChatError::TooLarge { .. }));
    let list = refused(&|draft| draft.metadata = Some(json!([]))).await;
    assert!(matches!(list, ChatError::Invalid(_)));
    assert!(room.texts(&thread).await.is_empty());
    assert_eq!(room.say(&thread, "next").await.seq, 2, "no number was lost");
}

pub async fn what_is_for_people_never_reaches_agents(at: At) {
    let room = Room::open(&at).await;
    let thread = room.thread("people").await;
    let agent = room.agent().await;
    let sync = room.token(&thread, &agent).await;
    let mut draft = Draft::new(thread.clone(), "human", "between us");
    draft.metadata = Some(json!({ "visibility": "human_only" }));
    room.chat.post(draft).await.unwrap();
    assert_eq!(room.texts(&thread).await, ["between us"], "people see it");

    // An agent is not out of step for something it cannot see, and does not see it.
    let post = strict(&thread, &agent, sync.current_seq, &sync.reply_token, "mine");
    room.chat.post(post).await.unwrap();
    let request = WaitRequest {
        credentials: Some(credentials(&agent)),
        ..WaitRequest::new(thread.clone(), 0)
    };
    let waited = room.chat.wait(request).await.unwrap();
    let texts: Vec<_> = waited
        .messages
        .iter()
        .map(|one| one.content.as_str())
        .collect();
    assert_eq!(texts, ["mine"]);
    let mut query = crate::model::SearchQuery {
        text: "between".into(),
        limit: 10,
        ..Default::default()
    };
    assert_eq!(room.chat.search(query.clone()).await.unwrap().hits.len(), 1);
    query.for_agents = true;
    assert!(room.chat.search(query).await.unwrap().hits.is_empty());
    let mut events = room.chat.follow(Some(0), None).await.unwrap();
    let newest = room.chat.last_event().await.unwrap();
    loop {
        let Some(crate::Followed::Event(event)) = events.next().await.unwrap() else {
            panic!("events end");
        };
        assert!(!event.payload.contains("between us"), "{}", event.payload);
        if event.id == newest {
            break;
        }
    }
}

pub async fn a_transcript_has_places(at: At) {
    let room = Room::open(&at).await;
    let (other, thread) = (room.thread("other").await, room.thread("places").await);
    room.say(&other, "elsewhere").await;
    let seen = room.say(&thread, "for all").await.seq;
    for text in ["between us", "between us too"] {
        let mut draft = Draft::new(thread.clone(), "human", text);
        draft.metadata = Some(json!({ "visibility": "human_only" }));
        room.chat.post(draft).await.unwrap();
    }
    let newest = crate::store::MessageQuery {
        newest: true,
        limit: 1,
        ..Default::default()
    };
    let page = room.chat.transcript(thread.clone(), newest).await.unwrap();
    let texts: Vec<_> = page
        .messages
        .iter()
        .map(|one| one.content.as_str())
        .collect();
    assert_eq!(texts, ["between us too"]);
    assert_eq!((page.before, page.anchor), (2, seen));
    let whole = crate::store::MessageQuery {
        limit: 10,
        ..Default::default()
    };
    let page = room.chat.transcript(thread, whole).await.unwrap();
    assert_eq!(page.messages.len(), 3);
    assert_eq!((page.before, page.anchor), (0, 0));
}

pub async fn edits_keep_what_was_there(at: At) {
    let room = Room::open(&at).await;
    let thread = room.thread("edits").await;
    let agent = room.agent().await;
    let draft = Draft {
        proof: Proof::Token(agent.token.clone()),
        ..Draft::new(thread.clone(), agent.agent.id.as_str(), "one")
    };
    let message = room.chat.post(draft).await.unwrap().message;
    let edit = |text: &str, by: &str, proof| {
        room.chat
            .edit(message.id.clone(), text.to_owned(), by.to_owned(), proof)
    };
    let own = || Proof::Token(agent.token.clone());
    let name = agent.agent.name.as_str();
    let refused = edit("two", "system", own()).await;
    assert!(
        matches!(refused, Err(ChatError::Forbidden(_))),
        "nobody edits as the bus"
    );
    let refused = edit("two", name, Proof::Nothing).await;
    assert!(matches!(refused, Err(ChatError::Unauthenticated(_))));
    let edited = edit("two", name, own()).await.unwrap();
    assert!(edited.changed);
    let again = edit("two", agent.agent.id.as_str(), own()).await.unwrap();
    assert_eq!((again.changed, again.message.edit_version), (false, 1));
    edit("three", name, own()).await.unwrap();

    let (now, before) = room.chat.history(message.id.clone()).await.unwrap();
    assert_eq!((now.content.as_str(), now.seq), ("three", message.seq));
    let before: Vec<_> = before
        .iter()
        .map(|one| (one.version, one.old_content.as_str()))
        .collect();
    assert_eq!(before, [(1, "one"), (2, "two")]);
    let unknown = room.chat.history(MessageId::new("nope")).await;
    assert!(matches!(unknown, Err(ChatError::MessageNotFound(_))));
}

pub async fn reactions_are_there_once(at: At) {
    let room = Room::open(&at).await;
    let thread = room.thread("reactions").await;
    let agent = room.agent().await.agent;
    let message = room.say(&thread, "x").await;
    let react = |label: &str| {
        let (id, agent) = (message.id.clone(), Some(agent.id.clone()));
        room.chat.react(id, agent, label.to_owned(), None)
    };
    let first = react("agree").await.unwrap();
    assert_eq!(first.agent_name.as_deref(), Some(agent.name.as_str()));
    assert_eq!(react("agree").await.unwrap(), first);
    react("doubt").await.unwrap();
    assert!(matches!(react(" ").await, Err(ChatError::Invalid(_))));
    let remove = || {
        room.chat
            .unreact(message.id.clone(), agent.id.clone(), "agree".into(), None)
    };
    assert!(remove().await.unwrap());
    assert!(!remove().await.unwrap());
    let query = MessageQuery::default();
    let (_, left) = room.chat.messages(thread, query, false).await.unwrap();
    assert_eq!(left.len(), 1);
    assert!(room.chat.reactions("nope".into()).await.unwrap().is_empty());
}

pub async fn a_reaction_is_its_agents_own(at: At) {
    let room = Room::open(&at).await;
    let thread = room.thread("t").await;
    let (agent, other) = (room.agent().await, room.agent().await);
    let message = room.say(&thread, "x").await.id;
    let react = |proof: Option<Proof>| {
        let id = Some(agent.agent.id.clone());
        room.chat.react(message.clone(), id, "agree".into(), proof)
    };
    let unreact = |proof: Option<Proof>| {
        let id = agent.agent.id.clone();
        room.chat
            .unreact(message.clone(), id, "agree".into(), proof)
    };
    let own = || Some(Proof::Token(agent.token.clone()));
    let foreign = [
        Proof::Nothing,
        Proof::Token("bad".into()),
        Proof::Token(other.token.clone()),
        Proof::Agent(proven(&other)),
    ];
    for proof in foreign.clone() {
        let refused = react(Some(proof)).await;
        assert!(matches!(refused, Err(ChatError::Unauthenticated(_))));
    }
    assert!(
        room.chat
            .reactions(message.clone())
            .await
            .unwrap()
            .is_empty()
    );
    react(own()).await.unwrap();
    for proof in foreign {
        let refused = unreact(Some(proof)).await;
        assert!(matches!(refused, Err(ChatError::Unauthenticated(_))));
    }
    assert!(unreact(own()).await.unwrap());
    react(Some(Proof::Agent(proven(&agent)))).await.unwrap();
    // A name that nobody registered is anybody's.
    let anybody = Some("ann".into());
    let free = room.chat.react(
        message.clone(),
        anybody,
        "agree".into(),
        Some(Proof::Nothing),
    );
    assert_eq!(free.await.unwrap().agent_name, None);
    room.chat.kick(agent.agent.id.clone()).await.unwrap();
    let late = unreact(Some(Proof::Agent(proven(&agent)))).await;
    assert!(
        matches!(late, Err(ChatError::Unauthenticated(_))),
        "{late:?}"
    );
}
