//! The registry.

use std::collections::HashMap;
use std::time::Duration;

use super::{At, Room, credentials, proven, strict};
use crate::model::AliasSource;
use crate::store::look;
use crate::{
    AgentUpdate, AuthProblem, ChatError, Credentials, Draft, Join, NewAgent, Proof, WaitRequest,
};

pub async fn names_are_unique_and_tokens_hidden(at: At) {
    let room = Room::open(&at).await;
    let first = room
        .chat
        .register(NewAgent::new("VS Code", "GPT-4"))
        .await
        .unwrap();
    let mut named = NewAgent::new(" VS Code ", "GPT-4");
    named.display_name = Some("  Alice  ".into());
    let second = room.chat.register(named).await.unwrap();
    let blank = room.chat.register(NewAgent::new("  ", "")).await.unwrap();
    assert_eq!(first.agent.name, "VS Code (GPT-4)");
    assert_eq!(
        (second.agent.name.as_str(), second.agent.shown_name()),
        ("VS Code (GPT-4) 2", "Alice")
    );
    assert_eq!(second.agent.alias_source, AliasSource::User);
    assert_eq!(blank.agent.name, "Unknown IDE (Unknown Model)");
    assert_eq!(first.token.len(), 64);
    let id = first.agent.id.clone();
    let kept = look(&**room.chat.store(), move |tx| Ok(tx.agent_token(&id)?))
        .await
        .unwrap();
    assert!(
        !kept.unwrap().contains(&first.token),
        "the token itself is not kept"
    );
    let many = NewAgent {
        capabilities: vec!["x".into(); crate::limits::ABILITIES_MAX + 1],
        ..NewAgent::new("a", "b")
    };
    assert!(matches!(
        room.chat.register(many).await,
        Err(ChatError::TooMany { .. })
    ));
}

pub async fn an_agent_has_the_face_that_it_chose(at: At) {
    let room = Room::open(&at).await;
    let with = |emoji: &str| NewAgent {
        emoji: Some(emoji.into()),
        ..NewAgent::new("a", "b")
    };
    let chosen = room.chat.register(with(" 🦕 ")).await.unwrap();
    let blank = room.chat.register(with("  ")).await.unwrap();
    for symbol in ["🇩🇪", "👩🏽\u{200d}🚀", "🅰\u{fe0f}", "4\u{fe0f}\u{20e3}"] {
        let taken = room.chat.register(with(symbol)).await.unwrap();
        assert_eq!(taken.agent.emoji(), symbol);
    }
    assert_eq!(chosen.agent.emoji(), "🦕");
    let own = crate::emoji::of_agent(blank.agent.id.as_str());
    assert_eq!(blank.agent.emoji(), own);
    let long = "🦕".repeat(crate::limits::EMOJI_BYTES_MAX);
    let refused = room.chat.register(with(&long)).await;
    assert!(matches!(refused, Err(ChatError::TooLarge { .. })));
    for wrong in [
        "admin",
        "админ",
        "🅰🅳🅼",
        "🦕 🦕",
        "\u{7}",
        "\u{202e}🦕",
        "\u{200b}",
    ] {
        let refused = room.chat.register(with(wrong)).await;
        assert!(matches!(refused, Err(ChatError::Invalid(_))), "{wrong}");
    }

    let thread = room.thread("faces").await;
    for who in [&chosen, &blank] {
        let draft = Draft {
            proof: Proof::Token(who.token.clone()),
            ..Draft::new(thread.clone(), who.agent.id.as_str(), "hi")
        };
        room.chat.post(draft).await.unwrap();
    }
    let query = crate::store::MessageQuery {
        limit: 10,
        ..Default::default()
    };
    let (messages, _) = room.chat.messages(thread, query, true).await.unwrap();
    let faces = room.chat.faces(&messages).await.unwrap();
    let face = (chosen.agent.id.to_string(), "🦕".to_owned());
    assert_eq!(faces, HashMap::from([face]));

    room.chat.close().await;
    let room = Room::open(&at).await;
    let back = room.chat.resume(credentials(&chosen)).await.unwrap();
    assert_eq!(back.emoji(), "🦕");
    for (emoji, shown) in [("🦖", "🦖"), ("", crate::emoji::of_agent(back.id.as_str()))] {
        let update = AgentUpdate {
            emoji: Some(emoji.into()),
            ..AgentUpdate::default()
        };
        let who = credentials(&chosen);
        room.chat.update_agent(who, update).await.unwrap();
        let now = room.chat.agent(back.id.clone()).await.unwrap();
        assert_eq!(now.emoji(), shown);
    }
}

pub async fn agents_come_back_and_go(at: At) {
    let room = Room::open(&at).await;
    let agent = room.agent().await;
    room.chat.close().await;
    let room = Room::open(&at).await;
    let back = room.chat.resume(credentials(&agent)).await.unwrap();
    assert_eq!(back.last_activity.as_deref(), Some("resume"));
    let update = AgentUpdate {
        display_name: Some(" Bob ".into()),
        capabilities: Some(vec!["x".into()]),
        ..AgentUpdate::default()
    };
    let updated = room
        .chat
        .update_agent(credentials(&agent), update)
        .await
        .unwrap();
    assert_eq!(
        (updated.shown_name(), updated.capabilities.len()),
        ("Bob", 1)
    );
    let nobody = Credentials {
        agent_id: "nope".into(),
        token: "x".into(),
    };
    let unknown = room
        .chat
        .update_agent(nobody.clone(), AgentUpdate::default())
        .await;
    assert!(matches!(unknown, Err(ChatError::AgentNotFound(_))));
    assert!(room.chat.heartbeat(nobody).await.is_err());
    room.chat.unregister(credentials(&agent)).await.unwrap();
    assert!(room.chat.unregister(credentials(&agent)).await.is_err());
    assert!(room.chat.agents().await.unwrap().is_empty());
}

pub async fn presence_follows_signs_of_life(at: At) {
    let room = Room::open(&at).await;
    let agent = room.agent().await;
    let mut seen = HashMap::new();
    room.chat.check_presence(&mut seen).await.unwrap();
    let mut events = room.chat.follow(None, None).await.unwrap();
    let timeout = room.chat.config().heartbeat_timeout;
    room.clock.advance(timeout - Duration::from_secs(1));
    room.chat.check_presence(&mut seen).await.unwrap();
    room.clock.advance(Duration::from_secs(1));
    room.chat.check_presence(&mut seen).await.unwrap();
    room.chat.heartbeat(credentials(&agent)).await.unwrap();
    // A heartbeat may be seen a little later than it was answered.
    room.thread("flush").await;
    room.chat.check_presence(&mut seen).await.unwrap();
    let mut kinds = Vec::new();
    while kinds.len() < 4 {
        let next = super::guarded("an event", events.next()).await.unwrap();
        let Some(crate::Followed::Event(event)) = next else {
            panic!("{next:?}");
        };
        kinds.push(event.kind.to_string());
    }
    assert_eq!(
        kinds,
        [
            "agent.offline",
            "agent.online",
            "thread.new",
            "agent.online"
        ]
    );
}

pub async fn joining_shows_the_newest_window(at: At) {
    let room = Room::open(&at).await;
    let join = |who: Option<Credentials>, after_seq| Join {
        topic: "room".into(),
        credentials: who,
        agent: NewAgent::new("IDE", "m"),
        after_seq,
        system_prompt: None,
        template: None,
        metadata: None,
    };
    let first = room.chat.connect(join(None, 0)).await.unwrap();
    assert!(first.created);
    assert_eq!(first.messages.len(), 1, "what every agent is told");
    for n in 0..120 {
        room.say(&first.thread.id, &format!("m{n}")).await;
    }
    let who = Credentials {
        agent_id: first.registered.agent.id.clone(),
        token: first.registered.token.clone(),
    };
    let back = room.chat.connect(join(Some(who), 0)).await.unwrap();
    assert_eq!(back.registered.agent.id, first.registered.agent.id);
    assert_eq!(
        (back.messages.len(), back.total, back.truncated),
        (101, 120, true)
    );
    assert_eq!(back.messages.last().unwrap().content, "m119");
    let bad = Credentials {
        agent_id: "x".into(),
        token: "y".into(),
    };
    assert!(room.chat.connect(join(Some(bad), 0)).await.is_err());
    assert_eq!(
        room.chat.agents().await.unwrap().len(),
        1,
        "a failed return registers nobody"
    );
}

pub async fn a_kick_ends_every_proof(at: At) {
    let room = Room::open(&at).await;
    let thread = room.thread("t").await;
    let agent = room.agent().await;
    let asked = room.token(&thread, &agent).await;
    let before = strict(&thread, &agent, 0, &asked.reply_token, "before");
    let posted = room.chat.post(before).await.unwrap();
    let given = posted.next.unwrap();
    room.chat.kick(agent.agent.id.clone()).await.unwrap();

    let after = || {
        strict(
            &thread,
            &agent,
            given.current_seq,
            &given.reply_token,
            "after",
        )
    };
    let session = || Proof::Agent(proven(&agent));
    let own = Proof::Token(agent.token.clone());
    for proof in [session(), own, Proof::ReplyToken] {
        let draft = Draft { proof, ..after() };
        let error = room.chat.post(draft).await.unwrap_err();
        assert!(matches!(error, ChatError::Unauthenticated(_)), "{error:?}");
    }
    let mut disguised = after();
    disguised.author = "someone".to_owned();
    let error = room.chat.post(disguised).await.unwrap_err();
    assert!(matches!(error, ChatError::TokenInvalid), "{error:?}");
    let (id, name) = (posted.message.id, agent.agent.name.clone());
    let edited = room.chat.edit(id, "after".into(), name, session()).await;
    let refused =
        |error: ChatError| matches!(error, ChatError::Unauthenticated(AuthProblem::Token));
    assert!(edited.is_err_and(refused));
    let wait = WaitRequest {
        known: Some(proven(&agent)),
        ..WaitRequest::new(thread.clone(), 0)
    };
    assert!(room.chat.wait(wait).await.is_err_and(refused));
    let now = room.chat.agent(agent.agent.id.clone()).await.unwrap();
    assert_eq!(now.last_activity.as_deref(), Some("kicked"));

    let again = room.agent().await;
    room.chat.resume(credentials(&again)).await.unwrap();
    let draft = Draft {
        proof: Proof::Agent(proven(&again)),
        ..Draft::new(thread.clone(), again.agent.id.as_str(), "again")
    };
    room.chat.post(draft).await.unwrap();
    assert_eq!(room.texts(&thread).await, ["before", "again"]);
}
