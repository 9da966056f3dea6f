//! Connections, and what each is told when it opens.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use postgres::{Client, Config, NoTls, Statement};

use super::handshake::Encryption;
use super::tls;
use crate::limits;
use crate::store::StoreError;

/// Where the database is, and how it is reached. Says everything but the password when it is shown.
#[derive(Clone)]
pub(super) struct Target {
    config: Config,
    /// `None` where nothing is encrypted.
    tls: Option<Encryption>,
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        tls::refuse_broken_password(url)?;
        let (url, authority) = tls::authority_of(url);
        let mut config = Config::from_str(&url).map_err(|error| {
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
        let tls = tls::connector(&mut config, authority)?;
        Ok(Self { config, tls })
    }

    fn connect(&self) -> Result<Client, StoreError> {
        match &self.tls {
            Some(tls) => self.config.connect(tls.clone()).map_err(tls::explained),
            None => Ok(self.config.connect(NoTls)?),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("config", &self.config)
            .field("encrypted", &self.tls.is_some())
            .finish()
    }
}

/// A connection with the statements that it has prepared.
pub(super) struct Connection {
    pub(super) client: Client,
    /// As many as there are different statements in the source.
    statements: HashMap<String, Statement>,
}

impl Connection {
    pub(super) fn open(target: &Target) -> Result<Self, StoreError> {
        let mut client = target.connect()?;
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
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Longest time that the server waits for the client to hang up; nothing here takes so long.
    const GUARD: Duration = Duration::from_secs(20);

    /// Answers the question of one connection whether it is to be encrypted, and then says nothing.
    fn falls_silent(answer: &'static [u8]) -> (u16, thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            socket.set_read_timeout(Some(GUARD)).unwrap();
            let mut asked = [0; 8];
            socket.read_exact(&mut asked).unwrap();
            socket.write_all(answer).unwrap();
            let _ = socket.read_to_end(&mut Vec::new());
        });
        (port, server)
    }

    #[test]
    fn a_server_that_falls_silent_in_the_handshake_or_before_is_not_waited_for() {
        for answer in [b"S".as_slice(), b""] {
            let (port, server) = falls_silent(answer);
            let url = format!("postgresql://u@127.0.0.1:{port}/d?sslmode=require");
            let mut target = Target::parse(&url).unwrap();
            // Only the handshake: that the connection takes longer is no fault here.
            target.tls.as_mut().unwrap().limit = Duration::from_millis(20);
            let error = target.connect().map(|_| ()).unwrap_err();
            assert!(matches!(error, StoreError::Unreachable(_)), "{error}");
            assert!(error.to_string().contains("within 20ms"), "{error}");
            server.join().unwrap();
        }
    }
}
