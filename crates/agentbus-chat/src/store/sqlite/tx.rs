//! A transaction on a connection, and the helpers that every topic of rows uses.

use std::cell::Cell;

use rusqlite::types::FromSql;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Params, Row};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Stamp;
use crate::store::{Effects, StoreError};

pub(super) type Result<T> = std::result::Result<T, StoreError>;
pub(super) type RowResult<T> = std::result::Result<T, rusqlite::Error>;

/// A transaction. What it changes is told to the feed after the commit.
pub(super) struct SqliteTx<'c> {
    pub(super) connection: &'c Connection,
    pub(super) effects: Effects,
    /// What was put on the list of messages to be indexed, by its cost.
    pub(super) unindexed: Cell<usize>,
    /// Whether that list was worked off, perhaps by a job that was undone.
    pub(super) indexed: Cell<bool>,
}

impl<'c> SqliteTx<'c> {
    pub(super) fn new(connection: &'c Connection) -> Self {
        Self {
            connection,
            effects: Effects::default(),
            unindexed: Cell::new(0),
            indexed: Cell::new(false),
        }
    }

    pub(super) fn prepare(&self, sql: &str) -> Result<CachedStatement<'c>> {
        Ok(self.connection.prepare_cached(sql)?)
    }

    /// Runs a statement; how many rows it changed.
    pub(super) fn run(&self, sql: &str, params: impl Params) -> Result<usize> {
        Ok(self.prepare(sql)?.execute(params)?)
    }

    /// Reads at most one row.
    pub(super) fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> RowResult<T>,
    ) -> Result<Option<T>> {
        Ok(self.prepare(sql)?.query_row(params, read).optional()?)
    }

    /// Reads one value, or its default where there is no row.
    pub(super) fn value<T: FromSql + Default>(&self, sql: &str, params: impl Params) -> Result<T> {
        let value = self.one(sql, params, |row| row.get(0))?;
        Ok(value.unwrap_or_default())
    }

    /// Reads all rows.
    pub(super) fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> RowResult<T>,
    ) -> Result<Vec<T>> {
        let mut statement = self.prepare(sql)?;
        let rows = statement.query_map(params, read)?;
        Ok(rows.collect::<RowResult<_>>()?)
    }
}

/// Reads a time. One that no release ever wrote becomes 1970 rather than an error: a single broken
/// row must not make a whole list unreadable, as it did in AgentChatBus.
pub(super) fn stamp(row: &Row<'_>, at: usize) -> RowResult<Stamp> {
    Ok(maybe_stamp(row, at)?.unwrap_or(Stamp::from_micros(0)))
}

pub(super) fn maybe_stamp(row: &Row<'_>, at: usize) -> RowResult<Option<Stamp>> {
    let text: Option<String> = row.get(at)?;
    Ok(text.as_deref().and_then(Stamp::parse))
}

/// Reads a JSON column. Text that is no JSON is kept as a string, so that it is not lost.
pub(super) fn json(row: &Row<'_>, at: usize) -> RowResult<Option<Value>> {
    let text: Option<String> = row.get(at)?;
    Ok(text.map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text))))
}

/// Reads a JSON list, empty where there is none.
pub(super) fn list<T: DeserializeOwned>(row: &Row<'_>, at: usize) -> RowResult<Vec<T>> {
    let text: Option<String> = row.get(at)?;
    let list = text.and_then(|text| serde_json::from_str(&text).ok());
    Ok(list.unwrap_or_default())
}

pub(super) fn json_text(value: Option<&Value>) -> Option<String> {
    value.map(Value::to_string)
}

/// A limit as SQLite wants it; 0 means none.
pub(super) fn limit_or_all(limit: usize) -> i64 {
    match limit {
        0 => -1,
        limit => i64::try_from(limit).unwrap_or(-1),
    }
}

pub(super) fn count(number: i64) -> usize {
    usize::try_from(number).unwrap_or(0)
}
