//! The coordinator's four scenarios, on virtual time, with timeouts of 30 seconds.

use std::time::Duration;

use super::{At, Room, credentials, guarded, until};
use crate::model::Message;
use crate::store::MessageQuery;
use crate::{
    ChatError, Decision, DecisionAction, Draft, Followed, MessageId, NewThread, Proof, Registered,
    SettingsUpdate, ThreadId, WaitRequest,
};

/// A thread with fast timeouts, created by the first of the agents; those who write have written.
async fn scene(room: &Room, creator: &Registered, writers: &[&Registered]) -> ThreadId {
    let new = NewThread::new("scene", creator.agent.id.clone());
    let thread = room.chat.create_thread(new).await.unwrap().thread.id;
    let fast = SettingsUpdate {
        timeout_seconds: Some(30),
        switch_timeout_seconds: Some(30),
        ..SettingsUpdate::default()
    };
    room.chat
        .update_settings(thread.clone(), fast)
        .await
        .unwrap();
    for agent in writers {
        let draft = Draft {
            proof: Proof::Token(agent.token.clone()),
            ..Draft::new(thread.clone(), agent.agent.id.as_str(), "hello")
        };
        room.chat.post(draft).await.unwrap();
        room.token(&thread, agent).await;
    }
    thread
}

/// An agent that waits again whenever it gets nothing, until it gets a message.
async fn waits(
    room: &Room,
    thread: &ThreadId,
    agent: &Registered,
) -> tokio::task::JoinHandle<Message> {
    let (chat, thread, who) = (room.chat.clone(), thread.clone(), credentials(agent));
    let after = chat.messages(
        thread.clone(),
        MessageQuery {
            limit: 1000,
            ..Default::default()
        },
        false,
    );
    let after_seq = after.await.unwrap().0.last().map_or(0, |one| one.seq);
    let before = room.clock.sleepers();
    let waiting = tokio::spawn(async move {
        loop {
            let request = WaitRequest {
                credentials: Some(who.clone()),
                timeout: Some(Duration::from_secs(300)),
                ..WaitRequest::new(thread.clone(), after_seq)
            };
            let mut waited = chat.wait(request).await.unwrap();
            if !waited.messages.is_empty() {
                return waited.messages.remove(0);
            }
        }
    });
    until("the wait", || room.clock.sleepers() >= before + 2).await;
    waiting
}

/// Lets time pass as the background would, agents giving signs of life.
async fn pass(room: &Room, seconds: u64, alive: &[&Registered]) {
    for _ in 0..seconds / 10 {
        room.clock.advance(Duration::from_secs(10));
        for agent in alive {
            room.chat.heartbeat(credentials(agent)).await.unwrap();
        }
        room.flush().await;
        room.chat.coordinate().await.unwrap();
    }
}

async fn cards(room: &Room, thread: &ThreadId) -> Vec<Message> {
    let query = MessageQuery {
        role: Some("system".into()),
        limit: 100,
        ..MessageQuery::default()
    };
    room.chat
        .messages(thread.clone(), query, false)
        .await
        .unwrap()
        .0
}

fn kinds(cards: &[Message]) -> Vec<&str> {
    cards
        .iter()
        .map(|card| card.meta("ui_type").unwrap())
        .collect()
}

fn decision(thread: &ThreadId, action: DecisionAction, source: &MessageId) -> Decision {
    Decision {
        thread_id: thread.clone(),
        action,
        candidate: None,
        source: Some(source.clone()),
    }
}

pub async fn an_admin_alone_is_asked_about(at: At) {
    let room = Room::open(&at).await;
    let admin = room.agent().await;
    let thread = scene(&room, &admin, &[&admin]).await;
    let waiting = waits(&room, &thread, &admin).await;
    pass(&room, 20, &[&admin]).await;
    assert!(
        cards(&room, &thread).await.is_empty(),
        "not before its time"
    );
    pass(&room, 40, &[&admin]).await;
    let asked = cards(&room, &thread).await;
    assert_eq!(
        kinds(&asked),
        ["admin_takeover_confirmation_required"],
        "and asked once"
    );
    assert!(
        asked[0].human_only && !waiting.is_finished(),
        "agents do not see it"
    );
    let card = &asked[0].id;
    let wrong = room
        .chat
        .decide(decision(&thread, DecisionAction::Keep, card))
        .await
        .unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "Invalid action 'keep' for source_message_id \
         ui_type=admin_takeover_confirmation_required. Allowed: cancel, takeover"
    );
    let done = room
        .chat
        .decide(decision(&thread, DecisionAction::Takeover, card))
        .await
        .unwrap();
    assert_eq!(done.agent.unwrap().id, admin.agent.id);
    let woken = guarded("the instruction", waiting).await.unwrap();
    assert_eq!(woken.meta("handoff_target"), Some(admin.agent.id.as_str()));
}

pub async fn an_admin_among_others_is_called(at: At) {
    let room = Room::open(&at).await;
    let (admin, other) = (room.agent().await, room.agent().await);
    let thread = scene(&room, &admin, &[&admin, &other]).await;
    let first = waits(&room, &thread, &admin).await;
    pass(&room, 30, &[&admin, &other]).await;
    assert!(
        cards(&room, &thread).await.is_empty(),
        "one of them is still at work"
    );
    let second = waits(&room, &thread, &other).await;
    pass(&room, 30, &[&admin, &other]).await;
    for waiting in [first, second] {
        let woken = guarded("the instruction", waiting).await.unwrap();
        assert_eq!(
            woken.meta("ui_type"),
            Some("admin_coordination_takeover_instruction")
        );
        assert_eq!(woken.meta("target_admin_id"), Some(admin.agent.id.as_str()));
    }
    let said = cards(&room, &thread).await;
    assert_eq!(
        kinds(&said),
        [
            "admin_coordination_timeout_notice",
            "admin_coordination_takeover_instruction"
        ]
    );
    assert_eq!((said[0].human_only, said[1].human_only), (true, false));
}

pub async fn a_missing_admin_is_warned_about_less_and_less(at: At) {
    let room = Room::open(&at).await;
    let admin = room.agent().await;
    room.clock.advance(Duration::from_secs(120));
    let (one, two) = (room.agent().await, room.agent().await);
    let thread = scene(&room, &admin, &[&one, &two]).await;
    room.chat.kick(admin.agent.id.clone()).await.unwrap();
    let _one = waits(&room, &thread, &one).await;
    let _two = waits(&room, &thread, &two).await;
    pass(&room, 30, &[&one, &two]).await;
    let said = cards(&room, &thread).await;
    assert_eq!(
        kinds(&said),
        [
            "admin_coordination_timeout_notice",
            "agent_offline_risk_notice"
        ]
    );
    assert!(said.iter().all(|card| card.human_only));
    // Again after 30 s, then after 60 s, then after 120 s.
    pass(&room, 210, &[&one, &two]).await;
    assert_eq!(cards(&room, &thread).await.len(), 8);
}

pub async fn one_without_admin_may_be_promoted(at: At) {
    let room = Room::open(&at).await;
    let admin = room.agent().await;
    room.clock.advance(Duration::from_secs(120));
    let other = room.agent().await;
    let thread = scene(&room, &admin, &[&other]).await;
    room.chat.kick(admin.agent.id.clone()).await.unwrap();
    let _waiting = waits(&room, &thread, &other).await;
    pass(&room, 60, &[&other]).await;
    let asked = cards(&room, &thread).await;
    assert_eq!(kinds(&asked), ["admin_switch_confirmation_required"]);
    assert_eq!(
        asked[0].meta("candidate_admin_id"),
        Some(other.agent.id.as_str())
    );
    let switch = decision(&thread, DecisionAction::Switch, &asked[0].id);
    let done = room.chat.decide(switch).await.unwrap();
    assert_eq!(done.agent.unwrap().id, other.agent.id);
    room.say(&thread, "go on").await;
    let now = room.chat.admin(thread.clone()).await.unwrap().unwrap();
    assert_eq!(
        now.who.id, other.agent.id,
        "the next message does not undo it"
    );
    assert_eq!(cards(&room, &thread).await.len(), 2);
}

pub async fn a_card_takes_one_decision(at: At) {
    let room = Room::open(&at).await;
    let admin = room.agent().await;
    let thread = scene(&room, &admin, &[&admin]).await;
    let _waiting = waits(&room, &thread, &admin).await;
    pass(&room, 40, &[&admin]).await;
    let card = cards(&room, &thread).await[0].id.clone();
    let open = room.chat.open_cards().await.unwrap();
    assert_eq!((open.len(), &open[0].message.id), (1, &card));
    let mut events = room.chat.follow(Some(0), None).await.unwrap();
    let asked = loop {
        match guarded("the event", events.next()).await.unwrap().unwrap() {
            Followed::Event(event) if &*event.kind == "admin.asked" => break event.payload.clone(),
            Followed::Event(_) => {}
            Followed::Gap(upto) => panic!("a gap up to {upto}"),
        }
    };
    assert!(
        asked.contains(card.as_str()) && !asked.contains("administrator"),
        "{asked}"
    );
    let words = open[0].actions.each_ref().map(|(action, _)| *action);
    assert_eq!(words, [DecisionAction::Cancel, DecisionAction::Takeover]);
    let deciders = (0..8).map(|n| {
        let action = [DecisionAction::Cancel, DecisionAction::Takeover][n % 2];
        let (chat, decision) = (room.chat.clone(), decision(&thread, action, &card));
        tokio::spawn(async move { chat.decide(decision).await.unwrap() })
    });
    let mut outcomes = Vec::new();
    for decider in deciders.collect::<Vec<_>>() {
        outcomes.push(decider.await.unwrap());
    }
    let first: Vec<_> = outcomes.iter().filter(|one| !one.already_decided).collect();
    assert_eq!(first.len(), 1, "exactly one takes effect");
    assert!(outcomes.iter().all(|one| one.action == first[0].action));
    assert_eq!(cards(&room, &thread).await.len(), 2);
    assert!(
        room.chat.open_cards().await.unwrap().is_empty(),
        "it is decided"
    );
    let asked = room.chat.card(card.clone()).await.unwrap().unwrap();
    assert_eq!(asked.message.id, card, "what was decided can be looked at");
    assert!(room.chat.card("nope".into()).await.unwrap().is_none());
    let mut unknown = decision(&thread, DecisionAction::Cancel, &"nope".into());
    assert!(matches!(
        room.chat.decide(unknown.clone()).await,
        Err(ChatError::MessageNotFound(_))
    ));
    unknown.source = None;
    unknown.action = DecisionAction::Switch;
    assert!(matches!(
        room.chat.decide(unknown.clone()).await,
        Err(ChatError::Invalid(_))
    ));
    let off = SettingsUpdate {
        auto_administrator_enabled: Some(false),
        ..SettingsUpdate::default()
    };
    room.chat.update_settings(thread, off).await.unwrap();
    unknown.candidate = Some(admin.agent.id);
    assert!(matches!(
        room.chat.decide(unknown).await,
        Err(ChatError::Conflict(_))
    ));
}
