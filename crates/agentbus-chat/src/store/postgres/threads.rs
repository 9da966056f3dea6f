//! Rows of threads and their settings.

use postgres::Row;

use super::tx::{
    Param, PgTx, Result, get, json, json_text, limit_or_all, maybe_stamp, micros, stamp,
};
use crate::model::{Assigned, Thread, ThreadQuery, ThreadSettings, ThreadState};
use crate::store::ThreadRows;
use crate::{Stamp, TemplateId, ThreadId};

macro_rules! columns {
    () => {
        "t.id, t.topic, t.status, t.created_at, t.updated_at, t.closed_at, t.summary, t.metadata, \
         t.system_prompt, t.template_id, t.workspace"
    };
}

/// Which threads a query means, apart from cursor and limit.
macro_rules! wanted {
    () => {
        "($1::text IS NULL OR t.status = $1) \
         AND ($2 OR $1 IS NOT NULL OR t.status <> 'archived')"
    };
}

fn thread(row: &Row) -> Result<Thread> {
    let status: String = get(row, 2)?;
    let template: Option<String> = get(row, 9)?;
    Ok(Thread {
        id: ThreadId::new(get::<String>(row, 0)?),
        topic: get(row, 1)?,
        status: ThreadState::parse(&status).unwrap_or(ThreadState::Discuss),
        created_at: stamp(row, 3)?,
        updated_at: maybe_stamp(row, 4)?,
        closed_at: maybe_stamp(row, 5)?,
        summary: get(row, 6)?,
        metadata: json(row, 7)?,
        system_prompt: get(row, 8)?,
        template_id: template.map(Into::into),
        workspace: get(row, 10)?,
    })
}

fn assigned(row: &Row, at: usize) -> Result<Option<Assigned>> {
    let id: Option<String> = get(row, at)?;
    let Some(id) = id else { return Ok(None) };
    Ok(Some(Assigned {
        id: id.into(),
        name: get(row, at + 1)?,
        at: maybe_stamp(row, at + 2)?,
    }))
}

fn settings(row: &Row) -> Result<ThreadSettings> {
    Ok(ThreadSettings {
        thread_id: ThreadId::new(get::<String>(row, 0)?),
        auto_administrator_enabled: get(row, 1)?,
        timeout_seconds: get(row, 2)?,
        switch_timeout_seconds: get(row, 3)?,
        last_activity_time: maybe_stamp(row, 4)?,
        assigned: assigned(row, 5)?,
        creator: assigned(row, 8)?,
        created_at: stamp(row, 11)?,
        updated_at: stamp(row, 12)?,
    })
}

/// Everything that belongs to a thread, what points to something before that.
const BELONGINGS: [&str; 10] = [
    "DELETE FROM reactions WHERE message_id IN (SELECT id FROM messages WHERE thread_id = $1)",
    "DELETE FROM message_edits WHERE message_id IN (SELECT id FROM messages WHERE thread_id = $1)",
    "DELETE FROM reply_tokens WHERE thread_id = $1",
    "DELETE FROM thread_settings WHERE thread_id = $1",
    "DELETE FROM waits WHERE thread_id = $1",
    "DELETE FROM refreshes WHERE thread_id = $1",
    "DELETE FROM wait_runs WHERE thread_id = $1",
    "DELETE FROM participants WHERE thread_id = $1",
    "DELETE FROM events WHERE thread_id = $1",
    "DELETE FROM messages WHERE thread_id = $1",
];

impl ThreadRows for PgTx<'_> {
    fn thread(&self, id: &ThreadId) -> Result<Option<Thread>> {
        let sql = concat!("SELECT ", columns!(), " FROM threads AS t WHERE t.id = $1");
        self.one(sql, &[&id.as_str()], thread)
    }

    fn thread_by_topic(&self, topic: &str) -> Result<Option<Thread>> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM threads AS t WHERE t.topic = $1"
        );
        self.one(sql, &[&topic], thread)
    }

    fn threads(&self, query: &ThreadQuery) -> Result<Vec<Thread>> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM threads AS t WHERE ",
            wanted!(),
            " AND ($3::int8 IS NULL OR t.created_at < $3 OR (t.created_at = $3 AND t.id < $4)) \
             ORDER BY t.created_at DESC, t.id DESC LIMIT $5"
        );
        let (before, id) = match &query.before {
            Some((before, id)) => (Some(before.micros()), id.as_ref().map(ThreadId::as_str)),
            None => (None, None),
        };
        let params: [Param<'_>; 5] = [
            &query.status,
            &query.include_archived,
            &before,
            &id,
            &limit_or_all(query.limit),
        ];
        self.all(sql, &params, thread)
    }

    fn count_threads(&self, query: &ThreadQuery) -> Result<usize> {
        let sql = concat!("SELECT count(*) FROM threads AS t WHERE ", wanted!());
        self.count(sql, &[&query.status, &query.include_archived])
    }

    fn silent_threads(&self, cutoff: Stamp) -> Result<Vec<(Thread, Stamp)>> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            ", l.at FROM threads AS t, LATERAL (SELECT coalesce((SELECT m.created_at \
                FROM messages AS m WHERE m.thread_id = t.id ORDER BY m.seq DESC LIMIT 1), \
                t.created_at) AS at) AS l \
             WHERE t.status = 'discuss' AND l.at < $1"
        );
        self.all(sql, &[&cutoff.micros()], |row| {
            Ok((thread(row)?, stamp(row, 11)?))
        })
    }

    fn insert_thread(&mut self, thread: &Thread) -> Result<()> {
        let sql = "INSERT INTO threads (id, topic, status, created_at, updated_at, closed_at, \
                   summary, metadata, system_prompt, template_id, workspace) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
        self.put_thread(sql, thread)
    }

    fn update_thread(&mut self, thread: &Thread) -> Result<()> {
        let sql = "UPDATE threads SET topic = $2, status = $3, created_at = $4, updated_at = $5, \
                   closed_at = $6, summary = $7, metadata = $8, system_prompt = $9, \
                   template_id = $10, workspace = $11 WHERE id = $1";
        self.put_thread(sql, thread)
    }

    fn touch_thread(&mut self, id: &ThreadId, now: Stamp) -> Result<()> {
        let sql = "WITH settings AS (UPDATE thread_settings SET last_activity_time = $2 \
                   WHERE thread_id = $1) UPDATE threads SET updated_at = $2 WHERE id = $1";
        self.run(sql, &[&id.as_str(), &now.micros()])?;
        Ok(())
    }

    fn delete_thread(&mut self, id: &ThreadId) -> Result<usize> {
        let mut removed = 0;
        for sql in BELONGINGS {
            removed = self.run(sql, &[&id.as_str()])?;
        }
        self.run("DELETE FROM threads WHERE id = $1", &[&id.as_str()])?;
        // Messages come last in the list, so this is their number.
        Ok(removed)
    }

    fn settings(&self, id: &ThreadId) -> Result<Option<ThreadSettings>> {
        let sql = "SELECT thread_id, auto_administrator, timeout_s, switch_timeout_s, \
                   last_activity_time, assigned_id, assigned_name, assigned_at, creator_id, \
                   creator_name, creator_at, created_at, updated_at \
                   FROM thread_settings WHERE thread_id = $1";
        self.one(sql, &[&id.as_str()], settings)
    }

    fn put_settings(&mut self, new: &ThreadSettings) -> Result<()> {
        let sql = "INSERT INTO thread_settings (thread_id, auto_administrator, timeout_s, \
            switch_timeout_s, last_activity_time, assigned_id, assigned_name, assigned_at, \
            creator_id, creator_name, creator_at, created_at, updated_at) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
            ON CONFLICT (thread_id) DO UPDATE SET auto_administrator = $2, timeout_s = $3, \
            switch_timeout_s = $4, last_activity_time = $5, assigned_id = $6, assigned_name = $7, \
            assigned_at = $8, creator_id = $9, creator_name = $10, creator_at = $11, \
            created_at = $12, updated_at = $13";
        let parts = |who: &Option<Assigned>| {
            let id = who.as_ref().map(|who| who.id.as_str().to_owned());
            let name = who.as_ref().and_then(|who| who.name.clone());
            (id, name, micros(who.as_ref().and_then(|who| who.at)))
        };
        let (assigned, creator) = (parts(&new.assigned), parts(&new.creator));
        let params: [Param<'_>; 13] = [
            &new.thread_id.as_str(),
            &new.auto_administrator_enabled,
            &new.timeout_seconds,
            &new.switch_timeout_seconds,
            &micros(new.last_activity_time),
            &assigned.0,
            &assigned.1,
            &assigned.2,
            &creator.0,
            &creator.1,
            &creator.2,
            &new.created_at.micros(),
            &new.updated_at.micros(),
        ];
        self.run(sql, &params)?;
        Ok(())
    }
}

impl PgTx<'_> {
    fn put_thread(&self, sql: &str, thread: &Thread) -> Result<()> {
        let params: [Param<'_>; 11] = [
            &thread.id.as_str(),
            &thread.topic,
            &thread.status.as_str(),
            &thread.created_at.micros(),
            &micros(thread.updated_at),
            &micros(thread.closed_at),
            &thread.summary,
            &json_text(thread.metadata.as_ref()),
            &thread.system_prompt,
            &thread.template_id.as_ref().map(TemplateId::as_str),
            &thread.workspace,
        ];
        self.run(sql, &params)?;
        Ok(())
    }
}
