//! Rows of messages, their edits and reactions.

use postgres::Row;

use super::tx::{
    Param, PgTx, Result, get, json, json_text, limit_or_all, maybe_stamp, micros, stamp,
};
use super::words;
use crate::model::{Edit, Message, Priority, Reaction, Role};
use crate::store::{Figures, MessageQuery, MessageRows};
use crate::{AgentId, MessageId, Seq, Stamp, ThreadId};

macro_rules! columns {
    () => {
        "m.id, m.thread_id, m.seq, m.author, m.author_id, m.author_name, m.role, m.content, \
         m.created_at, m.metadata, m.priority, m.reply_to, m.edited_at, m.edit_version, m.human_only"
    };
}

fn message(row: &Row) -> Result<Message> {
    let (role, priority): (String, String) = (get(row, 6)?, get(row, 10)?);
    let reply_to: Option<String> = get(row, 11)?;
    Ok(Message {
        id: MessageId::new(get::<String>(row, 0)?),
        thread_id: ThreadId::new(get::<String>(row, 1)?),
        seq: get(row, 2)?,
        author: get(row, 3)?,
        author_id: get(row, 4)?,
        author_name: get(row, 5)?,
        role: Role::parse(&role).unwrap_or(Role::User),
        content: get(row, 7)?,
        created_at: stamp(row, 8)?,
        metadata: json(row, 9)?,
        priority: Priority::parse(&priority).unwrap_or(Priority::Normal),
        reply_to: reply_to.map(Into::into),
        edited_at: maybe_stamp(row, 12)?,
        edit_version: get(row, 13)?,
        human_only: get(row, 14)?,
    })
}

fn reaction(row: &Row) -> Result<Reaction> {
    let agent: Option<String> = get(row, 2)?;
    Ok(Reaction {
        id: get(row, 0)?,
        message_id: MessageId::new(get::<String>(row, 1)?),
        agent_id: agent.map(Into::into),
        agent_name: get(row, 3)?,
        reaction: get(row, 4)?,
        created_at: stamp(row, 5)?,
    })
}

fn edit(row: &Row) -> Result<Edit> {
    Ok(Edit {
        version: get(row, 0)?,
        old_content: get(row, 1)?,
        edited_by: get(row, 2)?,
        created_at: stamp(row, 3)?,
    })
}

macro_rules! page {
    ($order:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            " FROM messages AS m WHERE m.thread_id = $1 AND m.seq > $2 AND m.seq < $3 \
             AND ($4::text IS NULL OR m.priority = $4) AND ($5::text IS NULL OR m.role = $5) \
             AND m.human_only <= $6 ORDER BY m.seq ",
            $order,
            " LIMIT $7"
        )
    };
}

impl MessageRows for PgTx<'_> {
    fn last_seq(&self) -> Result<Seq> {
        self.value("SELECT seq FROM messages ORDER BY seq DESC LIMIT 1", &[])
    }

    fn current_seq(&self, thread: &ThreadId) -> Result<Seq> {
        let sql = "SELECT seq FROM messages WHERE thread_id = $1 AND NOT human_only \
                   ORDER BY seq DESC LIMIT 1";
        self.value(sql, &[&thread.as_str()])
    }

    fn message(&self, id: &MessageId) -> Result<Option<Message>> {
        let sql = concat!("SELECT ", columns!(), " FROM messages AS m WHERE m.id = $1");
        self.one(sql, &[&id.as_str()], message)
    }

    fn messages(&self, thread: &ThreadId, query: &MessageQuery) -> Result<Vec<Message>> {
        let params: [Param<'_>; 7] = [
            &thread.as_str(),
            &query.after_seq,
            &query.before_seq.unwrap_or(Seq::MAX),
            &query.priority,
            &query.role,
            &!query.for_agents,
            &limit_or_all(query.limit),
        ];
        if !query.newest {
            return self.all(page!("ASC"), &params, message);
        }
        let mut page = self.all(page!("DESC"), &params, message)?;
        page.reverse();
        Ok(page)
    }

    fn newest_for_people(&self, limit: usize) -> Result<Vec<Message>> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM messages AS m WHERE m.human_only AND m.role = 'system' \
             ORDER BY m.seq DESC LIMIT $1"
        );
        let mut newest = self.all(sql, &[&limit_or_all(limit)], message)?;
        newest.reverse();
        Ok(newest)
    }

    fn count_messages(&self, thread: &ThreadId, for_agents: bool) -> Result<usize> {
        let sql = "SELECT count(*) FROM messages WHERE thread_id = $1 AND human_only <= $2";
        self.count(sql, &[&thread.as_str(), &!for_agents])
    }

    fn count_before(&self, thread: &ThreadId, seq: Seq) -> Result<usize> {
        let sql = "SELECT count(*) FROM messages WHERE thread_id = $1 AND seq < $2";
        self.count(sql, &[&thread.as_str(), &seq])
    }

    fn count_since(&self, author: &str, id: Option<&str>, since: Stamp, limit: u32) -> Result<u32> {
        let sql = "SELECT count(*) FROM (SELECT 1 FROM messages WHERE author = $1 \
                   AND created_at > $2 AND author_id IS NOT DISTINCT FROM $3 LIMIT $4) AS found";
        let found = self.count(sql, &[&author, &since.micros(), &id, &i64::from(limit)])?;
        Ok(u32::try_from(found).unwrap_or(u32::MAX))
    }

    fn participants(&self, thread: &ThreadId) -> Result<Vec<AgentId>> {
        let sql = "SELECT agent_id FROM participants WHERE thread_id = $1 ORDER BY agent_id";
        self.all(sql, &[&thread.as_str()], |row| {
            Ok(AgentId::new(get::<String>(row, 0)?))
        })
    }

    fn next_seq(&mut self) -> Result<Seq> {
        let sql = "UPDATE counters SET seq = seq + 1 WHERE id = 1 RETURNING seq";
        let seq = self.value(sql, &[])?;
        debug_assert!(seq > 0, "the counter is there and counts");
        Ok(seq)
    }

    fn raise_seq(&mut self, to: Seq) -> Result<()> {
        let sql = "UPDATE counters SET seq = greatest(seq, $1) WHERE id = 1";
        self.run(sql, &[&to])?;
        Ok(())
    }

    fn insert_message(&mut self, new: &Message) -> Result<()> {
        let sql = "INSERT INTO messages (id, thread_id, seq, author, author_id, author_name, role, \
                   content, created_at, metadata, priority, reply_to, edited_at, edit_version, \
                   human_only, stop_reason, words) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, \
                   $10, $11, $12, $13, $14, $15, $16, $17::text::tsvector)";
        let params: [Param<'_>; 17] = [
            &new.id.as_str(),
            &new.thread_id.as_str(),
            &new.seq,
            &new.author,
            &new.author_id,
            &new.author_name,
            &new.role.as_str(),
            &new.content,
            &new.created_at.micros(),
            &json_text(new.metadata.as_ref()),
            &new.priority.as_str(),
            &new.reply_to.as_ref().map(MessageId::as_str),
            &micros(new.edited_at),
            &new.edit_version,
            &new.human_only,
            &new.meta("stop_reason"),
            &words::vector(&new.content),
        ];
        self.run(sql, &params)?;
        let agent = new.author_id.as_deref().filter(|id| *id != "system");
        if let Some(agent) = agent {
            let sql = "INSERT INTO participants VALUES ($1, $2) ON CONFLICT DO NOTHING";
            self.run(sql, &[&new.thread_id.as_str(), &agent])?;
        }
        Ok(())
    }

    fn update_message(&mut self, new: &Message) -> Result<()> {
        let sql = "UPDATE messages SET content = $2, words = $3::text::tsvector, edited_at = $4, \
                   edit_version = $5, metadata = $6 WHERE id = $1";
        let params: [Param<'_>; 6] = [
            &new.id.as_str(),
            &new.content,
            &words::vector(&new.content),
            &micros(new.edited_at),
            &new.edit_version,
            &json_text(new.metadata.as_ref()),
        ];
        self.run(sql, &params)?;
        Ok(())
    }

    fn edits(&self, id: &MessageId) -> Result<Vec<Edit>> {
        let sql = "SELECT version, old_content, edited_by, created_at FROM message_edits \
                   WHERE message_id = $1 ORDER BY version";
        self.all(sql, &[&id.as_str()], edit)
    }

    fn insert_edit(&mut self, id: &str, message: &MessageId, edit: &Edit) -> Result<()> {
        let sql = "INSERT INTO message_edits (id, message_id, old_content, edited_by, version, \
                   created_at) VALUES ($1, $2, $3, $4, $5, $6)";
        let params: [Param<'_>; 6] = [
            &id,
            &message.as_str(),
            &edit.old_content,
            &edit.edited_by,
            &edit.version,
            &edit.created_at.micros(),
        ];
        self.run(sql, &params)?;
        Ok(())
    }

    fn reactions(&self, messages: &[MessageId]) -> Result<Vec<Reaction>> {
        let sql = "SELECT id, message_id, agent_id, agent_name, reaction, created_at \
                   FROM reactions WHERE message_id = ANY($1) \
                   ORDER BY array_position($1, message_id), created_at, n";
        let ids: Vec<&str> = messages.iter().map(MessageId::as_str).collect();
        self.all(sql, &[&ids], reaction)
    }

    fn insert_reaction(&mut self, new: &Reaction) -> Result<()> {
        let sql = "INSERT INTO reactions (id, message_id, agent_id, agent_name, reaction, \
                   created_at) VALUES ($1, $2, $3, $4, $5, $6)";
        let params: [Param<'_>; 6] = [
            &new.id,
            &new.message_id.as_str(),
            &new.agent_id.as_ref().map(AgentId::as_str),
            &new.agent_name,
            &new.reaction,
            &new.created_at.micros(),
        ];
        self.run(sql, &params)?;
        Ok(())
    }

    fn delete_reaction(&mut self, message: &MessageId, agent: &str, label: &str) -> Result<bool> {
        let sql = "DELETE FROM reactions WHERE message_id = $1 AND agent_id = $2 AND reaction = $3";
        Ok(self.run(sql, &[&message.as_str(), &agent, &label])? > 0)
    }

    fn figures(&self, now: Stamp) -> Result<Figures> {
        super::figures::all(self, now)
    }
}
