//! Rows of agents.

use rusqlite::{Row, params};
use serde_json::json;

use super::tx::{Result, RowResult, SqliteTx, count, list, maybe_stamp, stamp};
use crate::model::{Agent, AliasSource};
use crate::store::AgentRows;
use crate::{AgentId, Stamp};

macro_rules! columns {
    () => {
        "id, name, ide, model, description, capabilities, skills, registered_at, last_heartbeat, \
         display_name, alias_source, last_activity, last_activity_time, emoji"
    };
}

fn agent(row: &Row<'_>) -> RowResult<Agent> {
    let source: Option<String> = row.get(10)?;
    let alias_source = match source.as_deref() {
        Some("user") => AliasSource::User,
        _ => AliasSource::Auto,
    };
    Ok(Agent {
        id: AgentId::new(row.get::<_, String>(0)?),
        name: row.get(1)?,
        ide: row.get(2)?,
        model: row.get(3)?,
        description: row.get(4)?,
        capabilities: list(row, 5)?,
        skills: list(row, 6)?,
        registered_at: stamp(row, 7)?,
        last_heartbeat: stamp(row, 8)?,
        display_name: row.get(9)?,
        alias_source,
        last_activity: row.get(11)?,
        last_activity_time: maybe_stamp(row, 12)?,
        emoji: row.get(13)?,
    })
}

const fn alias_word(source: AliasSource) -> &'static str {
    match source {
        AliasSource::Auto => "auto",
        AliasSource::User => "user",
    }
}

impl AgentRows for SqliteTx<'_> {
    fn agent(&self, id: &AgentId) -> Result<Option<Agent>> {
        let sql = concat!("SELECT ", columns!(), " FROM agents WHERE id = ?1");
        self.one(sql, [id.as_str()], agent)
    }

    fn agent_token(&self, id: &AgentId) -> Result<Option<String>> {
        let sql = "SELECT token FROM agents WHERE id = ?1";
        self.one(sql, [id.as_str()], |row| row.get(0))
    }

    fn agents(&self) -> Result<Vec<Agent>> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM agents ORDER BY registered_at, rowid"
        );
        self.all(sql, [], agent)
    }

    fn names_like(&self, start: &str) -> Result<Vec<String>> {
        let sql = "SELECT name FROM agents WHERE name >= ?1 AND name < ?1 || char(1114111)";
        self.all(sql, [start], |row| row.get(0))
    }

    fn count_agents(&self) -> Result<usize> {
        Ok(count(self.value("SELECT count(*) FROM agents", [])?))
    }

    fn insert_agent(&mut self, new: &Agent, token: &str) -> Result<()> {
        let sql = "INSERT INTO agents (id, name, ide, model, description, capabilities, skills, \
                   registered_at, last_heartbeat, display_name, alias_source, last_activity, \
                   last_activity_time, token, emoji) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)";
        self.run(
            sql,
            params![
                new.id.as_str(),
                new.name,
                new.ide,
                new.model,
                new.description,
                json!(new.capabilities).to_string(),
                json!(new.skills).to_string(),
                new.registered_at.to_string(),
                new.last_heartbeat.to_string(),
                new.display_name,
                alias_word(new.alias_source),
                new.last_activity,
                new.last_activity_time.map(|at| at.to_string()),
                token,
                new.emoji,
            ],
        )?;
        Ok(())
    }

    fn update_agent(&mut self, new: &Agent) -> Result<()> {
        let sql = "UPDATE agents SET description = ?2, capabilities = ?3, skills = ?4, \
                   last_heartbeat = ?5, display_name = ?6, alias_source = ?7, last_activity = ?8, \
                   last_activity_time = ?9, emoji = ?10 WHERE id = ?1";
        self.run(
            sql,
            params![
                new.id.as_str(),
                new.description,
                json!(new.capabilities).to_string(),
                json!(new.skills).to_string(),
                new.last_heartbeat.to_string(),
                new.display_name,
                alias_word(new.alias_source),
                new.last_activity,
                new.last_activity_time.map(|at| at.to_string()),
                new.emoji,
            ],
        )?;
        Ok(())
    }

    fn touch_agent(&mut self, id: &AgentId, what: &str, beat: bool, now: Stamp) -> Result<()> {
        let sql = "UPDATE agents SET last_activity = ?2, last_activity_time = ?3, \
                   last_heartbeat = CASE WHEN ?4 THEN ?3 ELSE last_heartbeat END WHERE id = ?1";
        self.run(sql, (id.as_str(), what, now.to_string(), beat))?;
        Ok(())
    }

    fn set_agent_token(&mut self, id: &AgentId, token: &str) -> Result<()> {
        self.run(
            "UPDATE agents SET token = ?2 WHERE id = ?1",
            [id.as_str(), token],
        )?;
        Ok(())
    }

    fn delete_agent(&mut self, id: &AgentId) -> Result<bool> {
        Ok(self.run("DELETE FROM agents WHERE id = ?1", [id.as_str()])? > 0)
    }
}
