//! Forgetting a durable name.
//!
//! The server deletes a consumer whoever uses it, so who does is asked before. It knows those that
//! wait for messages; a member on another connection that waits for none is not seen, and makes the
//! name anew behind what it has seen when it asks again.

use std::sync::Arc;

use agentbus_transport::TransportError;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::Info;
use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::jetstream::stream::ConsumerErrorKind;
use tokio::time::{Instant, sleep};

use crate::limits;

use super::store::Store;
use super::{consumer, names};

/// Removes the consumer of a durable name that nobody uses.
pub(super) async fn remove(store: &Arc<Store>, name: &str) -> Result<(), TransportError> {
    consumer::check_name(name)?;
    let kept = names::durable(name);
    // Until it is gone, nobody on this connection begins to use it.
    let Some(_place) = consumer::claim_whole(store, &kept) else {
        return Err(in_use(name));
    };
    store.leaving.wait(&kept).await;
    let until = Instant::now() + limits::OTHER_USER_LINGERS;
    loop {
        let info = find(store, name, &kept).await?;
        if info.num_waiting == 0 && !info.push_bound {
            return delete(store, name, &kept).await;
        }
        // A killed process's pull stays for the moment in which the server sees its end.
        if Instant::now() >= until {
            return Err(in_use(name));
        }
        sleep(limits::OTHER_USER_PAUSE).await;
    }
}

/// The consumer of a durable name, as the server knows it.
async fn find(store: &Store, name: &str, kept: &str) -> Result<Info, TransportError> {
    let info = match store.stream.consumer_info(kept).await {
        Ok(info) => info,
        Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => {
            return Err(unknown(name));
        }
        Err(error) => return Err(store.failed(error)),
    };
    // The consumer of a subscription without a name is none of ours to remove.
    if info.config.durable_name.is_none() {
        return Err(unknown(name));
    }
    let description = info.config.description.as_deref();
    if description.and_then(names::described).is_none() {
        return Err(wrong(
            name,
            "is a consumer that another program made; remove it with `nats consumer rm`",
        ));
    }
    Ok(info)
}

async fn delete(store: &Store, name: &str, kept: &str) -> Result<(), TransportError> {
    let deleted = store.stream.delete_consumer(kept).await;
    deleted.map(drop).map_err(|error| match error.kind() {
        ConsumerErrorKind::JetStream(reason)
            if reason.error_code() == ErrorCode::CONSUMER_NOT_FOUND =>
        {
            unknown(name)
        }
        _ => store.failed(error),
    })
}

fn in_use(name: &str) -> TransportError {
    wrong(name, "is in use; end its subscriptions first")
}

fn unknown(name: &str) -> TransportError {
    wrong(name, "does not exist")
}

fn wrong(name: &str, reason: &str) -> TransportError {
    TransportError::Durable {
        name: name.to_owned(),
        reason: reason.to_owned(),
    }
}
