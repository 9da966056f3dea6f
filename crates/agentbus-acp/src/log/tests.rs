use serde_json::{Value, json};

use super::*;
use crate::limits::{LOG_GROUP, SESSION_BYTES};

fn key(session: &str) -> Key {
    Key {
        agent: "a".to_owned(),
        session: session.to_owned(),
    }
}

fn log() -> (tempfile::TempDir, SessionLog) {
    let dir = tempfile::tempdir().unwrap();
    let log = SessionLog::open(dir.path().join("data/sessions.db")).unwrap();
    (dir, log)
}

async fn add(log: &SessionLog, session: &str, n: u64) {
    let data = Payload::json(&json!({ "n": n })).unwrap();
    log.append(key(session), Kind::Update, data).await;
}

async fn numbers(follower: &mut Follower, count: u64) -> Vec<u64> {
    let mut seen = Vec::new();
    for _ in 0..count {
        let Some(Followed::Entry(entry)) = follower.next().await.unwrap() else {
            panic!("no entry");
        };
        let data: Value = serde_json::from_str(&entry.data).unwrap();
        assert_eq!(data["n"], entry.offset, "{entry:?}");
        seen.push(entry.offset);
    }
    seen
}

#[tokio::test]
async fn whoever_comes_back_gets_exactly_the_rest_while_it_goes_on() {
    let (_dir, log) = log();
    add(&log, "s", 1).await;
    let total = 3 * LOG_GROUP as u64;
    let writing = {
        let log = log.clone();
        tokio::spawn(async move {
            for n in 2..=total {
                add(&log, "s", n).await;
                add(&log, "other", n - 1).await;
            }
        })
    };
    let follow = |after| {
        let log = log.clone();
        async move {
            loop {
                if let Some(follower) = log.follow("a:s", after).await.unwrap() {
                    break follower;
                }
            }
        }
    };
    let mut steady = follow(0).await;
    let steady = tokio::spawn(async move { numbers(&mut steady, total).await });
    let mut seen = Vec::new();
    // One that leaves and comes back again and again.
    while (seen.len() as u64) < total {
        let mut follower = follow(seen.len() as u64).await;
        let count = (total - seen.len() as u64).min(700);
        seen.extend(numbers(&mut follower, count).await);
    }
    let all: Vec<u64> = (1..=total).collect();
    assert_eq!(seen, all);
    assert_eq!(steady.await.unwrap(), all);
    writing.await.unwrap();
    log.close().await;
}

#[tokio::test]
async fn a_log_is_opened_again_where_it_ended() {
    let (dir, log) = log();
    log.opened(
        key("s"),
        "agent-1",
        Payload::json(&json!({ "n": 1 })).unwrap(),
    )
    .await;
    add(&log, "s", 2).await;
    log.close().await;
    let log = SessionLog::open(dir.path().join("data/sessions.db")).unwrap();
    add(&log, "s", 3).await;
    let mut follower = log.follow("a:s", 0).await.unwrap().unwrap();
    assert_eq!(numbers(&mut follower, 3).await, [1, 2, 3]);
    assert_eq!(
        log.agent_session(&key("s")).await.as_deref(),
        Some("agent-1")
    );
    assert_eq!(log.agent_session(&key("t")).await, None);
    assert!(log.follow("a:t", 0).await.unwrap().is_none());
    let sessions = log.sessions().await.unwrap();
    assert_eq!(
        (sessions.len(), sessions[0].id.as_str(), sessions[0].last),
        (1, "a:s", 3)
    );
    log.close().await;
    assert_eq!(
        follower.next().await.unwrap(),
        None,
        "a closed log ends its followers"
    );
}

#[tokio::test]
async fn a_large_session_forgets_its_beginning_and_says_so() {
    let (_dir, log) = log();
    let large = "x".repeat(1024 * 1024);
    let count = SESSION_BYTES / large.len() as u64 + 2;
    for _ in 0..count {
        log.append(key("s"), Kind::Update, Payload::text(&large))
            .await;
    }
    log.close().await;
    let log = SessionLog::open(&log.0.path).unwrap();
    let session = log.sessions().await.unwrap().remove(0);
    assert_eq!(session.last, count);
    assert!(session.first > count / 4, "{session:?}");
    let mut follower = log.follow("a:s", 3).await.unwrap().unwrap();
    let gap = follower.next().await.unwrap().unwrap();
    assert_eq!(gap, Followed::Gap(session.first - 1));
    let Some(Followed::Entry(entry)) = follower.next().await.unwrap() else {
        panic!("no entry after the gap");
    };
    assert_eq!(entry.offset, session.first);
    log.close().await;
}

#[test]
fn a_file_of_a_newer_release_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sessions.db");
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 7).unwrap();
    drop(connection);
    assert!(matches!(
        SessionLog::open(&path),
        Err(LogError::Newer { .. })
    ));
}

#[tokio::test]
async fn sessions_of_editors_are_found_listed_named_and_forgotten() {
    let (_dir, log) = log();
    let session = |id: &str, cwd: &str| EditorSession {
        id: id.to_owned(),
        key: key(id),
        cwd: cwd.into(),
        directories: vec!["/more".into()],
        title: None,
        touched_ms: 0,
    };
    log.keep(session("one", "/here")).await.unwrap();
    add(&log, "elsewhere", 1).await;
    add(&log, "one", 1).await;
    assert_eq!(log.last(&key("one")).await.unwrap(), 1);
    log.name("one", "First".to_owned()).await.unwrap();
    log.name("one", "Second".to_owned()).await.unwrap();
    let found = log.editor_session("one").await.unwrap().unwrap();
    assert_eq!(found.title.as_deref(), Some("First"));
    assert_eq!((&found.key, &found.cwd), (&key("one"), &"/here".into()));
    assert_eq!(found.directories, [std::path::PathBuf::from("/more")]);
    // What a caller of the bus began is found by the id of the log.
    let other = log.editor_session("a:elsewhere").await.unwrap().unwrap();
    assert_eq!(other.key, key("elsewhere"));
    let ids = async || {
        let all = log.editor_sessions().await.unwrap();
        let mut ids: Vec<String> = all.into_iter().map(|it| it.id).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids().await, ["a:elsewhere", "one"]);
    let mut follower = log.follower("a:one", 1);
    log.forget(&found).await.unwrap();
    assert_eq!(follower.next().await.unwrap(), None);
    assert_eq!(ids().await, ["a:elsewhere"]);
    assert_eq!(log.last(&key("one")).await.unwrap(), 0);
    log.close().await;
}

#[tokio::test]
async fn a_log_of_the_first_version_is_read_on() {
    let (dir, log) = log();
    add(&log, "s", 1).await;
    log.close().await;
    let path = dir.path().join("data/sessions.db");
    let old = Connection::open(&path).unwrap();
    old.execute_batch("DROP TABLE editors; PRAGMA user_version = 1;")
        .unwrap();
    drop(old);
    let log = SessionLog::open(path).unwrap();
    let all = log.editor_sessions().await.unwrap();
    assert_eq!(all.len(), 1);
    add(&log, "s", 2).await;
    assert_eq!(log.last(&key("s")).await.unwrap(), 2);
    log.close().await;
}

#[tokio::test]
async fn turns_that_were_cut_are_ended_once() {
    let (dir, log) = log();
    let note = async |session: &str, kind: Kind| {
        let data = Payload::json(&json!({})).unwrap();
        log.append(key(session), kind, data).await;
    };
    for kind in [Kind::Prompt, Kind::Update] {
        note("cut", kind).await;
    }
    for kind in [Kind::Prompt, Kind::Ended, Kind::Update] {
        note("whole", kind).await;
    }
    for kind in [Kind::Prompt, Kind::Ended, Kind::Prompt] {
        note("second", kind).await;
    }
    note("silent", Kind::Update).await;
    log.close().await;
    let log = SessionLog::open(dir.path().join("data/sessions.db")).unwrap();
    for _ in 0..2 {
        log.end_cut_turns().await.unwrap();
    }
    let last = async |session: &str| log.last(&key(session)).await.unwrap();
    let lasts = [last("cut").await, last("whole").await, last("second").await];
    assert_eq!((lasts, last("silent").await), ([3, 3, 4], 1));
    let mut follower = log.follow("a:cut", 2).await.unwrap().unwrap();
    let Some(Followed::Entry(entry)) = follower.next().await.unwrap() else {
        panic!("no end");
    };
    assert_eq!(entry.kind, Kind::Ended);
    let end: Value = serde_json::from_str(&entry.data).unwrap();
    assert_eq!(end["error"]["code"], "AGENT_UNAVAILABLE");
    assert_eq!(end["error"]["retryable"], true);
    log.close().await;
}
