//! Sessions that editors opened: where they work, who serves them, what they are called.
//!
//! They stand beside the entries because they exist before the first of those: an editor names a
//! directory when it opens a session, and asks for the sessions of a directory when it comes back.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::writer::now_ms;
use super::{Heads, Key, LogError, SessionLog, schema};
use crate::limits::SESSIONS_KEPT;

/// A session as editors know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EditorSession {
    /// What editors call it.
    pub(crate) id: String,
    /// Who serves it, and what it is called there.
    pub(crate) key: Key,
    pub(crate) cwd: PathBuf,
    pub(crate) directories: Vec<PathBuf>,
    pub(crate) title: Option<String>,
    /// Milliseconds since 1970 of the last change.
    pub(crate) touched_ms: u64,
}

impl SessionLog {
    /// Keeps a session that an editor opened, or what has changed of it.
    pub(crate) async fn keep(&self, session: EditorSession) -> Result<(), LogError> {
        self.order(move |connection, _| keep(connection, &session))
            .await
    }

    /// Names a session that has no name yet.
    pub(crate) async fn name(&self, id: &str, title: String) -> Result<(), LogError> {
        let id = id.to_owned();
        let name = move |connection: &mut Connection, _: &Heads| {
            let mut name = connection
                .prepare_cached("UPDATE editors SET title = ?2 WHERE id = ?1 AND title IS NULL")?;
            name.execute(params![id, title]).map(drop)
        };
        self.order(name).await
    }

    /// Finds a session by what editors call it: its own id, or that of the log for one that was
    /// begun elsewhere.
    pub(crate) async fn editor_session(&self, id: &str) -> Result<Option<EditorSession>, LogError> {
        let id = id.to_owned();
        self.read(move |connection| {
            let mut find = connection.prepare_cached("SELECT * FROM editors WHERE id = ?1")?;
            if let Some(found) = find.query_row([&id], read).optional()? {
                return Ok(Some(found));
            }
            let logged = schema::session(connection, &id)?;
            Ok(logged.map(|session| begun_elsewhere(session.agent, session.session)))
        })
        .await
    }

    /// Every session, the last used first.
    pub(crate) async fn editor_sessions(&self) -> Result<Vec<EditorSession>, LogError> {
        self.read(list).await
    }

    /// Forgets a session and what was said in it; whoever follows it is sent away.
    pub(crate) async fn forget(&self, session: &EditorSession) -> Result<(), LogError> {
        let (id, logged) = (session.id.clone(), session.key.id());
        let forget = move |connection: &mut Connection, heads: &Heads| {
            let transaction = connection.transaction()?;
            for sql in [
                "DELETE FROM entries WHERE session = (SELECT number FROM sessions WHERE id = ?1)",
                "DELETE FROM sessions WHERE id = ?1",
            ] {
                transaction.execute(sql, [&logged])?;
            }
            transaction.execute("DELETE FROM editors WHERE id = ?1", [&id])?;
            transaction.commit()?;
            heads.lock().remove(&logged);
            Ok(())
        };
        self.order(forget).await
    }
}

fn keep(connection: &mut Connection, session: &EditorSession) -> rusqlite::Result<()> {
    let directories = serde_json::to_string(&session.directories)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let transaction = connection.transaction()?;
    transaction.execute(
        "INSERT OR REPLACE INTO editors (id, agent, cwd, directories, title, touched_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            session.id,
            session.key.agent,
            text(&session.cwd),
            directories,
            session.title,
            now_ms()
        ],
    )?;
    // As many as there are sessions in the log; what they said is trimmed there.
    transaction.execute(
        "DELETE FROM editors WHERE id IN
         (SELECT id FROM editors ORDER BY touched_ms DESC, id LIMIT -1 OFFSET ?1)",
        [SESSIONS_KEPT],
    )?;
    transaction.commit()
}

fn list(connection: &Connection) -> rusqlite::Result<Vec<EditorSession>> {
    let mut kept = connection.prepare_cached(
        "SELECT e.id, e.agent, e.cwd, e.directories, e.title,
                max(e.touched_ms, coalesce(s.touched_ms, 0)) AS touched_ms
         FROM editors e LEFT JOIN sessions s ON s.agent = e.agent AND s.session = e.id",
    )?;
    let mut all: Vec<EditorSession> = kept.query_map((), read)?.collect::<Result<_, _>>()?;
    let mut others = connection.prepare_cached(
        "SELECT agent, session, touched_ms FROM sessions
         WHERE session NOT IN (SELECT id FROM editors)",
    )?;
    let others = others.query_map((), |row| {
        let session = begun_elsewhere(row.get(0)?, row.get(1)?);
        let touched_ms = row.get(2)?;
        Ok(EditorSession {
            touched_ms,
            ..session
        })
    })?;
    for other in others {
        all.push(other?);
    }
    all.sort_by(|a, b| (b.touched_ms, &a.id).cmp(&(a.touched_ms, &b.id)));
    Ok(all)
}

fn read(row: &Row<'_>) -> rusqlite::Result<EditorSession> {
    let id: String = row.get("id")?;
    let cwd: String = row.get("cwd")?;
    let directories: String = row.get("directories")?;
    Ok(EditorSession {
        key: Key {
            agent: row.get("agent")?,
            session: id.clone(),
        },
        id,
        cwd: cwd.into(),
        // Written by this program; what cannot be read is none.
        directories: serde_json::from_str(&directories).unwrap_or_default(),
        title: row.get("title")?,
        touched_ms: row.get("touched_ms")?,
    })
}

/// A session that a caller of the bus began: it has no directory of its own.
fn begun_elsewhere(agent: String, session: String) -> EditorSession {
    let title = Some(session.clone());
    let key = Key { agent, session };
    EditorSession {
        id: key.id(),
        key,
        cwd: PathBuf::from("/"),
        directories: Vec::new(),
        title,
        touched_ms: 0,
    }
}

fn text(path: &Path) -> String {
    // Paths come out of JSON, so that they are text.
    path.to_string_lossy().into_owned()
}
