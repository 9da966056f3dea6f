//! Rows of events and of the audit.

use std::sync::Arc;

use postgres::Row;

use super::tx::{Param, PgTx, Result, get, limit_or_all, stamp};
use crate::model::{AuditEntry, Event, NewEvent};
use crate::store::EventRows;
use crate::{EventId, Stamp, ThreadId};

fn event(row: &Row) -> Result<Event> {
    let (kind, payload): (String, String) = (get(row, 1)?, get(row, 3)?);
    let thread: Option<String> = get(row, 2)?;
    Ok(Event {
        id: get(row, 0)?,
        kind: kind.into(),
        thread_id: thread.map(Into::into),
        payload: payload.into(),
        created_at: stamp(row, 4)?,
    })
}

impl EventRows for PgTx<'_> {
    fn append_event(&mut self, new: NewEvent, now: Stamp) -> Result<EventId> {
        // The counter is undone with the job, so that no number is lost; a sequence would not be.
        let sql = "WITH next AS (UPDATE counters SET event = event + 1 WHERE id = 1 RETURNING event) \
                   INSERT INTO events (id, kind, thread_id, payload, created_at) \
                   SELECT event, $1, $2, $3, $4 FROM next RETURNING id";
        let payload: Arc<str> = new.payload.to_string().into();
        let thread = new.thread_id.as_ref().map(ThreadId::as_str);
        let params: [Param<'_>; 4] = [&new.kind, &thread, &&*payload, &now.micros()];
        let id = self.value(sql, &params)?;
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
                let sql = "SELECT id, kind, thread_id, payload, created_at FROM events \
                           WHERE thread_id = $2 AND id > $1 ORDER BY id LIMIT $3";
                self.all(sql, &[&after, &thread.as_str(), &limit], event)
            }
            None => {
                let sql = "SELECT id, kind, thread_id, payload, created_at FROM events \
                           WHERE id > $1 ORDER BY id LIMIT $2";
                self.all(sql, &[&after, &limit], event)
            }
        }
    }

    fn event_range(&self) -> Result<(EventId, EventId)> {
        let newest = self.value("SELECT event FROM counters WHERE id = 1", &[])?;
        let oldest: Option<EventId> = self.value("SELECT min(id) FROM events", &[])?;
        Ok((oldest.unwrap_or(newest + 1), newest))
    }

    fn prune_events(&mut self, before: Stamp, limit: usize) -> Result<usize> {
        let sql = "DELETE FROM events WHERE id IN (SELECT id FROM events ORDER BY id LIMIT $2) \
                   AND created_at < $1";
        self.run(sql, &[&before.micros(), &limit_or_all(limit)])
    }

    fn wake(&mut self, thread: &ThreadId) {
        self.effects.touched.push(thread.clone());
    }

    fn audit(&mut self, entry: &AuditEntry) -> Result<()> {
        let sql = "INSERT INTO audit (at, actor, action, thread_id, subject) \
                   VALUES ($1, $2, $3, $4, $5)";
        let params: [Param<'_>; 5] = [
            &entry.at.micros(),
            &entry.actor,
            &entry.action,
            &entry.thread_id.as_ref().map(ThreadId::as_str),
            &entry.subject,
        ];
        self.run(sql, &params)?;
        Ok(())
    }

    fn count_audit(&self, action: &str, subject: &str) -> Result<usize> {
        let sql = "SELECT count(*) FROM audit WHERE action = $1 AND subject = $2";
        self.count(sql, &[&action, &subject])
    }
}
