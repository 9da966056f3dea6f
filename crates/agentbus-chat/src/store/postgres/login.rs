//! A login that ends within a time, over a connection that is encrypted or not.
//!
//! The driver bounds how long a server may take to accept a connection, and not how long the login
//! may take: one that falls silent there would be waited for for ever. So what the driver reads and
//! writes goes through here, and fails when the login is not over in time. Afterwards nothing is
//! bounded here: a statement may take its time.
//!
//! A socket in the file system the driver hands to nobody, so a login over one has no limit.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use postgres::config::{SslMode, SslNegotiation};
use postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use postgres::{Config, Socket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long a login may take, and whether it is over.
#[derive(Clone)]
pub(super) struct Login {
    limit: Duration,
    is_over: Arc<AtomicBool>,
}

impl Login {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            is_over: Arc::default(),
        }
    }

    /// Says that the login is over: from here on the server may be silent.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// A connection over which the login begins now, and what binds the login to its encryption.
    pub(super) fn begin<S>(self, inner: S, binding: fn(&S) -> ChannelBinding) -> Timed<S> {
        let end = Box::pin(sleep(self.limit));
        Timed {
            inner,
            binding,
            running: Some((self, end)),
        }
    }
}

/// A connection that fails when its login takes too long.
pub(super) struct Timed<S> {
    inner: S,
    binding: fn(&S) -> ChannelBinding,
    /// `None` once it was noticed that the login is over.
    running: Option<(Login, Pin<Box<Sleep>>)>,
}

impl<S> Timed<S> {
    /// Fails when the time is up; else whoever waits is woken when it is.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let Some((login, end)) = &mut self.running else {
            return Ok(());
        };
        if login.is_over.load(Ordering::Relaxed) {
            self.running = None;
            return Ok(());
        }
        match end.as_mut().poll(context) {
            Poll::Pending => Ok(()),
            Poll::Ready(()) => Err(unfinished("the login", login.limit)),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(context)?;
        Pin::new(&mut this.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check(context)?;
        Pin::new(&mut this.inner).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(context)?;
        Pin::new(&mut this.inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Timed<S> {
    fn channel_binding(&self) -> ChannelBinding {
        (self.binding)(&self.inner)
    }
}

/// Leaves connections as they are, in the place where others are encrypted.
pub(super) struct Plain(pub(super) Login);

impl Plain {
    /// What the driver is told, so that it neither asks the server nor goes past us.
    pub(super) fn config(of: &Config) -> Config {
        let mut config = of.clone();
        // It wants a name for the certificate that there is not.
        if config.get_hosts().is_empty() {
            for address in of.get_hostaddrs() {
                config.host(&address.to_string());
            }
        }
        config.ssl_mode(SslMode::Require);
        config.ssl_negotiation(SslNegotiation::Direct);
        config
    }
}

impl MakeTlsConnect<Socket> for Plain {
    type Stream = Timed<Socket>;
    type TlsConnect = Self;
    type Error = Infallible;

    fn make_tls_connect(&mut self, _: &str) -> Result<Self, Infallible> {
        Ok(Self(self.0.clone()))
    }
}

impl TlsConnect<Socket> for Plain {
    type Stream = Timed<Socket>;
    type Error = Infallible;
    type Future = Ready<Result<Timed<Socket>, Infallible>>;

    fn connect(self, socket: Socket) -> Self::Future {
        ready(Ok(self.0.begin(socket, |_| ChannelBinding::none())))
    }
}

/// What to do when a server says nothing.
pub(super) const ADVICE: &str = "look whether a database listens there, or give it longer with \
     `?connect_timeout=SECONDS`";

/// Not an error of the certificate: the same server may well answer the next time.
pub(super) fn unfinished(what: &str, limit: Duration) -> io::Error {
    let text = format!("{what} did not end within {limit:?}; {ADVICE}");
    io::Error::new(ErrorKind::TimedOut, text)
}
