//! Rows of threads and their settings.

use rusqlite::{Row, named_params, params};

use super::tx::{
    Result, RowResult, SqliteTx, count, json, json_text, limit_or_all, maybe_stamp, stamp,
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
        "(:status IS NULL OR t.status = :status) \
         AND (:archived OR :status IS NOT NULL OR t.status <> 'archived')"
    };
}

fn thread(row: &Row<'_>) -> RowResult<Thread> {
    let status: String = row.get(2)?;
    let template: Option<String> = row.get(9)?;
    Ok(Thread {
        id: ThreadId::new(row.get::<_, String>(0)?),
        topic: row.get(1)?,
        status: ThreadState::parse(&status).unwrap_or(ThreadState::Discuss),
        created_at: stamp(row, 3)?,
        updated_at: maybe_stamp(row, 4)?,
        closed_at: maybe_stamp(row, 5)?,
        summary: row.get(6)?,
        metadata: json(row, 7)?,
        system_prompt: row.get(8)?,
        template_id: template.map(Into::into),
        workspace: row.get(10)?,
    })
}

fn assigned(row: &Row<'_>, at: usize) -> RowResult<Option<Assigned>> {
    let id: Option<String> = row.get(at)?;
    let Some(id) = id else { return Ok(None) };
    Ok(Some(Assigned {
        id: id.into(),
        name: row.get(at + 1)?,
        at: maybe_stamp(row, at + 2)?,
    }))
}

fn settings(row: &Row<'_>) -> RowResult<ThreadSettings> {
    Ok(ThreadSettings {
        thread_id: ThreadId::new(row.get::<_, String>(0)?),
        auto_administrator_enabled: row.get(1)?,
        timeout_seconds: row.get(2)?,
        switch_timeout_seconds: row.get(3)?,
        last_activity_time: maybe_stamp(row, 4)?,
        assigned: assigned(row, 5)?,
        creator: assigned(row, 8)?,
        created_at: stamp(row, 11)?,
        updated_at: stamp(row, 12)?,
    })
}

/// Everything that belongs to a thread, what points to something before that.
const BELONGINGS: [&str; 10] = [
    "DELETE FROM reactions WHERE message_id IN (SELECT id FROM messages WHERE thread_id = ?1)",
    "DELETE FROM message_edits WHERE message_id IN (SELECT id FROM messages WHERE thread_id = ?1)",
    "DELETE FROM reply_tokens WHERE thread_id = ?1",
    "DELETE FROM thread_settings WHERE thread_id = ?1",
    "DELETE FROM thread_wait_states WHERE thread_id = ?1",
    "DELETE FROM msg_wait_refresh_requests WHERE thread_id = ?1",
    "DELETE FROM wait_runs WHERE thread_id = ?1",
    "DELETE FROM participants WHERE thread_id = ?1",
    "DELETE FROM events WHERE thread_id = ?1",
    "DELETE FROM messages WHERE thread_id = ?1",
];

impl ThreadRows for SqliteTx<'_> {
    fn thread(&self, id: &ThreadId) -> Result<Option<Thread>> {
        let sql = concat!("SELECT ", columns!(), " FROM threads AS t WHERE t.id = ?1");
        self.one(sql, [id.as_str()], thread)
    }

    fn thread_by_topic(&self, topic: &str) -> Result<Option<Thread>> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM threads AS t WHERE t.topic = ?1"
        );
        self.one(sql, [topic], thread)
    }

    fn threads(&self, query: &ThreadQuery) -> Result<Vec<Thread>> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM threads AS t WHERE ",
            wanted!(),
            " AND (:before IS NULL OR t.created_at < :before \
                OR (t.created_at = :before AND t.id < :id)) \
             ORDER BY t.created_at DESC, t.id DESC LIMIT :limit"
        );
        let (before, id) = match &query.before {
            Some((before, id)) => (Some(before.to_string()), id.as_ref().map(ThreadId::as_str)),
            None => (None, None),
        };
        let params = named_params! {
            ":status": query.status, ":archived": query.include_archived,
            ":before": before, ":id": id, ":limit": limit_or_all(query.limit),
        };
        self.all(sql, params, thread)
    }

    fn count_threads(&self, query: &ThreadQuery) -> Result<usize> {
        let sql = concat!("SELECT count(*) FROM threads AS t WHERE ", wanted!());
        let params = named_params! {
            ":status": query.status, ":archived": query.include_archived,
        };
        Ok(count(self.value(sql, params)?))
    }

    fn silent_threads(&self, cutoff: Stamp) -> Result<Vec<(Thread, Stamp)>> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            ", coalesce((SELECT m.created_at FROM messages AS m WHERE m.thread_id = t.id \
                ORDER BY m.seq DESC LIMIT 1), t.created_at) AS last \
             FROM threads AS t WHERE t.status = 'discuss' AND last < ?1"
        );
        self.all(sql, [cutoff.to_string()], |row| {
            Ok((thread(row)?, stamp(row, 11)?))
        })
    }

    fn insert_thread(&mut self, thread: &Thread) -> Result<()> {
        let sql = "INSERT INTO threads (id, topic, status, created_at, updated_at, closed_at, \
                   summary, metadata, system_prompt, template_id, workspace) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
        self.put_thread(sql, thread)
    }

    fn update_thread(&mut self, thread: &Thread) -> Result<()> {
        let sql = "UPDATE threads SET topic = ?2, status = ?3, created_at = ?4, updated_at = ?5, \
                   closed_at = ?6, summary = ?7, metadata = ?8, system_prompt = ?9, \
                   template_id = ?10, workspace = ?11 WHERE id = ?1";
        self.put_thread(sql, thread)
    }

    fn touch_thread(&mut self, id: &ThreadId, now: Stamp) -> Result<()> {
        let params = [id.as_str(), &now.to_string()];
        self.run("UPDATE threads SET updated_at = ?2 WHERE id = ?1", params)?;
        let sql = "UPDATE thread_settings SET last_activity_time = ?2 WHERE thread_id = ?1";
        self.run(sql, params)?;
        Ok(())
    }

    fn delete_thread(&mut self, id: &ThreadId) -> Result<usize> {
        self.unindex(id)?;
        let mut removed = 0;
        for sql in BELONGINGS {
            removed = self.run(sql, [id.as_str()])?;
        }
        self.run("DELETE FROM threads WHERE id = ?1", [id.as_str()])?;
        // Messages come last in the list, so this is their number.
        Ok(removed)
    }

    fn settings(&self, id: &ThreadId) -> Result<Option<ThreadSettings>> {
        let sql = "SELECT thread_id, auto_administrator_enabled, timeout_seconds, \
                   switch_timeout_seconds, last_activity_time, auto_assigned_admin_id, \
                   auto_assigned_admin_name, admin_assignment_time, creator_admin_id, \
                   creator_admin_name, creator_assignment_time, created_at, updated_at \
                   FROM thread_settings WHERE thread_id = ?1";
        self.one(sql, [id.as_str()], settings)
    }

    fn put_settings(&mut self, new: &ThreadSettings) -> Result<()> {
        let sql = "INSERT INTO thread_settings (thread_id, auto_administrator_enabled, \
            timeout_seconds, switch_timeout_seconds, last_activity_time, auto_assigned_admin_id, \
            auto_assigned_admin_name, admin_assignment_time, creator_admin_id, creator_admin_name, \
            creator_assignment_time, created_at, updated_at) \
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) \
            ON CONFLICT (thread_id) DO UPDATE SET auto_administrator_enabled = ?2, \
            timeout_seconds = ?3, switch_timeout_seconds = ?4, last_activity_time = ?5, \
            auto_assigned_admin_id = ?6, auto_assigned_admin_name = ?7, \
            admin_assignment_time = ?8, creator_admin_id = ?9, creator_admin_name = ?10, \
            creator_assignment_time = ?11, created_at = ?12, updated_at = ?13";
        let (assigned, creator) = (new.assigned.as_ref(), new.creator.as_ref());
        let text = |at: Option<Stamp>| at.map(|at| at.to_string());
        self.run(
            sql,
            params![
                new.thread_id.as_str(),
                new.auto_administrator_enabled,
                new.timeout_seconds,
                new.switch_timeout_seconds,
                text(new.last_activity_time),
                assigned.map(|who| who.id.as_str()),
                assigned.and_then(|who| who.name.as_deref()),
                text(assigned.and_then(|who| who.at)),
                creator.map(|who| who.id.as_str()),
                creator.and_then(|who| who.name.as_deref()),
                text(creator.and_then(|who| who.at)),
                new.created_at.to_string(),
                new.updated_at.to_string(),
            ],
        )?;
        Ok(())
    }
}

impl SqliteTx<'_> {
    fn put_thread(&self, sql: &str, thread: &Thread) -> Result<()> {
        let params = params![
            thread.id.as_str(),
            thread.topic,
            thread.status.as_str(),
            thread.created_at.to_string(),
            thread.updated_at.map(|at| at.to_string()),
            thread.closed_at.map(|at| at.to_string()),
            thread.summary,
            json_text(thread.metadata.as_ref()),
            thread.system_prompt,
            thread.template_id.as_ref().map(TemplateId::as_str),
            thread.workspace,
        ];
        self.run(sql, params)?;
        Ok(())
    }
}
