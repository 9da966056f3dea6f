//! Connections, and what each is told when it opens.

use std::collections::HashMap;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use postgres::config::{Host, SslMode};
use postgres::{Client, Config, NoTls, Statement};

use crate::limits;
use crate::store::StoreError;

/// Where the database is. Says everything but the password when it is shown.
#[derive(Debug, Clone)]
pub(super) struct Target {
    config: Config,
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        let mut config = Config::from_str(url).map_err(|error| {
            // The URL may hold a password, so it is not repeated.
            StoreError::Failed(format!(
                "the URL of the database cannot be read ({error}); it looks like \
                 postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
            ))
        })?;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(limits::POSTGRES_CONNECT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(limits::POSTGRES_STALL);
        }
        if config.get_application_name().is_none() {
            config.application_name("agentbus");
        }
        refuse_open_network(&config)?;
        Ok(Self { config })
    }
}

/// Refuses to send a password and everything that is said over a network in the clear, unless the
/// URL says that it is meant: connections are not encrypted yet.
fn refuse_open_network(config: &Config) -> Result<(), StoreError> {
    let is_here = |host: &Host| match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
        }
        Host::Unix(_) => true,
    };
    if config.get_ssl_mode() == SslMode::Disable || config.get_hosts().iter().all(is_here) {
        return Ok(());
    }
    Err(StoreError::Failed(
        "the database is on another machine, and connections to PostgreSQL are not encrypted yet; \
         reach it through a tunnel at localhost, or add `?sslmode=disable` to the URL if the \
         network between is yours"
            .to_owned(),
    ))
}

/// A connection with the statements that it has prepared.
pub(super) struct Connection {
    pub(super) client: Client,
    /// As many as there are different statements in the source.
    statements: HashMap<String, Statement>,
}

impl Connection {
    pub(super) fn open(target: &Target) -> Result<Self, StoreError> {
        let mut client = target.config.connect(NoTls)?;
        let stall = millis(limits::POSTGRES_STALL);
        // A commit returns when it is on the disk. A node that is stopped in the middle of a
        // transaction must not hold up the others, nor wait for one that does.
        client.batch_execute(&format!(
            "SET synchronous_commit = on; SET lock_timeout = {stall}; \
             SET idle_in_transaction_session_timeout = {stall}; SET client_min_messages = warning"
        ))?;
        Ok(Self {
            client,
            statements: HashMap::new(),
        })
    }

    pub(super) fn prepare(&mut self, sql: &str) -> Result<Statement, StoreError> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql)?;
        self.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

/// A place for a connection, filled when it is needed and again after it broke.
pub(super) struct Seat {
    target: Target,
    connection: Option<Connection>,
}

impl Seat {
    pub(super) fn new(target: Target, connection: Option<Connection>) -> Self {
        Self { target, connection }
    }

    /// The connection, if there is one.
    pub(super) fn taken(&mut self) -> Option<&mut Connection> {
        self.connection.as_mut()
    }

    /// Begins a transaction. A connection that broke while nobody used it is replaced; nothing was
    /// done on it that could be done twice.
    pub(super) fn begin(&mut self, sql: &str) -> Result<&mut Connection, StoreError> {
        if let Some(connection) = &mut self.connection {
            match connection.client.batch_execute(sql) {
                Ok(()) => {}
                Err(error) if connection.client.is_closed() => {
                    tracing::warn!(%error, "the connection to PostgreSQL broke and is made again");
                    self.connection = None;
                }
                Err(error) => {
                    let _ = connection.client.batch_execute("ROLLBACK");
                    return Err(error.into());
                }
            }
        }
        if self.connection.is_none() {
            let mut connection = Connection::open(&self.target)?;
            connection.client.batch_execute(sql)?;
            self.connection = Some(connection);
        }
        let connection = self.connection.as_mut();
        connection.ok_or_else(|| StoreError::Unreachable("there is no connection".to_owned()))
    }
}

fn millis(duration: Duration) -> u128 {
    duration.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_in_the_clear_over_a_network_unless_that_is_meant() {
        for here in ["localhost", "127.0.0.1", "[::1]", "%2Frun%2Fpostgresql"] {
            Target::parse(&format!("postgresql://u:p@{here}/d")).unwrap();
        }
        let said = Target::parse("postgresql://u:hunter2@db.example/d").unwrap_err();
        let said = said.to_string();
        assert!(
            said.contains("sslmode=disable") && !said.contains("hunter2"),
            "{said}"
        );
        Target::parse("postgresql://u:p@db.example/d?sslmode=disable").unwrap();
    }
}
