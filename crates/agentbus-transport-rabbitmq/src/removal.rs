//! Forgetting a durable name.
//!
//! The broker does not refuse to delete a quorum queue that has consumers; asked to, it closes the
//! connection. So the lock of the name is taken first, which its only user would hold, and the
//! consumers are counted. A member of a group that comes in between, and one on another connection
//! that nobody has read from, are not seen; they make the name anew.

use std::sync::Arc;

use agentbus_transport::TransportError;
use lapin::Channel;
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use tokio::sync::oneshot;

use crate::errors::{answered, asked, failed, reply};
use crate::limits;
use crate::link::Link;
use crate::names::Names;
use crate::plan::{RESOURCE_LOCKED, misuse};

/// What the broker answers when there is no such queue.
const NOT_FOUND: u16 = 404;

/// Removes the queue of a durable name that nobody uses, with its bindings.
pub(crate) async fn remove(link: &Arc<Link>, name: &str) -> Result<(), TransportError> {
    if link.is_closed() {
        return Err(TransportError::Closed);
    }
    let (done, removed) = oneshot::channel();
    let (held, name) = (Arc::clone(link), name.to_owned());
    // A task of its own: whoever gives the request up leaves no lock behind.
    link.spawn_lasting(async move {
        let _ = done.send(take_away(&held, &name).await);
    });
    removed.await.unwrap_or(Err(TransportError::Closed))
}

async fn take_away(link: &Link, name: &str) -> Result<(), TransportError> {
    let queue = link.names().durable(name)?;
    link.leaving().wait(&queue, limits::READY_TIMEOUT).await;
    let Some(_seat) = link.seats().take_all(&queue) else {
        return Err(in_use(name));
    };
    let channel = link.incoming().channel(limits::READY_TIMEOUT).await?;
    look(&channel, name, &queue).await?;
    lock(&channel, name, &queue).await?;
    let deleted = channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default());
    let deleted = asked(deleted).await;
    unlock(link, &queue).await;
    deleted?;
    link.kept().leave(&queue);
    Ok(())
}

/// Refuses a name that there is not, and one whose queue has consumers.
async fn look(channel: &Channel, name: &str, queue: &str) -> Result<(), TransportError> {
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let looked = channel.queue_declare(queue.into(), passive, FieldTable::default());
    match answered(limits::RESPONSE_TIMEOUT, looked).await? {
        Ok(found) if found.consumer_count() == 0 => Ok(()),
        Ok(_) => Err(in_use(name)),
        Err(error) if reply(&error).is_some_and(|(code, _)| code == NOT_FOUND) => {
            Err(misuse(name, "does not exist".to_owned()))
        }
        Err(error) => Err(failed(&error)),
    }
}

/// Takes the name for this connection alone, as its only user would.
async fn lock(channel: &Channel, name: &str, queue: &str) -> Result<(), TransportError> {
    let own = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    let taken = channel.queue_declare(Names::lock(queue).into(), own, FieldTable::default());
    match answered(limits::RESPONSE_TIMEOUT, taken).await? {
        Ok(_) => Ok(()),
        Err(error) if reply(&error).is_some_and(|(code, _)| code == RESOURCE_LOCKED) => {
            Err(in_use(name))
        }
        Err(error) => Err(failed(&error)),
    }
}

/// Gives the name up, on a channel that still stands if the removal failed.
async fn unlock(link: &Link, queue: &str) {
    // Without a connection the broker does so itself.
    if let Ok(channel) = link.incoming().channel(limits::READY_TIMEOUT).await {
        let unlocked = channel.queue_delete(Names::lock(queue).into(), <_>::default());
        let _ = asked(unlocked).await;
    }
}

fn in_use(name: &str) -> TransportError {
    misuse(name, "is in use; end its subscriptions first".to_owned())
}
