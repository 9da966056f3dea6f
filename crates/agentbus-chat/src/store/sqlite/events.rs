//! Rows of events and of the audit.

use std::sync::Arc;

use rusqlite::{Row, params};

use super::tx::{Result, RowResult, SqliteTx, count, limit_or_all, stamp};
use crate::model::{AuditEntry, Event, NewEvent};
use crate::store::EventRows;
use crate::{EventId, Stamp, ThreadId};

fn event(row: &Row<'_>) -> RowResult<Event> {
    let (kind, payload): (String, String) = (row.get(1)?, row.get(3)?);
    let thread: Option<String> = row.get(2)?;
    Ok(Event {
        id: row.get(0)?,
        kind: kind.into(),
        thread_id: thread.map(Into::into),
        payload: payload.into(),
        created_at: stamp(row, 4)?,
    })
}

impl EventRows for SqliteTx<'_> {
    fn append_event(&mut self, new: NewEvent, now: Stamp) -> Result<EventId> {
        let sql = "INSERT INTO events (event_type, thread_id, payload, created_at) \
                   VALUES (?1, ?2, ?3, ?4)";
        let payload: Arc<str> = new.payload.to_string().into();
        let thread = new.thread_id.as_ref().map(ThreadId::as_str);
        self.run(sql, params![new.kind, thread, &*payload, now.to_string()])?;
        let id = self.connection.last_insert_rowid();
        self.effects.events.push(Event {
            id,
            kind: new.kind.into(),
            thread_id: new.thread_id,
            payload,
            created_at: now,
        });
        Ok(id)
    }

    fn events_after(
        &self,
        after: EventId,
        thread: Option<&ThreadId>,
        limit: usize,
    ) -> Result<Vec<Event>> {
        let limit = limit_or_all(limit);
        match thread {
            Some(thread) => {
                let sql = "SELECT id, event_type, thread_id, payload, created_at FROM events \
                           WHERE thread_id = ?2 AND id > ?1 ORDER BY id LIMIT ?3";
                self.all(sql, (after, thread.as_str(), limit), event)
            }
            None => {
                let sql = "SELECT id, event_type, thread_id, payload, created_at FROM events \
                           WHERE id > ?1 ORDER BY id LIMIT ?2";
                self.all(sql, (after, limit), event)
            }
        }
    }

    fn event_range(&self) -> Result<(EventId, EventId)> {
        let newest = self.value("SELECT seq FROM sqlite_sequence WHERE name = 'events'", [])?;
        let oldest: Option<EventId> = self.value("SELECT min(id) FROM events", [])?;
        Ok((oldest.unwrap_or(newest + 1), newest))
    }

    fn prune_events(&mut self, before: Stamp, limit: usize) -> Result<usize> {
        let sql = "DELETE FROM events WHERE id IN (SELECT id FROM events ORDER BY id LIMIT ?2) \
                   AND created_at < ?1";
        self.run(sql, (before.to_string(), limit_or_all(limit)))
    }

    fn wake(&mut self, thread: &ThreadId) {
        self.effects.touched.push(thread.clone());
    }

    fn audit(&mut self, entry: &AuditEntry) -> Result<()> {
        let sql = "INSERT INTO audit (at, actor, action, thread_id, subject) \
                   VALUES (?1, ?2, ?3, ?4, ?5)";
        let thread = entry.thread_id.as_ref().map(ThreadId::as_str);
        let at = entry.at.to_string();
        self.run(
            sql,
            (at, &entry.actor, entry.action, thread, &entry.subject),
        )?;
        Ok(())
    }

    fn count_audit(&self, action: &str, subject: &str) -> Result<usize> {
        let sql = "SELECT count(*) FROM audit WHERE action = ?1 AND subject = ?2";
        Ok(count(self.value(sql, [action, subject])?))
    }
}
