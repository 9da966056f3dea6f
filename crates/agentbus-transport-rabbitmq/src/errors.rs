//! Errors of the client library as users of the transport see them.

use std::time::Duration;

use agentbus_transport::TransportError;
use lapin::ErrorKind;
use tokio::time::timeout;

use crate::limits;

/// The transport's name.
pub(crate) const NAME: &str = "rabbitmq";

/// What the broker answers to who may not enter, and to who names a virtual host that is not there.
const REFUSALS: [u16; 2] = [403, 530];

pub(crate) fn carrier(reason: impl Into<String>) -> TransportError {
    TransportError::Carrier {
        transport: NAME,
        reason: reason.into(),
    }
}

pub(crate) fn failed(error: &lapin::Error) -> TransportError {
    if matches!(error.kind(), ErrorKind::ChannelsLimitReached) {
        return TransportError::TooMany {
            transport: NAME,
            what: "subscriptions",
            limit: limits::SUBSCRIPTIONS,
        };
    }
    match reply(error) {
        Some((code, text)) if REFUSALS.contains(&code) => TransportError::Refused {
            transport: NAME,
            reason: format!("{text}; check the user, the password and the virtual host in the URL"),
        },
        Some((_, text)) => carrier(text),
        None => carrier(error.to_string()),
    }
}

/// The code and the words with which the broker ended a channel or a connection.
pub(crate) fn reply(error: &lapin::Error) -> Option<(u16, String)> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => {
            Some((error.get_id(), error.get_message().as_str().to_owned()))
        }
        _ => None,
    }
}

/// Asks the broker for something that it answers soon or not at all.
pub(crate) async fn asked<T>(
    step: impl Future<Output = lapin::Result<T>>,
) -> Result<T, TransportError> {
    match answered(limits::RESPONSE_TIMEOUT, step).await {
        Ok(outcome) => outcome.map_err(|error| failed(&error)),
        Err(error) => Err(error),
    }
}

/// The same, for whoever wants to see the library's own error.
pub(crate) async fn answered<T>(
    patience: Duration,
    step: impl Future<Output = T>,
) -> Result<T, TransportError> {
    let late = |_| carrier(format!("the broker did not answer within {patience:?}"));
    timeout(patience, step).await.map_err(late)
}
