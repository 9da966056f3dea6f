//! A connection to the broker that is made again whenever it is lost.
//!
//! A transport has two: a broker that is short of memory or disk stops reading from whoever
//! publishes, and must go on hearing what the consumers have settled.
//!
//! The client library's own recovery is not used. A connection that broke is thrown away with all
//! its channels, and whoever needs one begins on the next with what it knows itself.

use std::sync::Arc;
use std::time::Duration;

use agentbus_transport::TransportError;
use agentbus_transport::remote::Backoff;
use futures_util::StreamExt;
use lapin::options::{ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, ConnectionProperties, Event, ExchangeKind};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::address::Address;
use crate::errors::{answered, asked, carrier, failed};
use crate::limits;
use crate::names::Names;

/// One connection and those that come after it.
pub(crate) struct Line {
    address: Address,
    names: Names,
    purpose: &'static str,
    /// `None` while there is none.
    current: watch::Sender<Option<Arc<Connection>>>,
}

impl Line {
    /// Connects; `purpose` tells an operator which of the two it is.
    pub(crate) async fn open(
        address: &Address,
        names: &Names,
        purpose: &'static str,
    ) -> Result<Arc<Self>, TransportError> {
        let line = Self {
            address: address.clone(),
            names: names.clone(),
            purpose,
            current: watch::Sender::new(None),
        };
        let connection = line.connect().await?;
        line.current.send_replace(Some(connection));
        Ok(Arc::new(line))
    }

    async fn connect(&self) -> Result<Arc<Connection>, TransportError> {
        let properties = ConnectionProperties::default()
            .with_connection_name(format!("agentbus {}", self.purpose).into());
        let tls = self.address.tls()?;
        let runtime = lapin::runtime::default_runtime().map_err(|error| failed(&error))?;
        let connecting =
            Connection::connect_uri_with_config(self.address.uri.clone(), properties, tls, runtime);
        let connection = answered(limits::CONNECT_TIMEOUT, connecting).await?;
        let connection = connection.map_err(|error| failed(&error))?;
        self.declare_exchanges(&connection).await?;
        Ok(Arc::new(connection))
    }

    /// Everything goes through one exchange; it is declared with each connection and never again.
    async fn declare_exchanges(&self, connection: &Connection) -> Result<(), TransportError> {
        let channel = asked(connection.create_channel()).await?;
        let options = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        for name in [self.names.exchange(), self.names.dead()] {
            let nothing = FieldTable::default();
            let declared =
                channel.exchange_declare(name.into(), ExchangeKind::Topic, options, nothing);
            asked(declared).await?;
        }
        Ok(())
    }

    /// The connection, if there is one now.
    pub(crate) fn now(&self) -> Option<Arc<Connection>> {
        let current = self.current.borrow();
        current
            .as_ref()
            .filter(|connection| connection.status().connected())
            .map(Arc::clone)
    }

    /// The connection, for which it waits at most `patience`.
    pub(crate) async fn connection(
        &self,
        patience: Duration,
    ) -> Result<Arc<Connection>, TransportError> {
        let mut changes = self.current.subscribe();
        let standing = async {
            loop {
                if let Some(connection) = self.now() {
                    return Ok(connection);
                }
                // What is lost already may not have been noticed here yet.
                let _ = tokio::time::timeout(limits::LOOK, changes.changed()).await;
            }
        };
        match tokio::time::timeout(patience, standing).await {
            Ok(connection) => connection,
            Err(_) => Err(carrier(format!(
                "the connection to {} is lost and was not made again within {patience:?}",
                self.address.place()
            ))),
        }
    }

    /// A new channel, once there is a connection.
    pub(crate) async fn channel(&self, patience: Duration) -> Result<Channel, TransportError> {
        let connection = self.connection(patience).await?;
        asked(connection.create_channel()).await
    }

    /// A new channel on which every publish is confirmed.
    pub(crate) async fn confirming(&self, patience: Duration) -> Result<Channel, TransportError> {
        let channel = self.channel(patience).await?;
        asked(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(channel)
    }

    /// Keeps a connection until it is over.
    pub(crate) async fn run(self: Arc<Self>, over: CancellationToken) {
        loop {
            let connection = self.current.borrow().clone();
            if let Some(connection) = connection {
                tokio::select! {
                    () = over.cancelled() => break,
                    () = lost(&connection) => {}
                }
                let place = self.address.place();
                tracing::warn!(
                    place,
                    "the connection to RabbitMQ was lost; connecting again"
                );
                self.current.send_replace(None);
            }
            let again = self.reconnect();
            tokio::select! {
                () = over.cancelled() => break,
                connection = again => self.current.send_replace(Some(connection)),
            };
        }
        self.hang_up().await;
    }

    async fn reconnect(&self) -> Arc<Connection> {
        let mut pause = backoff();
        loop {
            match self.connect().await {
                Ok(connection) => return connection,
                Err(error) => tracing::debug!(%error, "RabbitMQ does not answer"),
            }
            pause.wait().await;
        }
    }

    async fn hang_up(&self) {
        if let Some(connection) = self.current.send_replace(None) {
            // A connection that broke meanwhile is closed, too.
            let _ = asked(connection.close(200, ShortString::from("done"))).await;
        }
    }

    /// Says which broker it is that does not answer.
    pub(crate) fn unreachable(address: &Address, error: TransportError) -> TransportError {
        match error {
            TransportError::Carrier { transport, reason } => TransportError::Carrier {
                transport,
                reason: format!(
                    "cannot reach {}: {reason}; {}",
                    address.place(),
                    address.hint()
                ),
            },
            other => other,
        }
    }
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line")
            .field("purpose", &self.purpose)
            .finish_non_exhaustive()
    }
}

/// The pauses between attempts to reach the broker.
pub(crate) const fn backoff() -> Backoff {
    Backoff::new(limits::RECONNECT_DELAY_MIN, limits::RECONNECT_DELAY_MAX)
}

/// Waits until a connection is of no more use.
async fn lost(connection: &Connection) {
    let mut events = std::pin::pin!(connection.events_listener());
    while connection.status().connected() {
        match tokio::time::timeout(limits::LOOK, events.next()).await {
            Ok(Some(Event::ConnectionBlocked(reason))) => {
                tracing::warn!(
                    reason,
                    "RabbitMQ is short of something and takes no publishes"
                );
            }
            Ok(Some(Event::ConnectionUnblocked)) => {
                tracing::info!("RabbitMQ takes publishes again");
            }
            // The state tells whether it was the connection that failed.
            Ok(Some(_)) | Err(_) => {}
            Ok(None) => return,
        }
    }
}
