//! Connections, and what each is told when it opens.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use postgres::config::Host;
use postgres::{Client, Config, NoTls, Statement};

use super::handshake::{Encrypted, Encryption};
use super::login::{Login, Plain};
use super::tls;
use crate::limits;
use crate::store::StoreError;

/// Where the database is, and how it is reached. Says everything but the password when it is shown.
#[derive(Clone)]
pub(super) struct Target {
    config: Config,
    /// `None` where nothing is encrypted.
    tls: Option<Encryption>,
    /// How long each login may take.
    login: Duration,
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
        let login = config.get_connect_timeout().copied();
        let login = login.unwrap_or(limits::POSTGRES_CONNECT);
        Ok(Self { config, tls, login })
    }

    fn connect(&self) -> Result<Client, StoreError> {
        self.dial().map_err(tls::explained)
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Connects and logs in.
    pub(super) fn dial(&self) -> Result<Client, postgres::Error> {
        let login = Login::new(self.login);
        let hosts = self.config.get_hosts();
        let client = match self.tls.clone() {
            Some(how) => self.config.connect(Encrypted {
                how,
                login: login.clone(),
            }),
            None if hosts.iter().any(|host| matches!(host, Host::Unix(_))) => {
                self.config.connect(NoTls)
            }
            None => Plain::config(&self.config).connect(Plain(login.clone())),
        }?;
        login.end();
        Ok(client)
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
    use std::net::{TcpListener, TcpStream};
    use std::path::Path;
    use std::sync::Arc;
    use std::thread;

    use rustls::crypto::ring;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ServerConfig, ServerConnection};

    use super::*;

    /// Longest time that the server waits for the client to hang up; nothing here takes so long.
    const GUARD: Duration = Duration::from_secs(20);

    /// Has the first connection to a port, with a limit on its reads.
    fn accepts(then: impl FnOnce(TcpStream) + Send + 'static) -> (u16, thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (socket, _) = listener.accept().unwrap();
            socket.set_read_timeout(Some(GUARD)).unwrap();
            then(socket);
        });
        (port, server)
    }

    /// Answers the first eight bytes, which ask whether a connection is to be encrypted where that is
    /// asked, and then says nothing.
    fn falls_silent(answer: &'static [u8]) -> (u16, thread::JoinHandle<()>) {
        accepts(move |mut socket| {
            let mut asked = [0; 8];
            socket.read_exact(&mut asked).unwrap();
            socket.write_all(answer).unwrap();
            let _ = socket.read_to_end(&mut Vec::new());
        })
    }

    /// Encrypts, and then says nothing. Its certificate is left in a file.
    fn encrypts_and_falls_silent(authority: &Path) -> (u16, thread::JoinHandle<()>) {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(authority, made.cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        accepts(move |mut socket| {
            let mut asked = [0; 8];
            socket.read_exact(&mut asked).unwrap();
            socket.write_all(b"S").unwrap();
            let mut tls = ServerConnection::new(Arc::new(config)).unwrap();
            while tls.is_handshaking() {
                tls.complete_io(&mut socket).unwrap();
            }
            let _ = socket.read_to_end(&mut Vec::new());
        })
    }

    /// Gives up on the login soon, and says how.
    fn logs_in(url: &str) -> String {
        let mut target = Target::parse(url).unwrap();
        // Only the login: that the handshake before it takes longer is no fault here.
        target.login = Duration::from_millis(20);
        let error = target.connect().map(|_| ()).unwrap_err();
        assert!(matches!(error, StoreError::Unreachable(_)), "{error}");
        error.to_string()
    }

    /// That the login was done.
    const ADMITTED: &[u8] = b"R\0\0\0\x08\0\0\0\0";

    /// That the server waits for a statement.
    const READY: &[u8] = b"Z\0\0\0\x05I";

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

    #[test]
    fn a_server_that_falls_silent_in_the_login_is_not_waited_for() {
        let silent = "the login did not end within 20ms";
        // Before the first word of the login, and in the midst of it.
        for answer in [b"".as_slice(), ADMITTED] {
            let (port, server) = falls_silent(answer);
            let error = logs_in(&format!("postgresql://u@127.0.0.1:{port}/d"));
            assert!(error.contains(silent), "{error}");
            server.join().unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let authority = folder.path().join("cert.pem");
        let (port, server) = encrypts_and_falls_silent(&authority);
        let error = logs_in(&format!(
            "postgresql://u@127.0.0.1:{port}/d?sslrootcert={}",
            authority.display()
        ));
        assert!(error.contains(silent), "{error}");
        server.join().unwrap();
    }

    #[test]
    fn the_time_of_the_login_does_not_end_what_comes_after_it() {
        let login = Duration::from_millis(500);
        let (port, server) = accepts(move |mut socket| {
            let mut length = [0; 4];
            socket.read_exact(&mut length).unwrap();
            let mut rest = vec![0; u32::from_be_bytes(length) as usize - 4];
            socket.read_exact(&mut rest).unwrap();
            socket.write_all(&[ADMITTED, READY].concat()).unwrap();
            // A statement without a word, which takes longer than the login may.
            let mut asked = [0; 6];
            socket.read_exact(&mut asked).unwrap();
            thread::sleep(login + Duration::from_millis(100));
            let done = b"I\0\0\0\x04".as_slice();
            socket.write_all(&[done, READY].concat()).unwrap();
            let _ = socket.read_to_end(&mut Vec::new());
        });
        // Named by its address alone, for which the driver has no name to compare.
        let url = format!("postgresql://u@/d?hostaddr=127.0.0.1&port={port}");
        let mut target = Target::parse(&url).unwrap();
        target.login = login;
        let mut client = target.connect().unwrap();
        client.batch_execute("").unwrap();
        drop(client);
        server.join().unwrap();
    }
}
