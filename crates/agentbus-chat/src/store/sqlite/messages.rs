//! Rows of messages, their edits and reactions.

use rusqlite::{Row, named_params, params};

use super::tx::{
    Result, RowResult, SqliteTx, count, json, json_text, limit_or_all, maybe_stamp, stamp,
};
use crate::model::{Edit, Message, Priority, Reaction, Role};
use crate::store::{Figures, MessageQuery, MessageRows};
use crate::{AgentId, MessageId, Seq, Stamp, ThreadId};

macro_rules! columns {
    () => {
        "m.id, m.thread_id, m.seq, m.author, m.author_id, m.author_name, m.role, m.content, \
         m.created_at, m.metadata, m.priority, m.reply_to_msg_id, m.edited_at, m.edit_version, \
         m.human_only"
    };
}

fn message(row: &Row<'_>) -> RowResult<Message> {
    let (role, priority): (String, String) = (row.get(6)?, row.get(10)?);
    let reply_to: Option<String> = row.get(11)?;
    Ok(Message {
        id: MessageId::new(row.get::<_, String>(0)?),
        thread_id: ThreadId::new(row.get::<_, String>(1)?),
        seq: row.get(2)?,
        author: row.get(3)?,
        author_id: row.get(4)?,
        author_name: row.get(5)?,
        role: Role::parse(&role).unwrap_or(Role::User),
        content: row.get(7)?,
        created_at: stamp(row, 8)?,
        metadata: json(row, 9)?,
        priority: Priority::parse(&priority).unwrap_or(Priority::Normal),
        reply_to: reply_to.map(Into::into),
        edited_at: maybe_stamp(row, 12)?,
        edit_version: row.get(13)?,
        human_only: row.get(14)?,
    })
}

fn reaction(row: &Row<'_>) -> RowResult<Reaction> {
    let agent: Option<String> = row.get(2)?;
    Ok(Reaction {
        id: row.get(0)?,
        message_id: MessageId::new(row.get::<_, String>(1)?),
        agent_id: agent.map(Into::into),
        agent_name: row.get(3)?,
        reaction: row.get(4)?,
        created_at: stamp(row, 5)?,
    })
}

fn edit(row: &Row<'_>) -> RowResult<Edit> {
    Ok(Edit {
        version: row.get(0)?,
        old_content: row.get(1)?,
        edited_by: row.get(2)?,
        created_at: stamp(row, 3)?,
    })
}

macro_rules! page {
    ($order:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            " FROM messages AS m WHERE m.thread_id = :thread AND m.seq > :after \
             AND m.seq < :before AND (:priority IS NULL OR m.priority = :priority) \
             AND (:role IS NULL OR m.role = :role) AND m.human_only <= :human_only \
             ORDER BY m.seq ",
            $order,
            " LIMIT :limit"
        )
    };
}

impl MessageRows for SqliteTx<'_> {
    fn last_seq(&self) -> Result<Seq> {
        self.value("SELECT seq FROM messages ORDER BY seq DESC LIMIT 1", [])
    }

    fn current_seq(&self, thread: &ThreadId) -> Result<Seq> {
        let sql = "SELECT seq FROM messages WHERE thread_id = ?1 AND human_only = 0 \
                   ORDER BY seq DESC LIMIT 1";
        self.value(sql, [thread.as_str()])
    }

    fn message(&self, id: &MessageId) -> Result<Option<Message>> {
        let sql = concat!("SELECT ", columns!(), " FROM messages AS m WHERE m.id = ?1");
        self.one(sql, [id.as_str()], message)
    }

    fn messages(&self, thread: &ThreadId, query: &MessageQuery) -> Result<Vec<Message>> {
        let params = named_params! {
            ":thread": thread.as_str(), ":after": query.after_seq,
            ":before": query.before_seq.unwrap_or(Seq::MAX),
            ":priority": query.priority, ":role": query.role,
            ":human_only": !query.for_agents, ":limit": limit_or_all(query.limit),
        };
        if !query.newest {
            return self.all(page!("ASC"), params, message);
        }
        let mut page = self.all(page!("DESC"), params, message)?;
        page.reverse();
        Ok(page)
    }

    fn newest_for_people(&self, limit: usize) -> Result<Vec<Message>> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM messages AS m WHERE m.human_only = 1 AND m.role = 'system' \
             ORDER BY m.seq DESC LIMIT ?1"
        );
        let mut newest = self.all(sql, [limit_or_all(limit)], message)?;
        newest.reverse();
        Ok(newest)
    }

    fn count_messages(&self, thread: &ThreadId, for_agents: bool) -> Result<usize> {
        let sql = "SELECT count(*) FROM messages WHERE thread_id = ?1 AND human_only <= ?2";
        Ok(count(self.value(sql, (thread.as_str(), !for_agents))?))
    }

    fn count_before(&self, thread: &ThreadId, seq: Seq) -> Result<usize> {
        let sql = "SELECT count(*) FROM messages WHERE thread_id = ?1 AND seq < ?2";
        Ok(count(self.value(sql, (thread.as_str(), seq))?))
    }

    fn count_since(&self, author: &str, id: Option<&str>, since: Stamp, limit: u32) -> Result<u32> {
        let sql = "SELECT count(*) FROM (SELECT 1 FROM messages WHERE author = ?1 \
                   AND created_at > ?2 AND author_id IS ?3 LIMIT ?4)";
        self.value(sql, (author, since.to_string(), id, limit))
    }

    fn participants(&self, thread: &ThreadId) -> Result<Vec<AgentId>> {
        let sql = "SELECT agent_id FROM participants WHERE thread_id = ?1 ORDER BY agent_id";
        self.all(sql, [thread.as_str()], |row| {
            Ok(AgentId::new(row.get::<_, String>(0)?))
        })
    }

    fn next_seq(&mut self) -> Result<Seq> {
        let sql = "UPDATE seq_counter SET val = val + 1 WHERE id = 1 RETURNING val";
        let seq = self.value(sql, [])?;
        debug_assert!(seq > 0, "the counter is there and counts");
        Ok(seq)
    }

    fn raise_seq(&mut self, to: Seq) -> Result<()> {
        self.run(
            "UPDATE seq_counter SET val = max(val, ?1) WHERE id = 1",
            [to],
        )?;
        Ok(())
    }

    fn insert_message(&mut self, new: &Message) -> Result<()> {
        let sql = "INSERT INTO messages (id, thread_id, seq, author, author_id, author_name, role, \
                   content, created_at, metadata, priority, reply_to_msg_id, edited_at, \
                   edit_version, human_only, stop_reason) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";
        let params = params![
            new.id.as_str(),
            new.thread_id.as_str(),
            new.seq,
            new.author,
            new.author_id,
            new.author_name,
            new.role.as_str(),
            new.content,
            new.created_at.to_string(),
            json_text(new.metadata.as_ref()),
            new.priority.as_str(),
            new.reply_to.as_ref().map(MessageId::as_str),
            new.edited_at.map(|at| at.to_string()),
            new.edit_version,
            new.human_only,
            new.meta("stop_reason"),
        ];
        self.run(sql, params)?;
        self.index_later(new.seq, &new.content)?;
        let agent = new.author_id.as_deref().filter(|id| *id != "system");
        if let Some(agent) = agent {
            let sql = "INSERT OR IGNORE INTO participants VALUES (?1, ?2)";
            self.run(sql, [new.thread_id.as_str(), agent])?;
        }
        Ok(())
    }

    fn update_message(&mut self, new: &Message) -> Result<()> {
        self.reindex(&new.id, &new.content)?;
        let text = "UPDATE messages SET content = ?2 WHERE id = ?1 AND content <> ?2";
        self.run(text, (new.id.as_str(), &new.content))?;
        let rest = "UPDATE messages SET edited_at = ?2, edit_version = ?3, metadata = ?4 \
                    WHERE id = ?1";
        let params = (
            new.id.as_str(),
            new.edited_at.map(|at| at.to_string()),
            new.edit_version,
            json_text(new.metadata.as_ref()),
        );
        self.run(rest, params)?;
        Ok(())
    }

    fn edits(&self, id: &MessageId) -> Result<Vec<Edit>> {
        let sql = "SELECT version, old_content, edited_by, created_at FROM message_edits \
                   WHERE message_id = ?1 ORDER BY version";
        self.all(sql, [id.as_str()], edit)
    }

    fn insert_edit(&mut self, id: &str, message: &MessageId, edit: &Edit) -> Result<()> {
        let sql = "INSERT INTO message_edits (id, message_id, old_content, edited_by, version, \
                   created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let at = edit.created_at.to_string();
        let params = (
            id,
            message.as_str(),
            &edit.old_content,
            &edit.edited_by,
            edit.version,
            at,
        );
        self.run(sql, params)?;
        Ok(())
    }

    fn reactions(&self, messages: &[MessageId]) -> Result<Vec<Reaction>> {
        // One short look for each is quicker than a list that must be parsed anew every time.
        let sql = "SELECT id, message_id, agent_id, agent_name, reaction, created_at \
                   FROM reactions WHERE message_id = ?1 ORDER BY created_at, rowid";
        let mut found = Vec::new();
        for id in messages {
            found.extend(self.all(sql, [id.as_str()], reaction)?);
        }
        Ok(found)
    }

    fn insert_reaction(&mut self, new: &Reaction) -> Result<()> {
        let sql = "INSERT INTO reactions (id, message_id, agent_id, agent_name, reaction, \
                   created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let params = params![
            new.id,
            new.message_id.as_str(),
            new.agent_id.as_ref().map(AgentId::as_str),
            new.agent_name,
            new.reaction,
            new.created_at.to_string(),
        ];
        self.run(sql, params)?;
        Ok(())
    }

    fn delete_reaction(&mut self, message: &MessageId, agent: &str, label: &str) -> Result<bool> {
        let sql = "DELETE FROM reactions WHERE message_id = ?1 AND agent_id = ?2 AND reaction = ?3";
        Ok(self.run(sql, [message.as_str(), agent, label])? > 0)
    }

    fn figures(&self, now: Stamp) -> Result<Figures> {
        super::figures::all(self, now)
    }
}
