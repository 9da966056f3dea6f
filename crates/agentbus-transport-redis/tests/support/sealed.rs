//! What is tried over connections that are encrypted, whatever carries them.

use std::fmt::Debug;

use agentbus_transport::{PublishOptions, Transport, TransportError};

use super::messages::{all_of, message, number, receive, within};

/// Connects, and passes one event to a name that is kept and to a listener: over each of the
/// connections that a bus has.
pub(crate) async fn passes_events<T: Transport + Debug>(
    connecting: impl Future<Output = Result<T, TransportError>>,
) {
    let transport = within("a connection", connecting).await.unwrap();
    let mut kept = all_of("sealed");
    kept.durable = Some("sealed".into());
    let mut kept = transport.subscribe(kept).await.unwrap();
    let mut heard = transport.subscribe(all_of("sealed")).await.unwrap();
    let sent = transport.publish(message("sealed", 1), PublishOptions::default());
    within("a publish", sent).await.unwrap();
    for all in [&mut kept, &mut heard] {
        let delivery = receive(all).await;
        assert_eq!(number(&delivery), 1);
        delivery.ack().await.unwrap();
    }
}

/// What is said of a connection that cannot be made; the bound is the one of `within`.
pub(crate) async fn refused<T: Transport + Debug>(
    connecting: impl Future<Output = Result<T, TransportError>>,
) -> String {
    let error = within("an answer", connecting).await.unwrap_err();
    assert!(matches!(error, TransportError::Carrier { .. }), "{error}");
    error.to_string()
}
