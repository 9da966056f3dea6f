//! Rows of reply tokens and waits.

use postgres::Row;

use super::relay::LIVING;
use super::tx::{Param, PgTx, Result, get, maybe_stamp, micros, stamp};
use crate::model::{Token, TokenSource, Waiting};
use crate::store::{SyncRows, WaitRun};
use crate::{AgentId, Stamp, ThreadId};

fn token(row: &Row) -> Result<Token> {
    let agent: Option<String> = get(row, 2)?;
    let source: String = get(row, 5)?;
    Ok(Token {
        token: get(row, 0)?,
        thread_id: ThreadId::new(get::<String>(row, 1)?),
        agent_id: agent.map(Into::into),
        issued_at: stamp(row, 3)?,
        consumed_at: maybe_stamp(row, 4)?,
        source: TokenSource::parse(&source),
    })
}

fn waiting(row: &Row) -> Result<Waiting> {
    Ok(Waiting {
        thread_id: ThreadId::new(get::<String>(row, 0)?),
        agent_id: AgentId::new(get::<String>(row, 1)?),
        entered_at: stamp(row, 2)?,
        timeout_ms: get(row, 3)?,
    })
}

impl SyncRows for PgTx<'_> {
    fn token(&self, text: &str) -> Result<Option<Token>> {
        let sql = "SELECT token, thread_id, agent_id, issued_at, consumed_at, source \
                   FROM reply_tokens WHERE token = $1";
        self.one(sql, &[&text], token)
    }

    fn issued_tokens(&self, thread: &ThreadId, agent: &AgentId) -> Result<Vec<String>> {
        let sql = "SELECT token FROM reply_tokens WHERE thread_id = $1 AND agent_id = $2 \
                   AND consumed_at IS NULL ORDER BY issued_at DESC, n DESC";
        self.all(sql, &[&thread.as_str(), &agent.as_str()], |row| get(row, 0))
    }

    fn insert_token(&mut self, new: &Token) -> Result<()> {
        let sql = "INSERT INTO reply_tokens (token, thread_id, agent_id, issued_at, source) \
                   VALUES ($1, $2, $3, $4, $5)";
        let params: [Param<'_>; 5] = [
            &new.token,
            &new.thread_id.as_str(),
            &new.agent_id.as_ref().map(AgentId::as_str),
            &new.issued_at.micros(),
            &new.source.as_str(),
        ];
        self.run(sql, &params)?;
        Ok(())
    }

    fn consume_token(&mut self, text: &str, at: Stamp) -> Result<bool> {
        let sql = "UPDATE reply_tokens SET consumed_at = $2 \
                   WHERE token = $1 AND consumed_at IS NULL";
        Ok(self.run(sql, &[&text, &at.micros()])? > 0)
    }

    fn withdraw_tokens(
        &mut self,
        thread: &ThreadId,
        agent: &AgentId,
        source: Option<TokenSource>,
        at: Stamp,
    ) -> Result<()> {
        let sql = "UPDATE reply_tokens SET consumed_at = $3 WHERE thread_id = $1 \
                   AND agent_id = $2 AND consumed_at IS NULL AND ($4::text IS NULL OR source = $4)";
        let source = source.map(TokenSource::as_str);
        self.run(
            sql,
            &[&thread.as_str(), &agent.as_str(), &at.micros(), &source],
        )?;
        Ok(())
    }

    fn delete_tokens_of(&mut self, agent: &AgentId) -> Result<()> {
        let sql = "DELETE FROM reply_tokens WHERE agent_id = $1 AND consumed_at IS NULL";
        self.run(sql, &[&agent.as_str()])?;
        Ok(())
    }

    fn refresh_requested(&self, thread: &ThreadId, agent: &AgentId) -> Result<bool> {
        let sql = "SELECT count(*) FROM refreshes WHERE thread_id = $1 AND agent_id = $2";
        Ok(self.count(sql, &[&thread.as_str(), &agent.as_str()])? > 0)
    }

    fn request_refresh(
        &mut self,
        thread: &ThreadId,
        agent: &AgentId,
        reason: &str,
        at: Stamp,
    ) -> Result<()> {
        let sql = "INSERT INTO refreshes (thread_id, agent_id, requested_at, reason) \
                   VALUES ($1, $2, $3, $4) ON CONFLICT (thread_id, agent_id) \
                   DO UPDATE SET requested_at = $3, reason = $4";
        self.run(
            sql,
            &[&thread.as_str(), &agent.as_str(), &at.micros(), &reason],
        )?;
        Ok(())
    }

    fn clear_refresh(&mut self, thread: &ThreadId, agent: &AgentId) -> Result<()> {
        let sql = "DELETE FROM refreshes WHERE thread_id = $1 AND agent_id = $2";
        self.run(sql, &[&thread.as_str(), &agent.as_str()])?;
        Ok(())
    }

    fn waiting(&self, thread: Option<&ThreadId>) -> Result<Vec<Waiting>> {
        // A node that died took its waits along, whether anyone has removed them or not.
        let sql = format!(
            "SELECT thread_id, agent_id, entered_at, timeout_ms FROM waits \
             WHERE ($1::text IS NULL OR thread_id = $1) AND node IN {LIVING} \
             ORDER BY thread_id, entered_at, agent_id"
        );
        self.all(&sql, &[&thread.map(ThreadId::as_str)], waiting)
    }

    fn is_waiting(&self, thread: &ThreadId, agent: &AgentId) -> Result<bool> {
        let sql = "SELECT count(*) FROM waits WHERE thread_id = $1 AND agent_id = $2";
        Ok(self.count(sql, &[&thread.as_str(), &agent.as_str()])? > 0)
    }

    fn put_waiting(&mut self, new: &Waiting, _: Stamp) -> Result<()> {
        let sql = "INSERT INTO waits (thread_id, agent_id, entered_at, timeout_ms, node) \
                   VALUES ($1, $2, $3, $4, $5) ON CONFLICT (thread_id, agent_id) \
                   DO UPDATE SET entered_at = $3, timeout_ms = $4, node = $5";
        let params: [Param<'_>; 5] = [
            &new.thread_id.as_str(),
            &new.agent_id.as_str(),
            &new.entered_at.micros(),
            &new.timeout_ms,
            &self.node,
        ];
        self.run(sql, &params)?;
        Ok(())
    }

    fn remove_waiting(&mut self, thread: &ThreadId, agent: &AgentId) -> Result<()> {
        let sql = "DELETE FROM waits WHERE thread_id = $1 AND agent_id = $2";
        self.run(sql, &[&thread.as_str(), &agent.as_str()])?;
        Ok(())
    }

    fn remove_waits_of(&mut self, agent: &AgentId) -> Result<Vec<ThreadId>> {
        let sql = "WITH runs AS (DELETE FROM wait_runs WHERE agent_id = $1) \
                   DELETE FROM waits WHERE agent_id = $1 RETURNING thread_id";
        self.all(sql, &[&agent.as_str()], |row| {
            Ok(ThreadId::new(get::<String>(row, 0)?))
        })
    }

    fn remove_all_waits(&mut self) -> Result<()> {
        // Those of other nodes that live go on.
        let gone = format!("DELETE FROM waits WHERE node NOT IN {LIVING}");
        self.run(&gone, &[])?;
        let sql = "DELETE FROM wait_runs AS r WHERE NOT EXISTS (SELECT 1 FROM waits AS w \
                   WHERE w.thread_id = r.thread_id AND w.agent_id = r.agent_id)";
        self.run(sql, &[])?;
        Ok(())
    }

    fn wait_run(&self, thread: &ThreadId, agent: &AgentId) -> Result<Option<WaitRun>> {
        let sql = "SELECT since, left_at FROM wait_runs WHERE thread_id = $1 AND agent_id = $2";
        self.one(sql, &[&thread.as_str(), &agent.as_str()], |row| {
            Ok(WaitRun {
                since: stamp(row, 0)?,
                left_at: maybe_stamp(row, 1)?,
            })
        })
    }

    fn put_wait_run(
        &mut self,
        thread: &ThreadId,
        agent: &AgentId,
        run: Option<WaitRun>,
    ) -> Result<()> {
        let (thread, agent) = (thread.as_str(), agent.as_str());
        let Some(run) = run else {
            let sql = "DELETE FROM wait_runs WHERE thread_id = $1 AND agent_id = $2";
            self.run(sql, &[&thread, &agent])?;
            return Ok(());
        };
        let sql = "INSERT INTO wait_runs VALUES ($1, $2, $3, $4) \
                   ON CONFLICT (thread_id, agent_id) DO UPDATE SET since = $3, left_at = $4";
        let (since, left) = (run.since.micros(), micros(run.left_at));
        self.run(sql, &[&thread, &agent, &since, &left])?;
        Ok(())
    }
}
