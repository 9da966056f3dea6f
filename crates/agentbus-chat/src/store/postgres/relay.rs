//! How a commit of one node reaches those who wait at another.
//!
//! ```text
//! writer: commit + NOTIFY ──► PostgreSQL ──► listener of every node ──► feed of its node
//!    └──► feed of its own node, at once, unless another node's events come first
//! ```
//!
//! The feed hears every event once and in order. [`Relay`] remembers the last one it told: what
//! this node commits next in order is told directly, and everything else is read from the database
//! by the listener. A notice only says that there is something to read, so one that is lost with its
//! connection costs nothing: whoever listens again reads on from the last event told, and wakes all.
//!
//! The listener's session also holds two locks that PostgreSQL gives back when it ends, however it
//! ends: that this node lives, and, on one node, that it does the work that time brings.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Instant;

use parking_lot::Mutex;
use postgres::Notification;
use postgres::fallible_iterator::FallibleIterator;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::connection::{Connection, Target};
use super::tx::{PgTx, Result};
use crate::store::{Effects, EventRows, Feed, StoreError};
use crate::{EventId, ThreadId, limits};

/// The locks' first key is the number of a table, so that conversations of other schemas in the
/// same database have others.
const LIVE: &str = "SELECT pg_try_advisory_lock_shared('counters'::regclass::oid::int4, $1)";
const LEAD: &str = "SELECT pg_try_advisory_lock('threads'::regclass::oid::int4, 0)";

/// Nodes whose session is there.
pub(super) const LIVING: &str = "(SELECT objid::int8::int4 FROM pg_locks WHERE locktype = 'advisory' \
     AND classid = 'counters'::regclass::oid AND objsubid = 2 AND granted)";

/// What this node has told its feed.
pub(super) struct Relay {
    feed: Arc<Feed>,
    node: i32,
    channel: String,
    told: Mutex<EventId>,
    leads: AtomicBool,
    closing: AtomicBool,
}

impl Relay {
    /// Whether this node does the work that time brings.
    pub(super) fn leads(&self) -> bool {
        self.leads.load(Ordering::Relaxed)
    }

    pub(super) fn node(&self) -> i32 {
        self.node
    }

    /// Tells the other nodes, as part of the commit.
    pub(super) fn announce(&self, tx: &PgTx<'_>, effects: &Effects) -> Result<()> {
        if effects.events.is_empty() && effects.touched.is_empty() {
            return Ok(());
        }
        let mut touched: Vec<&str> = effects.touched.iter().map(ThreadId::as_str).collect();
        touched.sort_unstable();
        touched.dedup();
        let mut notice = json!({ "node": self.node, "touched": touched }).to_string();
        if notice.len() > limits::POSTGRES_NOTICE_BYTES_MAX {
            notice = json!({ "node": self.node, "touched": null }).to_string();
        }
        tx.run("SELECT pg_notify($1, $2)", &[&self.channel, &notice])?;
        Ok(())
    }

    /// Ends the listener of this node, which would otherwise look up only at its next turn.
    pub(super) fn part(&self, connection: &mut Connection) {
        self.closing.store(true, Ordering::Relaxed);
        let notice = json!({ "node": self.node, "touched": [] }).to_string();
        let tx = PgTx::new(connection, self.node);
        if let Err(error) = tx.run("SELECT pg_notify($1, $2)", &[&self.channel, &notice]) {
            tracing::debug!(%error, "the listener ends at its next turn");
        }
    }

    /// Tells of a commit of this node.
    pub(super) fn committed(&self, effects: Effects) {
        let mut told = self.told.lock();
        let first = effects.events.first().map(|event| event.id);
        if first.is_none_or(|first| first == *told + 1) {
            *told = effects.events.last().map_or(*told, |event| event.id);
            return self.feed.committed(effects);
        }
        // Another node's events come first. The listener tells both when it has heard of them.
        self.feed.committed(Effects {
            events: Vec::new(),
            touched: effects.touched,
        });
    }

    /// Tells every event that was committed since the last one told.
    fn catch_up(&self, connection: &mut Connection) -> Result<()> {
        let tx = PgTx::new(connection, self.node);
        let mut told = self.told.lock();
        loop {
            let events = tx.events_after(*told, None, limits::EVENTS_PAGE)?;
            let is_last = events.len() < limits::EVENTS_PAGE;
            *told = events.last().map_or(*told, |event| event.id);
            self.feed.committed(Effects {
                events,
                touched: Vec::new(),
            });
            if is_last {
                return Ok(());
            }
        }
    }

    /// What other nodes say. Our own commits were told by the writer: what has to come before them
    /// is told by a notice that comes before theirs.
    fn others(&self, notice: &Notification) -> Option<Value> {
        let said: Value = serde_json::from_str(notice.payload()).unwrap_or_default();
        (said["node"] != self.node).then_some(said)
    }

    fn wake(&self, said: &Value) {
        match said["touched"].as_array() {
            Some(threads) => self.feed.committed(Effects {
                events: Vec::new(),
                touched: threads
                    .iter()
                    .filter_map(|thread| thread.as_str().map(ThreadId::from))
                    .collect(),
            }),
            None => self.feed.wake_all(),
        }
    }
}

/// The thread that listens.
pub(super) struct Listener {
    pub(super) relay: Arc<Relay>,
    thread: Thread,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Listener {
    /// Becomes a node: from here on nothing that is committed anywhere is missed.
    pub(super) fn start(target: Target, feed: Arc<Feed>) -> Result<Self> {
        let mut connection = Connection::open(&target)?;
        let row = connection.client.query_one(
            "UPDATE counters SET node = node + 1 WHERE id = 1 \
             RETURNING node, 'agentbus_chat_' || 'counters'::regclass::oid",
            &[],
        )?;
        let relay = Relay {
            feed,
            node: row.try_get(0)?,
            channel: row.try_get(1)?,
            told: Mutex::new(0),
            leads: AtomicBool::new(false),
            closing: AtomicBool::new(false),
        };
        attach(&mut connection, &relay)?;
        let newest = "SELECT event FROM counters WHERE id = 1";
        *relay.told.lock() = connection.client.query_one(newest, &[])?.try_get(0)?;
        lead(&mut connection, &relay)?;
        let relay = Arc::new(relay);
        let (end, ended) = oneshot::channel();
        let listening = Arc::clone(&relay);
        let handle = thread::Builder::new()
            .name("chat-listener".to_owned())
            .spawn(move || {
                run(&target, connection, &listening);
                let _ = end.send(());
            })
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        Ok(Self {
            relay,
            thread: handle.thread().clone(),
            ended: Mutex::new(Some(ended)),
        })
    }

    /// Ends the thread, and with its session the node.
    pub(super) async fn close(&self) {
        self.stop();
        let ended = self.ended.lock().take();
        if let Some(ended) = ended {
            let _ = ended.await;
        }
    }

    fn stop(&self) {
        self.relay.closing.store(true, Ordering::Relaxed);
        self.thread.unpark();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Not waited for: it looks at least once in every turn.
        self.stop();
    }
}

fn run(target: &Target, first: Connection, relay: &Relay) {
    let mut connection = Some(first);
    while !relay.closing.load(Ordering::Relaxed) {
        let listened = match connection.take() {
            Some(connection) => listen(connection, relay),
            None => reopen(target, relay).and_then(|connection| listen(connection, relay)),
        };
        relay.leads.store(false, Ordering::Relaxed);
        if let Err(error) = listened {
            tracing::warn!(%error, "nothing is heard of other nodes until PostgreSQL is back");
            thread::park_timeout(limits::POSTGRES_RECONNECT);
        }
    }
}

fn reopen(target: &Target, relay: &Relay) -> Result<Connection> {
    let mut connection = Connection::open(target)?;
    attach(&mut connection, relay)?;
    // Before what was missed is told: whoever leads acts on it.
    lead(&mut connection, relay)?;
    Ok(connection)
}

/// Says that the node lives, and asks to be told.
fn attach(connection: &mut Connection, relay: &Relay) -> Result<()> {
    connection.client.query_one(LIVE, &[&relay.node])?;
    let listen = format!("LISTEN {}", relay.channel);
    Ok(connection.client.batch_execute(&listen)?)
}

fn lead(connection: &mut Connection, relay: &Relay) -> Result<()> {
    // Asking also shows whether the session is still there.
    let sql = if relay.leads() { "SELECT true" } else { LEAD };
    let leads = connection.client.query_one(sql, &[])?.try_get(0)?;
    relay.leads.store(leads, Ordering::Relaxed);
    Ok(())
}

/// Hears notices until the node closes or the session breaks.
fn listen(mut connection: Connection, relay: &Relay) -> Result<()> {
    // What was committed while nobody listened.
    relay.catch_up(&mut connection)?;
    relay.feed.wake_all();
    let mut asked = Instant::now();
    while !relay.closing.load(Ordering::Relaxed) {
        let mut heard = Vec::new();
        {
            let mut notices = connection.client.notifications();
            heard.extend(notices.timeout_iter(limits::POSTGRES_TURN).next()?);
            let mut more = notices.iter();
            while let Some(notice) = more.next()? {
                heard.push(notice);
            }
        }
        // Also while notices keep coming, or a busy node would never take over.
        if heard.is_empty() || asked.elapsed() >= limits::POSTGRES_TURN {
            lead(&mut connection, relay)?;
            asked = Instant::now();
        }
        let others: Vec<Value> = heard.iter().filter_map(|one| relay.others(one)).collect();
        if !others.is_empty() {
            relay.catch_up(&mut connection)?;
            others.iter().for_each(|said| relay.wake(said));
        }
    }
    Ok(())
}
