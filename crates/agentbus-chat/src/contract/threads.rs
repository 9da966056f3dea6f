//! The life of threads.

use std::time::Duration;

use serde_json::json;

use super::{At, Room, quiet};
use crate::model::{ThreadQuery, ThreadState};
use crate::store::Promise;
use crate::store::perform;
use crate::{
    ChatConfig, ChatError, Draft, NewTemplate, NewThread, Proof, SettingsUpdate, TemplateId,
    ThreadId,
};

pub async fn any_state_follows_any_other(at: At) {
    let room = Room::open(&at).await;
    let thread = room.thread("t").await;
    for from in ThreadState::ALL {
        for to in ThreadState::ALL {
            room.chat.set_state(thread.clone(), from).await.unwrap();
            let now = room.chat.set_state(thread.clone(), to).await.unwrap();
            assert_eq!(now.status, to);
            assert_eq!(now.closed_at, None, "only closing notes when");
        }
    }
    let closed = room
        .chat
        .close_thread(thread.clone(), Some("done".into()))
        .await
        .unwrap();
    assert!(closed.closed_at.is_some());
    let again = room.chat.close_thread(thread.clone(), None).await.unwrap();
    assert_eq!(again.summary, None, "closing again replaces the summary");
    let back = room.chat.unarchive(thread.clone()).await.unwrap();
    assert_eq!(back.status, ThreadState::Discuss);
    assert!(back.closed_at.is_some(), "when it was closed stays known");
    let unknown = room.chat.archive(ThreadId::new("nope")).await;
    assert!(matches!(unknown, Err(ChatError::ThreadNotFound(_))));
}

pub async fn a_thread_remembers_its_workspace(at: At) {
    let room = Room::open(&at).await;
    let creator = room.agent().await.agent.id;
    let with = |topic: &str, workspace: String| NewThread {
        workspace: Some(workspace),
        ..NewThread::new(topic, creator.clone())
    };
    let opened = room.chat.create_thread(with("w", "/srv/app".into())).await;
    let id = opened.unwrap().thread.id;
    room.chat.close_thread(id.clone(), None).await.unwrap();
    let thread = room.chat.thread(id).await.unwrap();
    assert_eq!(thread.workspace.as_deref(), Some("/srv/app"));
    let long = "x".repeat(crate::limits::WORKSPACE_BYTES_MAX + 1);
    let refused = room.chat.create_thread(with("long", long)).await;
    assert!(matches!(refused, Err(ChatError::TooLarge { .. })));
}

pub async fn a_topic_is_one_thread(at: At) {
    let room = Room::open(&at).await;
    let (a, b) = (room.agent().await.agent.id, room.agent().await.agent.id);
    let mut new = NewThread::new("plans", a.clone());
    new.metadata = Some(json!({ "p": 1 }));
    let first = room.chat.create_thread(new).await.unwrap();
    let mut again = NewThread::new("plans", b);
    again.system_prompt = Some("ignored".into());
    let second = room.chat.create_thread(again).await.unwrap();
    assert_eq!((first.created, second.created), (true, false));
    assert_eq!(first.thread, second.thread);
    assert_ne!(first.sync.reply_token, second.sync.reply_token);
    let id = first.thread.id;
    let admin = room.chat.admin(id.clone()).await.unwrap().unwrap();
    assert_eq!(
        admin.who.id, a,
        "finding a thread makes nobody its administrator"
    );

    let other = room.thread("other").await;
    let taken = room.chat.rename(other.clone(), "plans".into()).await;
    assert!(matches!(taken, Err(ChatError::Conflict(_))));
    assert_eq!(
        room.chat.rename(other, "free".into()).await.unwrap().topic,
        "free"
    );
    let short = SettingsUpdate {
        timeout_seconds: Some(29),
        ..SettingsUpdate::default()
    };
    let refused = room.chat.update_settings(id, short).await.unwrap_err();
    assert_eq!(refused.to_string(), "timeout_seconds must be at least 30");
}

pub async fn closed_threads_take_nothing(at: At) {
    let room = Room::open(&at).await;
    let thread = room.thread("t").await;
    room.chat.close_thread(thread.clone(), None).await.unwrap();
    let refused = room
        .chat
        .post(Draft::new(thread.clone(), "human", "x"))
        .await;
    assert!(matches!(refused, Err(ChatError::ThreadClosed(_))));
    room.chat.close().await;
    let config = ChatConfig {
        allow_posts_in_closed: true,
        ..quiet()
    };
    let room = Room::with(&at, config).await;
    room.say(&thread, "as it was in AgentChatBus").await;
}

pub async fn lists_have_pages(at: At) {
    let room = Room::open(&at).await;
    // All in the same microsecond, which must not lose any of them.
    for n in 0..5 {
        room.thread(&format!("t{n}")).await;
    }
    let archived = room.thread("old").await;
    room.chat.archive(archived.clone()).await.unwrap();
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let query = ThreadQuery {
            limit: 2,
            before: before.clone(),
            ..ThreadQuery::default()
        };
        let page = room.chat.threads(query).await.unwrap();
        assert_eq!(page.total, 5);
        seen.extend(page.threads.iter().map(|thread| thread.id.clone()));
        let Some(last) = page.threads.last().filter(|_| page.has_more) else {
            break;
        };
        before = Some((last.created_at, Some(last.id.clone())));
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 5);
    let listed = |status: &str, include_archived| {
        let status = (!status.is_empty()).then(|| status.to_owned());
        room.chat.threads(ThreadQuery {
            status,
            include_archived,
            ..ThreadQuery::default()
        })
    };
    assert_eq!(listed("", true).await.unwrap().total, 6);
    assert_eq!(
        listed("archived", false).await.unwrap().threads[0].id,
        archived
    );
    assert_eq!(listed("bogus", false).await.unwrap().total, 0);
}

pub async fn deleting_leaves_nothing(at: At) {
    let room = Room::open(&at).await;
    let (thread, agent) = (room.thread("t").await, room.agent().await);
    let message = room.say(&thread, "gone").await;
    room.chat
        .react(message.id.clone(), None, "x".into(), None)
        .await
        .unwrap();
    let proof = Proof::Nothing;
    room.chat
        .edit(message.id.clone(), "going".into(), "human".into(), proof)
        .await
        .unwrap();
    let token = room.token(&thread, &agent).await.reply_token;
    let deleted = room.chat.delete_thread(thread.clone()).await.unwrap();
    assert_eq!((deleted.message_count, deleted.topic.as_str()), (1, "t"));
    let id = message.id;
    let left = perform(&**room.chat.store(), Promise::Stored, move |tx| {
        let rows = [
            tx.thread(&thread)?.is_some(),
            tx.message(&id)?.is_some(),
            !tx.edits(&id)?.is_empty(),
            !tx.reactions(std::slice::from_ref(&id))?.is_empty(),
            tx.token(&token)?.is_some(),
            tx.settings(&thread)?.is_some(),
            tx.events_after(0, Some(&thread), 0)?.len() != 1,
        ];
        Ok((rows, tx.count_audit("message.post", id.as_str())?))
    });
    let (rows, audited) = left.await.unwrap();
    assert_eq!(rows, [false; 7], "only the event of the deletion is left");
    assert_eq!(audited, 1, "and the audit");
    assert_eq!(room.chat.check_search().await.unwrap(), None);
}

pub async fn silent_threads_close(at: At) {
    let config = ChatConfig {
        thread_timeout: Duration::from_secs(60),
        ..quiet()
    };
    let room = Room::with(&at, config).await;
    let (silent, busy, working) = (
        room.thread("silent").await,
        room.thread("busy").await,
        room.thread("working").await,
    );
    room.chat
        .set_state(working, ThreadState::Implement)
        .await
        .unwrap();
    room.clock.advance(Duration::from_secs(61));
    room.say(&busy, "here").await;
    assert_eq!(
        room.chat.sweep().await.unwrap(),
        std::slice::from_ref(&silent)
    );
    assert_eq!(
        room.chat.thread(silent).await.unwrap().status,
        ThreadState::Closed
    );
    assert!(room.chat.sweep().await.unwrap().is_empty());
}

pub async fn templates_give_what_the_creator_leaves_open(at: At) {
    let room = Room::open(&at).await;
    let builtin: Vec<_> = room
        .chat
        .templates()
        .await
        .unwrap()
        .into_iter()
        .map(|one| one.id)
        .collect();
    let names: Vec<_> = builtin.iter().map(TemplateId::as_str).collect();
    assert_eq!(
        names,
        [
            "architecture",
            "brainstorm",
            "code-review",
            "security-audit"
        ]
    );
    let new = || NewTemplate {
        id: "mine".into(),
        name: "Mine".into(),
        description: None,
        system_prompt: Some("Be nice".into()),
        default_metadata: Some(json!({ "k": 1 })),
    };
    room.chat.create_template(new()).await.unwrap();
    assert!(matches!(
        room.chat.create_template(new()).await,
        Err(ChatError::Conflict(_))
    ));
    let creator = room.agent().await.agent.id;
    let from = |topic: &str, prompt: Option<&str>| NewThread {
        template: Some("mine".into()),
        system_prompt: prompt.map(str::to_owned),
        ..NewThread::new(topic, creator.clone())
    };
    let thread = room
        .chat
        .create_thread(from("a", None))
        .await
        .unwrap()
        .thread;
    assert_eq!(thread.system_prompt.as_deref(), Some("Be nice"));
    assert_eq!(thread.metadata, Some(json!({ "k": 1 })));
    let thread = room
        .chat
        .create_thread(from("b", Some("Be brief")))
        .await
        .unwrap()
        .thread;
    assert_eq!(thread.system_prompt.as_deref(), Some("Be brief"));
    room.chat.delete_template("mine".into()).await.unwrap();
    let unknown = room.chat.create_thread(from("c", None)).await;
    assert!(matches!(unknown, Err(ChatError::TemplateNotFound(_))));
    let builtin = room.chat.delete_template("brainstorm".into()).await;
    assert!(matches!(builtin, Err(ChatError::Forbidden(_))));
}

pub async fn exports_tell_everything(at: At) {
    let room = Room::open(&at).await;
    let thread = room.thread("Design review").await;
    let message = room.say(&thread, "first").await;
    let by = "human".to_owned();
    room.chat
        .edit(message.id.clone(), "better".into(), by, Proof::Nothing)
        .await
        .unwrap();
    room.chat
        .react(message.id, None, "agree".into(), None)
        .await
        .unwrap();
    let (name, text) = room.chat.export_markdown(thread.clone()).await.unwrap();
    assert_eq!(name, "design-review.md");
    assert_eq!(
        text,
        "# Design review\n\n> **Status:** discuss | **Created:** 2026-11-21 00:00 UTC\n\
         > **Messages:** 1 | **Exported:** 2026-11-21 00:00 UTC\n\n---\n\n\
         ### human — 2026-11-21 00:00 UTC\n\nbetter\n\n---\n"
    );
    let (name, json) = room.chat.export_json(thread).await.unwrap();
    assert_eq!(name, "design-review.json");
    assert_eq!(json["messages"][0]["edits"][0]["old_content"], "first");
    assert_eq!(json["messages"][0]["reactions"][0]["reaction"], "agree");
}
