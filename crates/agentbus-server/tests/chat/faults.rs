//! A database or a carrier that fails while it is used, and works again.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use agentbus::transport::{
    self, BoxFuture, Capabilities, Completion, Drained, Inbox, MemoryTransport, Message,
    PublishOptions, Receipt, Subscribe, Transport, TransportError,
};
use agentbus::{Bus, Subscription};
use rusqlite::Connection;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use super::client::{Host, quiet};

/// Longest time that any step may take before the test has failed.
const GUARD: Duration = Duration::from_secs(60);

/// More posts than a follower of events may lag behind, with the four events of each.
const POSTS: i64 = 1200;
const POSTERS: i64 = 16;

/// A host whose database the test can reach as well.
async fn host(directory: &Path) -> (Host, PathBuf) {
    let database = directory.join("chat.db");
    let kept = database.clone();
    let host = Host::start_with(move |config, _| {
        config.chat = quiet();
        config.chat_database = Some(kept);
    });
    (host.await, database)
}

/// Renames a table from under the host.
fn rename(database: &Connection, from: &str, to: &str) {
    // The older way leaves everything alone that names the table.
    let sql = format!("PRAGMA legacy_alter_table = ON; ALTER TABLE {from} RENAME TO {to}");
    database.execute_batch(&sql).unwrap();
}

/// Posts messages of which each tells four events.
async fn post_many(host: &Arc<Host>, thread: &str) {
    let path = format!("/api/threads/{thread}/messages");
    let first = host
        .json("POST", &path, json!({ "content": "first" }))
        .await;
    let told = json!({ "content": "x", "reply_to_msg_id": first.body["id"],
        "metadata": { "handoff_target": "a", "stop_reason": "complete" } });
    let posters = (0..POSTERS).map(|_| {
        let (host, path, told) = (Arc::clone(host), path.clone(), told.clone());
        tokio::spawn(async move {
            for _ in 0..POSTS / POSTERS {
                let posted = host.json("POST", &path, told.clone()).await;
                assert_eq!(posted.status, 201, "{}", posted.text);
            }
        })
    });
    for poster in posters.collect::<Vec<_>>() {
        poster.await.unwrap();
    }
}

/// The number of the message that the next event tells of; none where it does not come in time.
async fn next_seq(events: &mut Subscription, time: Duration) -> Option<i64> {
    let delivery = tokio::time::timeout(time, events.next()).await.ok()?;
    let delivery = delivery.unwrap();
    let payload = delivery.envelope().payload.clone().unwrap();
    delivery.ack().await.unwrap();
    let told: Value = payload.decode().unwrap();
    told["seq"].as_i64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bus_hears_everything_once_and_in_order_after_the_store_could_not_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let (host, database) = host(directory.path()).await;
    let host = Arc::new(host);
    let thread = host.thread("t").await;
    // Nobody reads, so whoever publishes is held up, and falls behind the events that are kept in
    // memory.
    let new = host.bus.subscribe("chat.msg.new").capacity(1);
    let mut new = new.await.unwrap();
    post_many(&host, &thread).await;
    let database = Connection::open(database).unwrap();
    rename(&database, "events", "away");
    let mut heard = Vec::new();
    // What was on its way; the rest can be found only in the store.
    while let Some(seq) = next_seq(&mut new, Duration::from_secs(1)).await {
        heard.push(seq);
    }
    assert!(heard.len() < 100, "{} did not need the store", heard.len());
    rename(&database, "away", "events");
    while heard.last() != Some(&(POSTS + 1)) {
        let seq = next_seq(&mut new, GUARD).await;
        heard.push(seq.expect("the bus hears of conversations again"));
    }
    assert_eq!(heard, (1..=POSTS + 1).collect::<Vec<_>>());
    // And what comes from now on.
    let path = format!("/api/threads/{thread}/messages");
    host.json("POST", &path, json!({ "content": "last" })).await;
    assert_eq!(next_seq(&mut new, GUARD).await, Some(POSTS + 2));
}

/// A carrier that takes nothing for a while.
#[derive(Debug, Default)]
struct Moody {
    inner: MemoryTransport,
    refuses: AtomicBool,
    refused: AtomicUsize,
}

impl Transport for Moody {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn publish(
        &self,
        message: Arc<Message>,
        options: PublishOptions,
    ) -> Completion<Result<Receipt, TransportError>> {
        if self.refuses.load(Ordering::SeqCst) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            let reason = "away for a while".to_owned();
            let transport = "moody";
            return Completion::ready(Err(TransportError::Carrier { transport, reason }));
        }
        self.inner.publish(message, options)
    }

    fn subscribe(
        &self,
        request: Subscribe,
    ) -> BoxFuture<'_, Result<transport::Subscription, TransportError>> {
        self.inner.subscribe(request)
    }

    fn open_inbox(&self) -> Result<Inbox, TransportError> {
        self.inner.open_inbox()
    }

    fn close(&self, drain: Duration) -> BoxFuture<'_, Drained> {
        self.inner.close(drain)
    }
}

#[tokio::test]
async fn the_bus_hears_everything_in_order_after_its_carrier_was_away() {
    let carrier = Arc::new(Moody::default());
    let builder = Bus::builder("test").transport_instance(Arc::<Moody>::clone(&carrier));
    let bus = builder.connect().await.unwrap();
    let host = Host::over(bus, |config, _| config.chat = quiet()).await;
    let thread = host.thread("t").await;
    let mut new = host.bus.subscribe("chat.msg.new").await.unwrap();
    carrier.refuses.store(true, Ordering::SeqCst);
    let path = format!("/api/threads/{thread}/messages");
    for content in ["a", "b", "c"] {
        let posted = host.json("POST", &path, json!({ "content": content }));
        assert_eq!(posted.await.status, 201);
    }
    tokio::time::timeout(GUARD, async {
        while carrier.refused.load(Ordering::SeqCst) < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    carrier.refuses.store(false, Ordering::SeqCst);
    for seq in 1..=3 {
        assert_eq!(next_seq(&mut new, GUARD).await, Some(seq));
    }
}

/// The answer of a post: its status, its number where it was taken, and what it says.
async fn post(host: &Host, thread: &str, content: &str, key: Option<&str>) -> (u16, i64, String) {
    let path = format!("/api/threads/{thread}/messages");
    let headers: Vec<_> = key
        .map(|key| ("idempotency-key", key))
        .into_iter()
        .collect();
    let told = json!({ "content": content });
    let answer = host.json_as("POST", &path, &headers, told).await;
    let seq = answer.body["seq"].as_i64().unwrap_or_default();
    let detail = answer.body["detail"].as_str().unwrap_or_default();
    (answer.status, seq, detail.to_owned())
}

/// The numbers of what is in a thread after a number.
async fn stored(host: &Host, thread: &str, after: i64) -> Vec<i64> {
    let path = format!("/api/threads/{thread}/messages?limit=1000&after_seq={after}");
    let listed = host.get(&path).await;
    assert_eq!(listed.status, 200, "{}", listed.text);
    let listed = listed.body.as_array().unwrap().iter();
    listed.map(|one| one["seq"].as_i64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_another_process_holds_refuses_writes_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let (host, database) = host(directory.path()).await;
    let thread = host.thread("t").await;
    assert_eq!(post(&host, &thread, "before", None).await.0, 201);
    let other = Connection::open(database).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let (status, _, says) = post(&host, &thread, "meanwhile", Some("k")).await;
    assert_eq!(status, 503, "{says}");
    assert!(
        says.contains("another process holds the database"),
        "{says}"
    );
    assert_eq!(stored(&host, &thread, 0).await, [1], "it can be read");
    other.execute_batch("ROLLBACK").unwrap();
    for _ in 0..2 {
        let again = post(&host, &thread, "meanwhile", Some("k")).await;
        assert_eq!((again.0, again.1), (201, 2), "{}", again.2);
    }
    assert_eq!(post(&host, &thread, "after", None).await.1, 3);
    assert_eq!(stored(&host, &thread, 0).await, [1, 2, 3]);
    host.server.shutdown().await;
}

const DIRECTORY: &str = "AGENTBUS_FAULTS_DIRECTORY";

#[test]
#[ignore = "the other tests run it as their child process"]
fn a_child_that_runs_out_of_room() {
    let Ok(directory) = std::env::var(DIRECTORY) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(fill(Path::new(&directory)));
}

/// Posts until the database may not grow, then until it may again.
async fn fill(directory: &Path) {
    let (host, _) = host(directory).await;
    let host = Arc::new(host);
    let thread = host.thread("t").await;
    let mut new = host.bus.subscribe("chat.msg.new").await.unwrap();
    let whole = getrlimit(Resource::Fsize);
    let limit = |bytes| {
        let small = Rlimit {
            current: Some(bytes),
            maximum: whole.maximum,
        };
        setrlimit(Resource::Fsize, small).unwrap();
    };
    let log = std::fs::metadata(directory.join("chat.db-wal")).unwrap();
    let room = log.len() + 1024 * 1024;
    limit(room);
    let mut taken = BTreeSet::new();
    let (status, says) = loop {
        let (status, seq, says) = post(&host, &thread, &"x".repeat(4000), None).await;
        if status != 201 {
            break (status, says);
        }
        taken.insert(seq);
        assert!(taken.len() < 10_000, "the limit has no effect");
    };
    assert_eq!(status, 507, "{says}");
    assert!(says.contains("nothing was stored"), "{says}");
    // Room for some of the small ones, and for none of the large ones.
    limit(room + 300_000);
    taken.extend(crowd(&host, &thread).await);
    setrlimit(Resource::Fsize, whole).unwrap();
    for _ in 0..20 {
        let (status, seq, says) = post(&host, &thread, "room again", None).await;
        assert_eq!(status, 201, "{says}");
        assert!(taken.insert(seq), "{seq} was given twice");
    }
    let last = i64::try_from(taken.len()).unwrap();
    let expected: Vec<_> = (1..=last).collect();
    assert!(taken.into_iter().eq(1..=last), "a number is missing");
    assert_eq!(stored(&host, &thread, 0).await, expected);
    for seq in expected {
        assert_eq!(next_seq(&mut new, GUARD).await, Some(seq));
    }
    let host = Arc::into_inner(host).unwrap();
    host.server.shutdown().await;
    println!("recovered {last}");
}

/// Large posts and small ones at one time, so that they share commits: the numbers of those that
/// were taken.
async fn crowd(host: &Arc<Host>, thread: &str) -> Vec<i64> {
    let posters: Vec<_> = (0..32)
        .map(|n| {
            let (host, thread) = (Arc::clone(host), thread.to_owned());
            let size = if n % 4 == 0 { 700_000 } else { 10 };
            tokio::spawn(async move { post(&host, &thread, &"x".repeat(size), None).await })
        })
        .collect();
    let mut taken = Vec::new();
    for poster in posters {
        let (status, seq, says) = poster.await.unwrap();
        match status {
            201 => taken.push(seq),
            // Its own write failed, or one that was to be stored together with it.
            507 | 503 => assert!(says.contains("nothing was stored"), "{says}"),
            _ => panic!("{status}: {says}"),
        }
    }
    taken
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_without_room_refuses_posts_whole_and_takes_them_again() {
    let directory = tempfile::tempdir().unwrap();
    // Without the trap the system ends a process that writes beyond its limit.
    let mut child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "faults::a_child_that_runs_out_of_room"])
        .args(["--ignored", "--nocapture"])
        .env(DIRECTORY, directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stdout.take().unwrap());
    let mut said = said.lines().map_while(Result::ok);
    let recovered = said.find_map(|line| Some(line.split_once("recovered ")?.1.parse().unwrap()));
    let recovered: i64 = recovered.expect("the child says how much it has stored");
    said.for_each(drop);
    assert!(child.wait().unwrap().success());
    // And it is there for whoever comes next.
    let (host, _) = host(directory.path()).await;
    let threads = host.get("/api/threads").await.body;
    let thread = threads["threads"][0]["id"].as_str().unwrap();
    let all: Vec<_> = (1..=recovered).collect();
    assert_eq!(stored(&host, thread, 0).await, all);
    host.server.shutdown().await;
}

/// Overwrites the beginning of every page that holds a text.
fn damage(database: &Path, text: &str) {
    let mut bytes = std::fs::read(database).unwrap();
    let mut hit = 0;
    for page in bytes.chunks_exact_mut(4096).skip(1) {
        let held = page.windows(text.len()).any(|it| it == text.as_bytes());
        if held {
            page[..64].fill(0xA5);
            hit += 1;
        }
    }
    assert!(hit > 0, "`{text}` is in no page");
    std::fs::write(database, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_page_is_told_and_costs_nothing_else() {
    const POSTS: i64 = 200;
    let directory = tempfile::tempdir().unwrap();
    let (first, database) = host(directory.path()).await;
    let thread = first.thread("t").await;
    for n in 1..=POSTS {
        // Long enough that few share a page.
        let content = format!("number-{n:03} {}", "x".repeat(1500));
        assert_eq!(post(&first, &thread, &content, None).await.1, n);
    }
    first.server.shutdown().await;
    let whole = std::fs::read(&database).unwrap();
    damage(&database, "number-077");

    let (second, _) = host(directory.path()).await;
    let path = format!("/api/threads/{thread}/messages?limit=1000");
    let broken = second.get(&path).await;
    assert_eq!(broken.status, 500, "{}", broken.text);
    let says = broken.body["detail"].as_str().unwrap();
    for part in ["is damaged", "restore the last good copy"] {
        assert!(says.contains(part), "{says}");
    }
    let rest: Vec<_> = (151..=POSTS).collect();
    assert_eq!(stored(&second, &thread, 150).await, rest);
    second.server.shutdown().await;

    // The last good copy.
    std::fs::write(&database, whole).unwrap();
    for end in ["-wal", "-shm"] {
        // Gone already, as a rule.
        let _ = std::fs::remove_file(directory.path().join(format!("chat.db{end}")));
    }
    let (third, _) = host(directory.path()).await;
    let all: Vec<_> = (1..=POSTS).collect();
    assert_eq!(stored(&third, &thread, 0).await, all);
    third.server.shutdown().await;
}
