//! Rows of reply tokens and waits.

use rusqlite::{Row, params};

use super::tx::{Result, RowResult, SqliteTx, maybe_stamp, stamp};
use crate::model::{TOKEN_EXPIRES, Token, TokenSource, Waiting};
use crate::store::{SyncRows, WaitRun};
use crate::{AgentId, Stamp, ThreadId};

fn token(row: &Row<'_>) -> RowResult<Token> {
    let agent: Option<String> = row.get(2)?;
    let source: String = row.get(5)?;
    Ok(Token {
        token: row.get(0)?,
        thread_id: ThreadId::new(row.get::<_, String>(1)?),
        agent_id: agent.map(Into::into),
        issued_at: stamp(row, 3)?,
        consumed_at: maybe_stamp(row, 4)?,
        source: TokenSource::parse(&source),
    })
}

fn waiting(row: &Row<'_>) -> RowResult<Waiting> {
    Ok(Waiting {
        thread_id: ThreadId::new(row.get::<_, String>(0)?),
        agent_id: AgentId::new(row.get::<_, String>(1)?),
        entered_at: stamp(row, 2)?,
        timeout_ms: row.get::<_, Option<i64>>(3)?.unwrap_or(0),
    })
}

impl SyncRows for SqliteTx<'_> {
    fn token(&self, text: &str) -> Result<Option<Token>> {
        let sql = "SELECT token, thread_id, agent_id, issued_at, consumed_at, source \
                   FROM reply_tokens WHERE token = ?1";
        self.one(sql, [text], token)
    }

    fn issued_tokens(&self, thread: &ThreadId, agent: &AgentId) -> Result<Vec<String>> {
        let sql = "SELECT token FROM reply_tokens WHERE thread_id = ?1 AND agent_id = ?2 \
                   AND status = 'issued' ORDER BY issued_at DESC, rowid DESC";
        self.all(sql, [thread.as_str(), agent.as_str()], |row| row.get(0))
    }

    fn insert_token(&mut self, new: &Token) -> Result<()> {
        let sql = "INSERT INTO reply_tokens (token, thread_id, agent_id, issued_at, expires_at, \
                   status, source) VALUES (?1, ?2, ?3, ?4, ?5, 'issued', ?6)";
        self.run(
            sql,
            params![
                new.token,
                new.thread_id.as_str(),
                new.agent_id.as_ref().map(AgentId::as_str),
                new.issued_at.to_string(),
                TOKEN_EXPIRES,
                new.source.as_str(),
            ],
        )?;
        Ok(())
    }

    fn consume_token(&mut self, text: &str, at: Stamp) -> Result<bool> {
        let sql = "UPDATE reply_tokens SET status = 'consumed', consumed_at = ?2 \
                   WHERE token = ?1 AND status = 'issued'";
        Ok(self.run(sql, [text, &at.to_string()])? > 0)
    }

    fn withdraw_tokens(
        &mut self,
        thread: &ThreadId,
        agent: &AgentId,
        source: Option<TokenSource>,
        at: Stamp,
    ) -> Result<()> {
        let sql = "UPDATE reply_tokens SET status = 'consumed', consumed_at = ?3 \
                   WHERE thread_id = ?1 AND agent_id = ?2 AND status = 'issued' \
                   AND (?4 IS NULL OR source = ?4)";
        let source = source.map(TokenSource::as_str);
        self.run(
            sql,
            (thread.as_str(), agent.as_str(), at.to_string(), source),
        )?;
        Ok(())
    }

    fn delete_tokens_of(&mut self, agent: &AgentId) -> Result<()> {
        let sql = "DELETE FROM reply_tokens WHERE agent_id = ?1 AND status = 'issued'";
        self.run(sql, [agent.as_str()])?;
        Ok(())
    }

    fn refresh_requested(&self, thread: &ThreadId, agent: &AgentId) -> Result<bool> {
        let sql = "SELECT 1 FROM msg_wait_refresh_requests WHERE thread_id = ?1 AND agent_id = ?2";
        let found = self.one(sql, [thread.as_str(), agent.as_str()], |_| Ok(()))?;
        Ok(found.is_some())
    }

    fn request_refresh(
        &mut self,
        thread: &ThreadId,
        agent: &AgentId,
        reason: &str,
        at: Stamp,
    ) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO msg_wait_refresh_requests \
                   (thread_id, agent_id, requested_at, reason) VALUES (?1, ?2, ?3, ?4)";
        self.run(
            sql,
            [thread.as_str(), agent.as_str(), &at.to_string(), reason],
        )?;
        Ok(())
    }

    fn clear_refresh(&mut self, thread: &ThreadId, agent: &AgentId) -> Result<()> {
        let sql = "DELETE FROM msg_wait_refresh_requests WHERE thread_id = ?1 AND agent_id = ?2";
        self.run(sql, [thread.as_str(), agent.as_str()])?;
        Ok(())
    }

    fn waiting(&self, thread: Option<&ThreadId>) -> Result<Vec<Waiting>> {
        let sql = "SELECT thread_id, agent_id, entered_at, timeout_ms FROM thread_wait_states \
                   WHERE ?1 IS NULL OR thread_id = ?1 ORDER BY thread_id, entered_at, agent_id";
        self.all(sql, [thread.map(ThreadId::as_str)], waiting)
    }

    fn is_waiting(&self, thread: &ThreadId, agent: &AgentId) -> Result<bool> {
        let sql = "SELECT 1 FROM thread_wait_states WHERE thread_id = ?1 AND agent_id = ?2";
        let found = self.one(sql, [thread.as_str(), agent.as_str()], |_| Ok(()))?;
        Ok(found.is_some())
    }

    fn put_waiting(&mut self, new: &Waiting, now: Stamp) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO thread_wait_states \
                   (thread_id, agent_id, entered_at, updated_at, timeout_ms) \
                   VALUES (?1, ?2, ?3, ?4, ?5)";
        let (thread, agent) = (new.thread_id.as_str(), new.agent_id.as_str());
        let (entered, now) = (new.entered_at.to_string(), now.to_string());
        self.run(sql, (thread, agent, entered, now, new.timeout_ms))?;
        Ok(())
    }

    fn remove_waiting(&mut self, thread: &ThreadId, agent: &AgentId) -> Result<()> {
        let sql = "DELETE FROM thread_wait_states WHERE thread_id = ?1 AND agent_id = ?2";
        self.run(sql, [thread.as_str(), agent.as_str()])?;
        Ok(())
    }

    fn remove_waits_of(&mut self, agent: &AgentId) -> Result<Vec<ThreadId>> {
        let sql = "DELETE FROM thread_wait_states WHERE agent_id = ?1 RETURNING thread_id";
        let threads = self.all(sql, [agent.as_str()], |row| {
            Ok(ThreadId::new(row.get::<_, String>(0)?))
        })?;
        self.run(
            "DELETE FROM wait_runs WHERE agent_id = ?1",
            [agent.as_str()],
        )?;
        Ok(threads)
    }

    fn remove_all_waits(&mut self) -> Result<()> {
        self.run("DELETE FROM thread_wait_states", [])?;
        self.run("DELETE FROM wait_runs", [])?;
        Ok(())
    }

    fn wait_run(&self, thread: &ThreadId, agent: &AgentId) -> Result<Option<WaitRun>> {
        let sql = "SELECT since, left_at FROM wait_runs WHERE thread_id = ?1 AND agent_id = ?2";
        self.one(sql, [thread.as_str(), agent.as_str()], |row| {
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
        let key = (thread.as_str(), agent.as_str());
        let Some(run) = run else {
            self.run(
                "DELETE FROM wait_runs WHERE thread_id = ?1 AND agent_id = ?2",
                key,
            )?;
            return Ok(());
        };
        let left = run.left_at.map(|at| at.to_string());
        let sql = "INSERT OR REPLACE INTO wait_runs VALUES (?1, ?2, ?3, ?4)";
        self.run(sql, (key.0, key.1, run.since.to_string(), left))?;
        Ok(())
    }
}
