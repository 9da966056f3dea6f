//! The line of a durable name: its members, and whoever removes it, in the order of the table.
//!
//! All clients read one order, so that two never both go on who exclude each other. Whoever comes
//! after a removal waits until it is over; a removal, and the only user of a name, go on when no
//! member stands before them. One whose client has ended without a word stands in nobody's way for
//! longer than it takes to be missed.

use std::sync::Arc;

use agentbus_transport::TransportError;
use tokio::time::{Instant, sleep};

use crate::limits;
use crate::link::Link;
use crate::member::misuse;
use crate::table::client_of;

/// A place in the line that may not be needed. Dropping it leaves the line.
pub(crate) struct Standing {
    link: Arc<Link>,
    number: u64,
    kept: bool,
}

impl Standing {
    pub(crate) fn new(link: &Arc<Link>, number: u64) -> Self {
        Self {
            link: Arc::clone(link),
            number,
            kept: false,
        }
    }

    /// Leaves the place to whoever goes on with it.
    pub(crate) fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        if !self.kept {
            self.link.leave(self.number);
            self.link.retract(&self.link.member_id(self.number));
        }
    }
}

/// Waits until nobody removes the name who came before.
pub(crate) async fn outwait(link: &Link, name: &str, id: &str) -> Result<(), TransportError> {
    let deadline = Instant::now() + limits::READY_TIMEOUT;
    while link.table.before(name, id, true).is_some() {
        if Instant::now() >= deadline {
            return Err(misuse(name, "is being removed; try again later".to_owned()));
        }
        sleep(limits::RETRY_PAUSE).await;
    }
    Ok(())
}

/// Whether no member came before. One that did keeps its place, unless its client has ended
/// without a word.
pub(crate) async fn is_first(link: &Link, name: &str, id: &str) -> bool {
    let before = || link.table.before(name, id, false);
    let Some(holder) = before() else {
        return true;
    };
    let client = client_of(&holder);
    let heard = link.table.last_heard(client);
    let deadline = Instant::now() + limits::CLIENT_LIFE * 2;
    while client != link.inbox.client && link.table.last_heard(client) == heard {
        if before().is_none() {
            return true;
        }
        if Instant::now() >= deadline {
            break;
        }
        sleep(limits::RETRY_PAUSE).await;
    }
    before().is_none()
}
