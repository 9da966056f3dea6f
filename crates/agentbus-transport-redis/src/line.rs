//! The writer's connection, which the writer turns itself.
//!
//! The library would give it a task of its own, and every publish would change tasks twice more on
//! its way to the server and back. Here whoever waits for an answer moves the bytes meanwhile.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionAddr, RedisError, Value};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::commands::{answer, connect};
use crate::limits;

/// A connection whose answers come in the order of its commands.
pub(crate) struct Line {
    connection: MultiplexedConnection,
    /// What moves the bytes; `None` once the connection has ended, and where a task of the
    /// library does it.
    driver: Option<BoxFuture<'static, ()>>,
    answers: FuturesOrdered<BoxFuture<'static, Result<Value, RedisError>>>,
    ended: bool,
}

impl Line {
    pub(crate) async fn open(client: &Client) -> Result<Self, RedisError> {
        let (connection, driver) = match client.get_connection_info().addr() {
            ConnectionAddr::Tcp(host, port) => {
                let opening = timeout(limits::CONNECT_TIMEOUT, open(client, host, *port));
                let opened = opening.await;
                opened.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??
            }
            // Only the library knows how to encrypt, and only with a task of its own.
            _ => (connect(client, Some(limits::RESPONSE_TIMEOUT)).await?, None),
        };
        Ok(Self {
            connection,
            driver,
            answers: FuturesOrdered::new(),
            ended: false,
        })
    }

    /// Sends a command as soon as the answer to an earlier one, or its own, is waited for.
    pub(crate) fn send(&mut self, cmd: Cmd) {
        let mut connection = self.connection.clone();
        self.answers.push_back(Box::pin(async move {
            answer(connection.send_packed_command(&cmd).await)
        }));
    }

    /// Waits for the next answer, or for the end of the connection. It may be given up and waited
    /// for again.
    pub(crate) async fn answer(&mut self) -> Result<Value, RedisError> {
        poll_fn(|cx| self.poll_answer(cx)).await
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Value, RedisError>> {
        // First what is to be sent comes to the driver, then what it has read to its waiter.
        if let Poll::Ready(Some(answer)) = self.answers.poll_next_unpin(cx) {
            return Poll::Ready(answer);
        }
        if let Some(driver) = &mut self.driver
            && driver.as_mut().poll(cx).is_ready()
        {
            self.driver = None;
            self.ended = true;
        }
        match self.answers.poll_next_unpin(cx) {
            Poll::Ready(Some(answer)) => Poll::Ready(answer),
            Poll::Ready(None) if self.ended => {
                Poll::Ready(Err(io::Error::from(io::ErrorKind::BrokenPipe).into()))
            }
            _ => Poll::Pending,
        }
    }
}

/// A connection and what moves its bytes.
type Opened = (MultiplexedConnection, Option<BoxFuture<'static, ()>>);

async fn open(client: &Client, host: &str, port: u16) -> Result<Opened, RedisError> {
    let stream = TcpStream::connect((host, port)).await?;
    // A batch must not wait until the server has acknowledged the one before it.
    stream.set_nodelay(true)?;
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(limits::RESPONSE_TIMEOUT));
    let login = client.get_connection_info().redis_settings();
    let (connection, driver) =
        MultiplexedConnection::new_with_config(login, stream, config).await?;
    Ok((connection, Some(Box::pin(driver))))
}
