//! The tables of the log, and what is read from them.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Entry, Kind, LogError, LoggedSession};
use crate::limits::{LOG_PAGE, LOG_PAGE_BYTES};

/// Says which release wrote the file.
const VERSION: i64 = 2;

const TABLES: &str = "
    CREATE TABLE sessions (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        agent TEXT NOT NULL,
        session TEXT NOT NULL,
        agent_session TEXT,
        created_ms INTEGER NOT NULL,
        touched_ms INTEGER NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        bytes INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE entries (
        session INTEGER NOT NULL,
        offset INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        data TEXT NOT NULL,
        PRIMARY KEY (session, offset)
    ) STRICT, WITHOUT ROWID;
";

/// What the second version added: where the sessions of editors work, and whose they are.
const EDITORS: &str = "
    CREATE TABLE editors (
        id TEXT NOT NULL PRIMARY KEY,
        agent TEXT NOT NULL,
        cwd TEXT NOT NULL,
        directories TEXT NOT NULL,
        title TEXT,
        touched_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// Opens the file and makes its tables if they are not there.
pub(super) fn open(path: &Path) -> Result<Connection, LogError> {
    let failed = |source| LogError::Database {
        path: path.to_owned(),
        source,
    };
    // What is said in sessions is for the owner alone; what lies beside the file is like it. A file
    // that cannot be made shows in the next line.
    let private = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path);
    drop(private);
    let mut connection = Connection::open(path).map_err(failed)?;
    let version = prepare(&mut connection).map_err(failed)?;
    match version {
        VERSION => Ok(connection),
        _ => Err(LogError::Newer {
            path: path.to_owned(),
        }),
    }
}

fn prepare(connection: &mut Connection) -> rusqlite::Result<i64> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // Survives the end of the process, and of the system but for its last moments.
    connection.pragma_update(None, "synchronous", "normal")?;
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let version = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version == 0 {
        transaction.execute_batch(TABLES)?;
    }
    if version < VERSION {
        transaction.execute_batch(EDITORS)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()?;
    Ok(VERSION.max(version))
}

fn read_session(row: &Row<'_>) -> rusqlite::Result<LoggedSession> {
    Ok(LoggedSession {
        id: row.get("id")?,
        agent: row.get("agent")?,
        session: row.get("session")?,
        agent_session: row.get("agent_session")?,
        created_ms: row.get("created_ms")?,
        touched_ms: row.get("touched_ms")?,
        first: row.get("first")?,
        last: row.get("last")?,
    })
}

pub(super) fn session(
    connection: &Connection,
    id: &str,
) -> rusqlite::Result<Option<LoggedSession>> {
    let mut found = connection.prepare_cached("SELECT * FROM sessions WHERE id = ?1")?;
    found.query_row([id], read_session).optional()
}

pub(super) fn sessions(connection: &Connection) -> rusqlite::Result<Vec<LoggedSession>> {
    let mut all =
        connection.prepare_cached("SELECT * FROM sessions ORDER BY touched_ms DESC, id")?;
    all.query_map((), read_session)?.collect()
}

/// The entries after an offset, as many as a reader takes at a time.
pub(super) fn page(connection: &Connection, id: &str, after: u64) -> rusqlite::Result<Vec<Entry>> {
    let mut rest = connection.prepare_cached(
        "SELECT offset, kind, data FROM entries
         WHERE session = (SELECT number FROM sessions WHERE id = ?1) AND offset > ?2
         ORDER BY offset LIMIT ?3",
    )?;
    let mut rows = rest.query(params![id, after, LOG_PAGE])?;
    let (mut page, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let number: i64 = row.get(1)?;
        let entry = Entry {
            offset: row.get(0)?,
            kind: Kind::of_number(number)
                .ok_or(rusqlite::Error::IntegralValueOutOfRange(1, number))?,
            data: row.get(2)?,
        };
        bytes += entry.data.len();
        page.push(entry);
        if bytes > LOG_PAGE_BYTES {
            break;
        }
    }
    Ok(page)
}
