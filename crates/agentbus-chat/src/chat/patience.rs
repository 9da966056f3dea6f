//! Asking a store again that has failed, for those who must not give up.

use agentbus::transport::remote::Backoff;

use crate::store::StoreError;
use crate::{ChatError, limits};

/// What one question does when the store fails: it is asked again, after pauses that grow. What
/// was asked must change nothing, or only once under a key, or be refused by an error that says so:
/// after another one a store may have done what it reports as failed.
#[derive(Debug)]
pub(crate) struct Patience {
    pause: Backoff,
    tried: bool,
}

impl Patience {
    pub(crate) const fn new() -> Self {
        let (shortest, longest) = limits::STORE_RETRY;
        Self {
            pause: Backoff::new(shortest, longest).jittered(),
            tried: false,
        }
    }

    /// Waits until the question may be asked again.
    ///
    /// # Errors
    /// Gives the error back where asking again is of no use: the store is closed, or it was not the
    /// store that refused.
    pub(crate) async fn after(&mut self, error: ChatError) -> Result<(), ChatError> {
        if !matches!(&error, ChatError::Store(reason) if *reason != StoreError::Closed) {
            return Err(error);
        }
        // Told once for each trouble: a store may be away for hours.
        if !self.tried {
            tracing::warn!(%error, "the store of conversations is asked again until it answers");
        }
        self.tried = true;
        self.pause.wait().await;
        Ok(())
    }
}
