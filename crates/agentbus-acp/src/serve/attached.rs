//! A session that an editor has open.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::feed::{Feed, Own};
use crate::client::Setup;
use crate::company::Seat;
use crate::line::Line;
use crate::log::EditorSession;

/// What a connection holds of a session; dropping it leaves the session.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) session: Mutex<EditorSession>,
    pub(super) setup: Setup,
    pub(super) seat: Seat,
    pub(super) line: Arc<Line>,
    pub(super) own: Own,
    /// Up to where the editor was told.
    pub(super) told: watch::Receiver<u64>,
    /// The task that tells it.
    pub(super) feed: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl Attached {
    pub(super) fn session(&self) -> EditorSession {
        self.session.lock().clone()
    }

    /// Begins to tell what comes. The task ends with the attachment.
    pub(super) fn follow(&self, feed: Feed) {
        let task = AbortOnDropHandle::new(tokio::spawn(feed.run()));
        *self.feed.lock() = Some(task);
    }

    /// Waits until the editor was told up to this offset, or will be told no more.
    pub(super) async fn told(&self, offset: u64) {
        let mut told = self.told.clone();
        let _ = told.wait_for(|told| *told >= offset).await;
    }
}
