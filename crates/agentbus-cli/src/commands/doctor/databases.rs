//! The databases of a bus, opened so that nothing beside them is made or changed.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::Check;
use super::locks::{beside, holder, in_use};
use crate::commands::escaped;
use crate::config::Config;

/// Largest file whose pages are all read; of a larger one the beginning and the tables are.
const READ_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How long another process may keep a database to itself before it is left alone.
const BUSY: Duration = Duration::from_secs(1);

pub(super) fn checks(config: &Config, data_dir: &Path) -> Vec<Check> {
    let conversations = match &config.chat_store {
        Some(url) => file_of(url),
        None => {
            let named = config.chat_database.clone();
            Some(named.unwrap_or_else(|| data_dir.join("chat.db")))
        }
    };
    let all = [
        ("conversations", conversations),
        ("sessions", Some(data_dir.join("sessions.db"))),
        ("log", file_of(&config.transport)),
    ];
    all.into_iter()
        .filter_map(|(name, path)| Some(check(name, &path?)))
        .collect()
}

/// The file that a `sqlite://` URL names.
pub(super) fn file_of(url: &str) -> Option<PathBuf> {
    let place = url.strip_prefix("sqlite://")?;
    let (path, _) = place.split_once('?').unwrap_or((place, ""));
    Some(path.into())
}

fn check(name: &str, path: &Path) -> Check {
    let (check, place) = (format!("database of the {name}"), path.display());
    let size = match fs::metadata(path) {
        Ok(found) if found.is_file() => found.len(),
        Ok(_) => {
            let detail = format!("{place} is no file");
            return Check::wrong(check, detail, "move it away, or name another");
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let detail = format!("{place} is not there yet, and is made when it is needed");
            return Check::ok(check, detail);
        }
        Err(error) => {
            let detail = format!("{place} cannot be looked at: {error}");
            return Check::wrong(check, detail, "let this user read it");
        }
    };
    // Asked first: what is opened below is locked by this very process.
    let user = in_use(user(path));
    match look(path, size) {
        Ok(None) => {
            let read = match size > READ_BYTES_MAX {
                true => "too large to read all of it here",
                false => "whole",
            };
            let kib = size.div_ceil(1024);
            Check::ok(check, format!("{place}, {kib} KiB, {read}{user}"))
        }
        Ok(Some(damage)) => damaged(check, &format!("{place} is damaged: {damage}{user}")),
        Err(error) => failed(check, path, &error),
    }
}

/// Who has a database open: a log has its lock beside it, the others hold those of SQLite.
fn user(path: &Path) -> Option<u32> {
    let files = [beside(path, "-lock"), path.to_owned(), beside(path, "-shm")];
    files.iter().find_map(|file| holder(file))
}

/// Reads a database and says what is damaged in it.
fn look(path: &Path, size: u64) -> rusqlite::Result<Option<String>> {
    let connection = open(path)?;
    connection.busy_timeout(BUSY)?;
    // A damaged cell must be found before it is followed.
    connection.pragma_update(None, "cell_size_check", true)?;
    let count = "SELECT count(*) FROM sqlite_schema";
    connection.query_row(count, (), |row| row.get::<_, i64>(0))?;
    if size > READ_BYTES_MAX {
        return Ok(None);
    }
    let found: String = connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
    let first = found.lines().next().unwrap_or("unreadable");
    Ok((found != "ok").then(|| first.to_owned()))
}

/// Opens a database to read it. Where no process has left a log beside it, it is opened as one that
/// nobody changes, because SQLite would make that log to read.
fn open(path: &Path) -> rusqlite::Result<Connection> {
    let how = match beside(path, "-wal").exists() {
        true => "mode=ro",
        false => "immutable=1",
    };
    let url = format!("file:{}?{how}", escaped(&path.to_string_lossy()));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(url, flags)
}

fn damaged(check: String, detail: &str) -> Check {
    let hint = "stop the bus, keep a copy, and take back a backup or let `sqlite3 FILE .recover` save what it can";
    Check::wrong(check, detail, hint)
}

fn failed(check: String, path: &Path, error: &rusqlite::Error) -> Check {
    let place = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            let detail = format!("{place} is no SQLite database");
            Check::wrong(check, detail, "move it away, or name another")
        }
        Some(ErrorCode::DatabaseCorrupt) => damaged(check, &format!("{place} is damaged: {error}")),
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            let detail = format!("{place} cannot be opened: {error}");
            Check::wrong(check, detail, "let this user read it")
        }
        _ => {
            let detail = format!("{place} was not looked at: {error}");
            Check::warning(
                check,
                detail,
                "try again when the bus does less, or stop it first",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::State;

    #[test]
    fn a_file_is_read_from_its_url() {
        assert_eq!(
            file_of("sqlite://a/b.db?retain_age=7d"),
            Some("a/b.db".into())
        );
        assert_eq!(file_of("memory://"), None);
    }

    #[test]
    fn looking_leaves_nothing_behind_and_finds_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("100% a?.db");
        let made = Connection::open(&path).unwrap();
        made.execute_batch(
            "PRAGMA journal_mode = WAL; CREATE TABLE t (a); CREATE INDEX i ON t (a)",
        )
        .unwrap();
        let fill = "WITH RECURSIVE n (a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM n WHERE a < 5000)
                    INSERT INTO t SELECT a FROM n";
        made.execute_batch(fill).unwrap();
        assert_eq!(check("log", &path).state, State::Ok, "while it is open");
        made.close().unwrap();
        let found = check("log", &path);
        assert_eq!(found.state, State::Ok, "{found:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);

        let mut bytes = fs::read(&path).unwrap();
        let end = bytes.len();
        bytes[4096 * 2..end].fill(0xff);
        fs::write(&path, &bytes).unwrap();
        let found = check("log", &path);
        assert_eq!(found.state, State::Wrong, "{found:?}");
        assert!(found.detail.contains("is damaged"), "{found:?}");
        fs::write(&path, "this is a text and no database".repeat(40)).unwrap();
        let found = check("log", &path);
        assert!(found.detail.contains("is no SQLite database"), "{found:?}");
    }
}
