//! Opening a log: lock, check, load, start.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use agentbus_protocol::{Pattern, Text};
use agentbus_transport::{Message, TransportError, limits as transport_limits};
use rusqlite::Connection;
use tokio::time::Instant;

use crate::consumer::{Consumer, Driver, Identity, policy};
use crate::error::{carrier, damaged, explain};
use crate::group::{End, end_of, lanes};
use crate::ledger::Ledger;
use crate::lock::Lock;
use crate::options::{Clock, Options, millis};
use crate::record::{COLUMNS, Stored};
use crate::schema;
use crate::store::Store;
use crate::writer::Writer;

/// Opens a log and starts its writer and its subscriptions.
pub(crate) async fn open(options: Options) -> Result<(Arc<Store>, JoinHandle<()>), TransportError> {
    let opening = tokio::task::spawn_blocking(move || Opened::open(options));
    let opened = opening.await.map_err(|error| carrier(error.to_string()))?;
    opened?.start()
}

/// A log that is open and not yet in use.
struct Opened {
    options: Options,
    path: PathBuf,
    connection: Connection,
    lock: Lock,
    end: End,
    consumers: Vec<(Identity, Ledger<Arc<Message>>)>,
}

impl Opened {
    fn open(options: Options) -> Result<Self, TransportError> {
        let path = resolve(&options.path)?;
        let lock = Lock::take(&path)?;
        make_private(&path)?;
        let connection = schema::open_writer(&path)?;
        let end = end_of(&path, &connection)?;
        let consumers = Loader {
            path: &path,
            connection: &connection,
            clock: &options.clock,
        };
        let consumers = consumers.load()?;
        Ok(Self {
            options,
            path,
            connection,
            lock,
            end,
            consumers,
        })
    }

    fn start(self) -> Result<(Arc<Store>, JoinHandle<()>), TransportError> {
        let store = Arc::new(Store::new(self.path, self.options.clock, self.end.last));
        for (identity, ledger) in self.consumers {
            let consumer = Consumer::new(identity, ledger, store.over.child_token());
            store.consumers.add(Arc::new(consumer))?;
        }
        let writer = Writer {
            connection: self.connection,
            store: Arc::clone(&store),
            end: self.end,
            retention: self.options.retention,
            lock: self.lock,
        };
        let thread = std::thread::Builder::new()
            .name("agentbus-sqlite".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| carrier(format!("cannot start the writer's thread: {error}")))?;
        for consumer in store.consumers.list() {
            let driver = Driver::new(consumer, Arc::clone(&store));
            store.tasks.spawn(driver.run());
        }
        Ok((store, thread))
    }
}

/// The one name of the file, so that two ways to it meet at one lock.
fn resolve(path: &Path) -> Result<PathBuf, TransportError> {
    if let Ok(path) = path.canonicalize() {
        return Ok(path);
    }
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    let parent = parent.unwrap_or(Path::new("."));
    let name = path.file_name();
    let (Ok(parent), Some(name)) = (parent.canonicalize(), name) else {
        return Err(carrier(format!(
            "cannot open {}: there is no directory {}; make it first",
            path.display(),
            parent.display()
        )));
    };
    Ok(parent.join(name))
}

/// Makes the file, readable by nobody else; SQLite gives its other files the same mode.
fn make_private(path: &Path) -> Result<(), TransportError> {
    if path.exists() {
        return Ok(());
    }
    let made = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path);
    let made = made.map_err(|error| {
        carrier(format!(
            "cannot make {}: {error}; the log needs a directory that this user may write to",
            path.display()
        ))
    });
    made.map(drop)
}

/// Reads the durable subscriptions and what they have not settled.
struct Loader<'a> {
    path: &'a Path,
    connection: &'a Connection,
    clock: &'a Clock,
}

type Row = (Identity, Ledger<Arc<Message>>);

impl Loader<'_> {
    fn load(&self) -> Result<Vec<Row>, TransportError> {
        let mut consumers = self.consumers()?;
        for (row, consumer) in &mut consumers {
            self.restore(*row, &mut consumer.1)
                .map_err(|error| explain(self.path, &error))?;
        }
        Ok(consumers.into_values().collect())
    }

    fn consumers(&self) -> Result<HashMap<i64, Row>, TransportError> {
        let failed = |error| explain(self.path, &error);
        let sql = "SELECT id, name, members, pattern, lane0, lane1, lane2, lane3, lane4, lane5 FROM consumers";
        let mut query = self.connection.prepare(sql).map_err(failed)?;
        let rows = query.query_map((), |row| {
            let (row_id, name): (i64, String) = (row.get(0)?, row.get(1)?);
            let (group, pattern): (Option<String>, String) = (row.get(2)?, row.get(3)?);
            Ok((row_id, name, group, pattern, lanes(row, 4)?))
        });
        let mut consumers = HashMap::new();
        for row in rows.map_err(failed)? {
            let (row, name, group, pattern, cursors) = row.map_err(failed)?;
            let pattern = Pattern::parse(&pattern).map_err(|error| {
                damaged(self.path, &format!("the subscription {name} has {error}"))
            })?;
            let identity = Identity {
                durable: Some((row, Text::from(name))),
                group: group.map(Text::from),
                pattern,
            };
            let ledger = Ledger::new(policy(None, true), cursors);
            consumers.insert(row, (identity, ledger));
        }
        Ok(consumers)
    }

    /// Puts back what was claimed and not settled; its next attempt has the next number.
    fn restore(&self, row: i64, ledger: &mut Ledger<Arc<Message>>) -> Result<(), rusqlite::Error> {
        let sql = format!(
            "SELECT {COLUMNS}, attempt, due_ms FROM unsettled JOIN messages USING (seq)
             WHERE consumer = ?1 ORDER BY seq"
        );
        let mut query = self.connection.prepare(&sql)?;
        let mut rows = query.query([row])?;
        let now_ms = self.clock.now_ms();
        while let Some(row) = rows.next()? {
            let (attempt, due_ms): (u32, Option<i64>) = (row.get(7)?, row.get(8)?);
            let stored = Stored::read(row)?;
            let seq = stored.seq;
            let Some(message) = stored.into_message(now_ms) else {
                tracing::error!(log = %self.path.display(), seq, "a message that was not settled is damaged and left out");
                continue;
            };
            let due = Instant::now() + left(due_ms, now_ms);
            ledger.restore(seq, message.priority.lane(), message, attempt, due);
        }
        Ok(())
    }
}

/// The rest of a delay. A clock that was set back cannot make it longer than delays may be.
fn left(due_ms: Option<i64>, now_ms: i64) -> Duration {
    let left = due_ms.map_or(0, |due| due.saturating_sub(now_ms));
    let most = millis(transport_limits::NAK_DELAY_MAX);
    Duration::from_millis(u64::try_from(left.clamp(0, most)).unwrap_or(0))
}
