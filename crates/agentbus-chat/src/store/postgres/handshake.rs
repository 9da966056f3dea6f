//! Encrypted connections, made within a time.
//!
//! The driver bounds how long a server may take to accept a connection, and not how long it may
//! take to say whether it encrypts, nor to agree on a secret: one that accepts and then says nothing
//! would be waited for for ever, and with it whoever writes, reads or listens. So the question is
//! asked here, and the driver is told that there is none. What comes after the secret, the login,
//! has a time of its own.

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::time::Duration;

use postgres::Socket;
use postgres::config::SslNegotiation;
use postgres::tls::{MakeTlsConnect, TlsConnect, TlsStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::login::{Login, Timed, unfinished};

/// Asks a server of PostgreSQL whether it encrypts: the length of the question, and its number.
const QUESTION: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// That it does.
const YES: u8 = b'S';

type Inner = <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect;
type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// How connections are encrypted.
#[derive(Clone)]
pub(super) struct Encryption {
    inner: MakeRustlsConnect,
    /// Whether the server is asked first.
    negotiation: SslNegotiation,
    /// How long each handshake may take, with the question before it.
    pub(super) limit: Duration,
}

impl Encryption {
    pub(super) const fn new(
        inner: MakeRustlsConnect,
        negotiation: SslNegotiation,
        limit: Duration,
    ) -> Self {
        Self {
            inner,
            negotiation,
            limit,
        }
    }
}

/// Makes connections encrypted, and has their login end in time.
pub(super) struct Encrypted {
    pub(super) how: Encryption,
    pub(super) login: Login,
}

impl MakeTlsConnect<Socket> for Encrypted {
    type Stream = Timed<Stream>;
    type TlsConnect = Handshake;
    type Error = Infallible;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, Infallible> {
        let inner = MakeTlsConnect::<Socket>::make_tls_connect(&mut self.how.inner, host)?;
        Ok(Handshake {
            inner,
            negotiation: self.how.negotiation,
            limit: self.how.limit,
            login: self.login.clone(),
        })
    }
}

/// The handshake of one connection.
pub(super) struct Handshake {
    inner: Inner,
    negotiation: SslNegotiation,
    limit: Duration,
    login: Login,
}

impl Handshake {
    async fn agree(self, mut socket: Socket) -> io::Result<Stream> {
        if self.negotiation == SslNegotiation::Postgres {
            ask(&mut socket).await?;
        }
        self.inner.connect(socket).await
    }
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Timed<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Timed<Stream>>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        let (limit, login) = (self.limit, self.login.clone());
        Box::pin(async move {
            let within = tokio::time::timeout(limit, self.agree(socket)).await;
            let stream = within.unwrap_or_else(|_| Err(unfinished("it", limit)))?;
            Ok(login.begin(stream, TlsStream::channel_binding))
        })
    }
}

/// Asks whether the server encrypts. It says so in one byte, and no more is read: what came behind
/// it could be anybody's.
async fn ask(socket: &mut Socket) -> io::Result<()> {
    socket.write_all(&QUESTION).await?;
    match socket.read_u8().await? {
        YES => Ok(()),
        // Of the kind of a certificate that is not accepted: asking again does not help.
        _ => Err(io::Error::new(
            ErrorKind::InvalidData,
            "server does not support TLS",
        )),
    }
}
