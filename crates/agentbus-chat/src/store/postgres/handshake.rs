//! Encrypted connections, made within a time.
//!
//! The driver bounds how long a server may take to accept a connection, and not how long it may
//! take to agree on a secret: one that accepts and then says nothing would be waited for for ever,
//! and with it whoever writes, reads or listens.

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::time::Duration;

use postgres::Socket;
use postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

type Inner = <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect;
type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// Makes connections encrypted.
#[derive(Clone)]
pub(super) struct Encryption {
    inner: MakeRustlsConnect,
    /// How long each handshake may take.
    limit: Duration,
}

impl Encryption {
    pub(super) const fn new(inner: MakeRustlsConnect, limit: Duration) -> Self {
        Self { inner, limit }
    }
}

impl MakeTlsConnect<Socket> for Encryption {
    type Stream = Stream;
    type TlsConnect = Handshake;
    type Error = Infallible;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, Infallible> {
        let inner = MakeTlsConnect::<Socket>::make_tls_connect(&mut self.inner, host)?;
        let limit = self.limit;
        Ok(Handshake { inner, limit })
    }
}

/// The handshake of one connection.
pub(super) struct Handshake {
    inner: Inner,
    limit: Duration,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        let Self { inner, limit } = self;
        let handshake = inner.connect(socket);
        Box::pin(async move {
            let within = tokio::time::timeout(limit, handshake).await;
            within.unwrap_or_else(|_| Err(unfinished(limit)))
        })
    }
}

/// Not an error of the certificate: the same server may well answer the next time.
fn unfinished(limit: Duration) -> io::Error {
    let text = format!(
        "it did not end within {limit:?}; look whether a database listens there, or give it longer \
         with `?connect_timeout=SECONDS`"
    );
    io::Error::new(ErrorKind::TimedOut, text)
}
