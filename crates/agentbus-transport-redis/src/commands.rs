//! Connections, and commands that survive the loss of one.

use std::sync::Arc;
use std::time::Duration;

use agentbus_transport::TransportError;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, Pipeline, RedisError, ServerErrorKind, Value,
};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::limits;
use crate::scripts::Step;

/// The transport's name.
pub(crate) const NAME: &str = "redis";

/// The shared connection for everything that does not block.
pub(crate) struct Commands {
    client: Client,
    current: Mutex<Current>,
    over: CancellationToken,
}

/// The connection, with a number by which those who find it broken agree which one it was.
#[derive(Default)]
struct Current {
    number: u64,
    connection: Option<MultiplexedConnection>,
}

/// Makes one command again for each attempt.
pub(crate) enum Order {
    One(Cmd),
    Script(&'static Step, Cmd),
    Many(Pipeline),
}

impl Commands {
    pub(crate) fn new(client: Client, over: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            client,
            current: Mutex::default(),
            over,
        })
    }

    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) const fn over(&self) -> &CancellationToken {
        &self.over
    }

    /// Runs an order once.
    pub(crate) async fn once(&self, order: &Order) -> Result<Value, RedisError> {
        let (number, mut connection) = self.connection().await?;
        let outcome = run(&mut connection, order).await;
        if let Err(error) = &outcome
            && is_loss(error)
        {
            self.give_up(number).await;
        }
        outcome
    }

    /// Runs an order until the server has answered it, over reconnects. Only for what may be done
    /// twice.
    pub(crate) async fn patiently(
        &self,
        order: Order,
        within: Duration,
    ) -> Result<Value, TransportError> {
        let deadline = Instant::now() + within;
        let mut pause = Backoff::default();
        loop {
            let error = match self.once(&order).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if !may_pass(&error) || Instant::now() >= deadline {
                return Err(failed(&error));
            }
            tokio::select! {
                () = self.over.cancelled() => return Err(TransportError::Closed),
                () = pause.wait() => {}
            }
        }
    }

    /// Runs a script in the same way.
    pub(crate) async fn script(
        &self,
        step: &'static Step,
        fill: impl FnOnce(&mut Cmd),
    ) -> Result<Value, TransportError> {
        let mut cmd = step.call();
        fill(&mut cmd);
        let order = Order::Script(step, cmd);
        self.patiently(order, limits::SETTLE_TIMEOUT).await
    }

    async fn connection(&self) -> Result<(u64, MultiplexedConnection), RedisError> {
        let mut current = self.current.lock().await;
        if let Some(connection) = &current.connection {
            return Ok((current.number, connection.clone()));
        }
        let connection = connect(&self.client, Some(limits::RESPONSE_TIMEOUT)).await?;
        current.number += 1;
        current.connection = Some(connection.clone());
        Ok((current.number, connection))
    }

    /// Lets go of a broken connection, unless somebody has made a new one already.
    async fn give_up(&self, number: u64) {
        let mut current = self.current.lock().await;
        if current.number == number {
            current.connection = None;
        }
    }
}

impl std::fmt::Debug for Commands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Commands").finish_non_exhaustive()
    }
}

/// Makes a connection. `patience` is how long each answer may take; a read that waits for messages
/// has none.
pub(crate) async fn connect(
    client: &Client,
    patience: Option<Duration>,
) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(limits::CONNECT_TIMEOUT))
        .set_response_timeout(patience);
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

/// Runs an order on a connection; a script that the server does not know is made known to it.
pub(crate) async fn run(
    connection: &mut MultiplexedConnection,
    order: &Order,
) -> Result<Value, RedisError> {
    match order {
        Order::One(cmd) => answer(connection.send_packed_command(cmd).await),
        Order::Many(pipeline) => pipeline.query_async(connection).await,
        Order::Script(step, cmd) => {
            match answer(connection.send_packed_command(cmd).await) {
                Err(error) if error.code() == Some("NOSCRIPT") => {}
                outcome => return outcome,
            }
            answer(connection.send_packed_command(&step.load()).await)?;
            answer(connection.send_packed_command(cmd).await)
        }
    }
}

/// An error that came as a value is an error all the same.
pub(crate) fn answer(outcome: Result<Value, RedisError>) -> Result<Value, RedisError> {
    outcome.and_then(Value::extract_error)
}

/// Whether the connection is of no more use.
pub(crate) fn is_loss(error: &RedisError) -> bool {
    error.is_io_error() || error.is_connection_dropped() || error.is_unrecoverable_error()
}

/// Whether the same may succeed in a while.
pub(crate) fn may_pass(error: &RedisError) -> bool {
    const PASSING: [&str; 5] = ["LOADING", "BUSY", "MASTERDOWN", "TRYAGAIN", "READONLY"];
    is_loss(error)
        || error.is_connection_refusal()
        || error.is_timeout()
        || code(error).is_some_and(|code| PASSING.contains(&&*code))
}

/// The server's word for an error; of a transaction, the word of its first command.
fn code(error: &RedisError) -> Option<String> {
    if error.kind() != ErrorKind::Server(ServerErrorKind::ExecAbort) {
        return error.code().map(str::to_owned);
    }
    let errors = error.clone().into_server_errors()?;
    errors.first().map(|(_, error)| error.code().to_owned())
}

/// The error as users of the transport see it.
pub(crate) fn failed(error: &RedisError) -> TransportError {
    let refused = matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"))
        || error.kind() == ErrorKind::AuthenticationFailed;
    let reason = error.to_string();
    if refused {
        return TransportError::Refused {
            transport: NAME,
            reason: format!("{reason}; check the user and the password in the URL"),
        };
    }
    TransportError::Carrier {
        transport: NAME,
        reason,
    }
}

pub(crate) fn carrier(reason: impl Into<String>) -> TransportError {
    TransportError::Carrier {
        transport: NAME,
        reason: reason.into(),
    }
}

/// Pauses that grow.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(limits::RECONNECT_DELAY_MIN)
    }
}

impl Backoff {
    pub(crate) async fn wait(&mut self) {
        sleep(self.0).await;
        self.0 = (self.0 * 2).min(limits::RECONNECT_DELAY_MAX);
    }
}
