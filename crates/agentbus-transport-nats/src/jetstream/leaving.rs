//! Members that are on their way out.
//!
//! What a member had taken ahead goes back before whoever joins next asks for anything, so that
//! the order is kept.

use parking_lot::Mutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::limits;

/// Consumers that somebody on this connection is leaving, each with the signal that it has left.
#[derive(Debug, Default)]
pub(super) struct Leaving(Mutex<Vec<(String, CancellationToken)>>);

impl Leaving {
    /// Notes that a member leaves; `left` is signalled when it has.
    pub(super) fn begin(&self, consumer: &str, left: &CancellationToken) {
        let mut members = self.0.lock();
        members.retain(|(_, left)| !left.is_cancelled());
        members.push((consumer.to_owned(), left.clone()));
    }

    /// Waits until all who were leaving a consumer have left it.
    pub(super) async fn wait(&self, consumer: &str) {
        let members = self.0.lock().clone();
        for (_, left) in members.iter().filter(|(name, _)| name == consumer) {
            // What takes longer is given back by the server.
            let _ = timeout(limits::STOP_TIMEOUT, left.cancelled()).await;
        }
    }
}
