//! Sessions that outlive their callers and their bus: what happened is kept, and taken up again.

use std::sync::Arc;

use agentbus::Bus;
use agentbus_acp::decide::Nobody;
use agentbus_acp::log::{Followed, Follower};
use agentbus_acp::{AgentConfig, AgentTargets, SessionLog};
use serde_json::Value;

use crate::fixture::{Fixture, RIG, argv, collect};
use crate::schema;

/// Reads until a turn has ended: offset, kind and data of each entry.
async fn turn(follower: &mut Follower) -> Vec<(u64, &'static str, Value)> {
    let mut seen = Vec::new();
    loop {
        let Some(Followed::Entry(entry)) = follower.next().await.unwrap() else {
            panic!("the log ended within a turn: {seen:?}");
        };
        let data = serde_json::from_str(&entry.data).unwrap();
        seen.push((entry.offset, entry.kind.as_str(), data));
        if entry.kind.as_str() == "ended" {
            return seen;
        }
    }
}

fn text(entries: &[(u64, &str, Value)]) -> String {
    let chunks = entries
        .iter()
        .filter_map(|(_, _, data)| data["content"]["text"].as_str());
    chunks.collect()
}

/// Follows the session, whose first turn may be over before its first entry is written.
async fn follow(log: &SessionLog, after: u64) -> Follower {
    log.follow("rig:s", after).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_transcript_has_the_prompt_every_update_and_the_end() {
    let it = Fixture::rig(&[]).await;
    it.say("s", "say Hel; tool; say lo").await;
    it.turn("s", "error down").await.unwrap_err();
    let mut follower = follow(&it.log, 0).await;
    let first = turn(&mut follower).await;
    let kinds: Vec<&str> = first.iter().map(|(_, kind, _)| *kind).collect();
    assert_eq!(
        (kinds[0], *kinds.last().unwrap()),
        ("opened", "ended"),
        "{kinds:?}"
    );
    assert!(kinds.contains(&"prompt"), "{kinds:?}");
    assert_eq!(text(&first), "Hello");
    assert_eq!(first.last().unwrap().2["stop_reason"], "end_turn");
    let second = turn(&mut follower).await;
    assert_eq!(second[0].1, "prompt");
    assert!(
        second[1].2["error"]["message"]
            .as_str()
            .unwrap()
            .contains("down")
    );
    let offsets: Vec<u64> = first
        .iter()
        .chain(&second)
        .map(|(offset, ..)| *offset)
        .collect();
    assert_eq!(offsets, (1..=offsets.len() as u64).collect::<Vec<_>>());
    // A prompt without a session leaves nothing to come back to.
    it.say("", "say gone").await;
    assert_eq!(it.log.sessions().await.unwrap().len(), 1);
    it.end().await;
}

#[tokio::test]
async fn a_prompt_is_kept_whose_agent_does_not_start() {
    let missing = |config: &mut AgentConfig| config.command = argv(&["no-such-agent"]);
    let it = Fixture::start(vec![], missing, Arc::new(Nobody)).await;
    let error = it.turn("s", "say hello").await.unwrap_err();
    let entries = turn(&mut follow(&it.log, 0).await).await;
    let [(1, "prompt", prompt), (2, "ended", ended)] = &entries[..] else {
        panic!("something else is kept: {entries:?}");
    };
    assert_eq!(prompt["prompt"][0]["text"], "say hello");
    assert_eq!(ended["error"]["message"], error.to_payload().message);
    it.end_spoilt().await;
}

#[tokio::test]
async fn watchers_see_the_same_while_it_happens_and_after_it() {
    let it = Fixture::rig(&[]).await;
    it.say("s", "say warm").await;
    let last = turn(&mut follow(&it.log, 0).await).await.last().unwrap().0;
    let watching = [follow(&it.log, last).await, follow(&it.log, last).await];
    let watching =
        watching.map(|mut follower| tokio::spawn(async move { turn(&mut follower).await }));
    let said = it.say("s", "flood 3000").await;
    let late = turn(&mut follow(&it.log, last).await).await;
    assert_eq!(text(&late), said);
    for watcher in watching {
        assert_eq!(watcher.await.unwrap(), late);
    }
    // Somebody who left in the middle gets exactly the rest.
    let middle = late[late.len() / 2].0;
    let rest = turn(&mut follow(&it.log, middle).await).await;
    assert_eq!(rest, late[late.len() / 2 + 1..]);
    it.end().await;
}

#[tokio::test]
async fn what_a_turn_says_after_its_caller_left_is_kept() {
    let it = Fixture::rig(&[]).await;
    let mut frames = it.open("s", "say before; wait; say after").await;
    while frames.next().await.unwrap().unwrap().event_type.as_str() != "agent.response.delta" {}
    drop(frames);
    it.say("s", "say next").await;
    let entries = turn(&mut follow(&it.log, 0).await).await;
    assert!(text(&entries).contains("beforeafter"), "{entries:?}");
    assert_eq!(entries.last().unwrap().2["stop_reason"], "cancelled");
    it.end().await;
}

#[tokio::test]
async fn another_bus_takes_up_the_session_and_repeats_nothing() {
    for (flag, opened) in [("load", "loaded"), ("resume", "resumed")] {
        let dir = tempfile::tempdir().unwrap();
        let (path, wire) = (dir.path().join("sessions.db"), dir.path().join("wire"));
        let mut offsets = Vec::new();
        for want in ["new", opened] {
            let log = SessionLog::open(&path).unwrap();
            let bus = Bus::builder("test").connect().await.unwrap();
            let tapped = [RIG, "tap", wire.to_str().unwrap(), RIG, "agent", flag];
            let config = AgentConfig::new("rig", argv(&tapped));
            let agents =
                AgentTargets::start(&bus, vec![config], Arc::new(Nobody), Some(log.clone()));
            let agents = agents.await.unwrap();
            let prompt = Value::from("say hello");
            let frames = bus.stream("rig", &prompt).session("s").await.unwrap();
            assert_eq!(collect(frames).await.unwrap().started["opened"], want);
            agents.shutdown().await;
            bus.shutdown().await;
            let mut follower = follow(&log, offsets.last().copied().unwrap_or(0)).await;
            let entries = turn(&mut follower).await;
            assert!(!text(&entries).contains("replayed"), "{entries:?}");
            offsets.push(entries.last().unwrap().0);
            log.close().await;
        }
        assert!(offsets[0] < offsets[1]);
        schema::check(&std::fs::read_to_string(wire).unwrap());
    }
}
