//! Forgetting a durable name.
//!
//! Kafka refuses to delete a group that has members by its own protocol. Ours assign themselves, so
//! that it would take the place of a name from those who use it, and it writes no record on a
//! condition. So whoever removes a name stands in the line of its members, which all clients read in
//! one order: it goes on when no member stands before it, and who comes after it waits and finds no
//! name.
//!
//! A client that others take for gone in the middle has lost its place. The table does not follow
//! what it says afterwards of a name that has members by then, and a group that it deletes all the
//! same is made again by their next commit. The name goes last: a removal that failed before is
//! asked for again.

use std::sync::Arc;

use agentbus_transport::TransportError;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::broker::{self, carrier};
use crate::limits;
use crate::line::{self, Standing};
use crate::link::Link;
use crate::member::misuse;
use crate::table::{Durable, Key, Member};

/// Removes a durable name that nobody uses, with its group.
pub(crate) async fn remove(link: &Arc<Link>, name: &str) -> Result<(), TransportError> {
    if link.is_closed() {
        return Err(TransportError::Closed);
    }
    let (done, removed) = oneshot::channel();
    let (held, name) = (Arc::clone(link), name.to_owned());
    // A task of its own: whoever gives the request up leaves no half of a removal behind.
    link.spawn_lasting(async move {
        let removal = timeout(limits::REMOVAL_TIMEOUT, take_away(&held, &name)).await;
        // Whoever gave it up is told nothing.
        let _ = done.send(removal.unwrap_or_else(|_| Err(late())));
    });
    removed.await.unwrap_or(Err(TransportError::Closed))
}

async fn take_away(link: &Arc<Link>, name: &str) -> Result<(), TransportError> {
    link.leaving.wait(name, limits::READY_TIMEOUT).await;
    link.catch_up().await?;
    let known = known(link, name)?;
    let number = link.number();
    let id = link.member_id(number);
    let _standing = Standing::new(link, number);
    announce(link, name, &id, known).await?;
    line::outwait(link, name, &id).await?;
    if !line::is_first(link, name, &id).await {
        return Err(in_use(name));
    }
    // Somebody may have removed it who stood before.
    known_still(link, name, &id)?;
    if !broker::delete_group(&link.address, &broker::group_of(&link.address, name)).await? {
        return Err(in_use(name));
    }
    known_still(link, name, &id)?;
    link.forget(name).await?;
    if link.table.life(name).is_some() {
        return Err(overtaken());
    }
    Ok(())
}

/// Stands in line.
async fn announce(link: &Link, name: &str, id: &str, known: Durable) -> Result<(), TransportError> {
    let record = Member {
        pattern: known.pattern,
        group: known.group,
        durable: Some(name.to_owned()),
        removes: true,
    };
    link.announce(Key::Member(id), &record).await
}

fn known(link: &Link, name: &str) -> Result<Durable, TransportError> {
    let known = link.table.durable(name);
    let known = known.ok_or_else(|| misuse(name, "does not exist".to_owned()))?;
    Ok(known.0)
}

/// Fails when the name is gone, or the place in the line is.
fn known_still(link: &Link, name: &str, id: &str) -> Result<(), TransportError> {
    known(link, name)?;
    if link.table.holds(id) {
        Ok(())
    } else {
        Err(overtaken())
    }
}

fn in_use(name: &str) -> TransportError {
    misuse(name, "is in use; end its subscriptions first".to_owned())
}

fn overtaken() -> TransportError {
    carrier("others took this client for gone while it removed a durable name; remove it again")
}

fn late() -> TransportError {
    carrier("a durable name may or may not have been removed in time; remove it again")
}
