//! The tables, their version, and what is checked before the log is used.

use std::path::Path;

use agentbus_transport::TransportError;
use rusqlite::{Connection, OpenFlags};

use crate::error::{carrier, damaged, explain};
use crate::limits;

/// Marks the file as ours: "AgBu".
const APPLICATION: i64 = 0x4167_4275;

/// The steps from each version of the tables to the next; a new one is added at the end and none
/// is ever changed. The version of a file is the number of steps that were taken on it.
const STEPS: [&str; 2] = [
    "
    CREATE TABLE messages (
        seq        INTEGER PRIMARY KEY,
        at_ms      INTEGER NOT NULL,
        priority   INTEGER NOT NULL,
        expires_ms INTEGER,
        checksum   INTEGER NOT NULL,
        subject    TEXT    NOT NULL,
        envelope   BLOB    NOT NULL
    ) STRICT;
    -- Nearly all messages have normal priority; they are found by their number alone.
    CREATE INDEX lanes ON messages (priority, seq) WHERE priority <> 5;
    CREATE TABLE keys (
        key   TEXT PRIMARY KEY,
        seq   INTEGER NOT NULL,
        at_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX keys_by_age ON keys (at_ms);
    -- What each durable subscription has seen of each lane, the highest priority first.
    CREATE TABLE consumers (
        id      INTEGER PRIMARY KEY,
        name    TEXT NOT NULL UNIQUE,
        members TEXT,
        pattern TEXT NOT NULL,
        lane0   INTEGER NOT NULL,
        lane1   INTEGER NOT NULL,
        lane2   INTEGER NOT NULL,
        lane3   INTEGER NOT NULL,
        lane4   INTEGER NOT NULL,
        lane5   INTEGER NOT NULL
    ) STRICT;
    -- Of what it has seen, what it has not settled, and how many attempts have begun.
    CREATE TABLE unsettled (
        consumer INTEGER NOT NULL,
        seq      INTEGER NOT NULL,
        attempt  INTEGER NOT NULL,
        due_ms   INTEGER,
        PRIMARY KEY (consumer, seq)
    ) STRICT, WITHOUT ROWID;
",
    // Dead letters are few and read at each start; without it that is a walk through the whole log.
    "
    CREATE INDEX letters ON messages (priority, seq) WHERE instr(subject, '.dlq.') > 0;
",
];

/// What every subject in the index `letters` has in it.
pub(crate) const LETTERS: &str = ".dlq.";

/// Opens the connection that writes, makes or brings up to date the tables, and checks the file.
pub(crate) fn open_writer(path: &Path) -> Result<Connection, TransportError> {
    let failed = |error| explain(path, &error);
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    check_owner(path, &connection)?;
    check_pages(path, &connection)?;
    set_up(&connection).map_err(failed)?;
    upgrade(path, &mut connection)?;
    Ok(connection)
}

/// Opens a connection that only reads.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, rusqlite::Error> {
    connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

fn connect(path: &Path, mode: OpenFlags) -> Result<Connection, rusqlite::Error> {
    let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(limits::BUSY_TIMEOUT)?;
    // A damaged cell must be found before it is followed.
    connection.pragma_update(None, "cell_size_check", true)?;
    Ok(connection)
}

fn set_up(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.pragma_update(None, "journal_mode", "wal")?;
    // An acknowledged publish is on the disk: each commit is synced.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "journal_size_limit", limits::WAL_BYTES)?;
    Ok(())
}

/// Refuses a file that is somebody else's.
fn check_owner(path: &Path, connection: &Connection) -> Result<(), TransportError> {
    let failed = |error| explain(path, &error);
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let owner = number("application_id").map_err(failed)?;
    let tables = number("schema_version").map_err(failed)?;
    if owner == APPLICATION || (owner == 0 && tables == 0) {
        return Ok(());
    }
    Err(TransportError::Address(format!(
        "{} is the database of another program; name another file",
        path.display()
    )))
}

fn check_pages(path: &Path, connection: &Connection) -> Result<(), TransportError> {
    let size = std::fs::metadata(path).map_or(0, |file| file.len());
    if size > limits::CHECKED_BYTES_MAX {
        return Ok(());
    }
    let found = connection.pragma_query_value(None, "quick_check", |row| row.get::<_, String>(0));
    match found {
        Ok(found) if found == "ok" => Ok(()),
        Ok(found) => Err(damaged(path, found.lines().next().unwrap_or("unreadable"))),
        Err(error) => Err(explain(path, &error)),
    }
}

fn upgrade(path: &Path, connection: &mut Connection) -> Result<(), TransportError> {
    let failed = |error| explain(path, &error);
    let version = connection
        .pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))
        .map_err(failed)?;
    let taken = usize::try_from(version).unwrap_or(usize::MAX);
    let Some(steps) = STEPS.get(taken..) else {
        return Err(carrier(format!(
            "{} was written by a newer AgentBus (tables of version {version}, this one knows {}); update AgentBus, or name another file",
            path.display(),
            STEPS.len()
        )));
    };
    for (number, step) in (taken + 1..).zip(steps) {
        let transaction = connection.transaction().map_err(failed)?;
        transaction
            .execute_batch(step)
            .and_then(|()| transaction.pragma_update(None, "application_id", APPLICATION))
            .and_then(|()| transaction.pragma_update(None, "user_version", number))
            .and_then(|()| transaction.commit())
            .map_err(failed)?;
    }
    Ok(())
}
