//! A transaction on a connection, and the helpers that every topic of rows uses.

use std::cell::RefCell;

use postgres::Row;
use postgres::types::{FromSql, ToSql};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::connection::Connection;
use crate::Stamp;
use crate::store::{Effects, StoreError};

pub(super) type Result<T> = std::result::Result<T, StoreError>;
pub(super) type Param<'p> = &'p (dyn ToSql + Sync);

/// A transaction. What it changes is told to the feed after the commit.
pub(super) struct PgTx<'c> {
    /// Asking takes the connection as well as changing does; both happen on one thread, one after
    /// the other.
    connection: RefCell<&'c mut Connection>,
    /// The node that this process is.
    pub(super) node: i32,
    pub(super) effects: Effects,
}

impl<'c> PgTx<'c> {
    pub(super) fn new(connection: &'c mut Connection, node: i32) -> Self {
        Self {
            connection: RefCell::new(connection),
            node,
            effects: Effects::default(),
        }
    }

    /// Runs statements without parameters.
    pub(super) fn batch(&self, sql: &str) -> Result<()> {
        Ok(self.connection.borrow_mut().client.batch_execute(sql)?)
    }

    /// Runs a statement; how many rows it changed.
    pub(super) fn run(&self, sql: &str, params: &[Param<'_>]) -> Result<usize> {
        let mut connection = self.connection.borrow_mut();
        let statement = connection.prepare(sql)?;
        let changed = connection.client.execute(&statement, params)?;
        Ok(usize::try_from(changed).unwrap_or(usize::MAX))
    }

    /// Reads all rows.
    pub(super) fn all<T>(
        &self,
        sql: &str,
        params: &[Param<'_>],
        read: impl FnMut(&Row) -> Result<T>,
    ) -> Result<Vec<T>> {
        let rows = {
            let mut connection = self.connection.borrow_mut();
            let statement = connection.prepare(sql)?;
            connection.client.query(&statement, params)?
        };
        rows.iter().map(read).collect()
    }

    /// Reads at most one row.
    pub(super) fn one<T>(
        &self,
        sql: &str,
        params: &[Param<'_>],
        read: impl FnMut(&Row) -> Result<T>,
    ) -> Result<Option<T>> {
        Ok(self.all(sql, params, read)?.into_iter().next())
    }

    /// Reads one value, or its default where there is no row.
    pub(super) fn value<T>(&self, sql: &str, params: &[Param<'_>]) -> Result<T>
    where
        T: for<'r> FromSql<'r> + Default,
    {
        let value = self.one(sql, params, |row| get(row, 0))?;
        Ok(value.unwrap_or_default())
    }

    /// Counts rows.
    pub(super) fn count(&self, sql: &str, params: &[Param<'_>]) -> Result<usize> {
        let number: i64 = self.value(sql, params)?;
        Ok(usize::try_from(number).unwrap_or(0))
    }
}

pub(super) fn get<T: for<'r> FromSql<'r>>(row: &Row, at: usize) -> Result<T> {
    Ok(row.try_get(at)?)
}

pub(super) fn stamp(row: &Row, at: usize) -> Result<Stamp> {
    Ok(Stamp::from_micros(get(row, at)?))
}

pub(super) fn maybe_stamp(row: &Row, at: usize) -> Result<Option<Stamp>> {
    let micros: Option<i64> = get(row, at)?;
    Ok(micros.map(Stamp::from_micros))
}

/// Reads a JSON column. Text that is no JSON is kept as a string, so that it is not lost.
pub(super) fn json(row: &Row, at: usize) -> Result<Option<Value>> {
    let text: Option<String> = get(row, at)?;
    Ok(text.map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text))))
}

/// Reads a JSON list, empty where there is none.
pub(super) fn list<T: DeserializeOwned>(row: &Row, at: usize) -> Result<Vec<T>> {
    let text: String = get(row, at)?;
    Ok(serde_json::from_str(&text).unwrap_or_default())
}

pub(super) fn json_text(value: Option<&Value>) -> Option<String> {
    value.map(Value::to_string)
}

pub(super) fn micros(at: Option<Stamp>) -> Option<i64> {
    at.map(Stamp::micros)
}

/// A limit as PostgreSQL wants it; 0 means none.
pub(super) fn limit_or_all(limit: usize) -> Option<i64> {
    i64::try_from(limit).ok().filter(|limit| *limit > 0)
}
