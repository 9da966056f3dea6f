//! A client of the library that reads.
//!
//! The library closes a reader only when the broker has answered its last commit, and asks a broker
//! that is gone for as long as it is gone. So a thread of its own closes each, for which neither a
//! task nor the end of the program waits.

use std::ops::Deref;
use std::thread;

use rdkafka::consumer::StreamConsumer;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::broker::Quiet;
use crate::limits;

/// Dropping it closes it without waiting.
pub(crate) struct Reader(Option<StreamConsumer<Quiet>>);

impl Reader {
    pub(crate) fn new(consumer: StreamConsumer<Quiet>) -> Self {
        Self(Some(consumer))
    }

    /// Closes it, and waits a while for the broker to take what was committed last.
    pub(crate) async fn close(mut self) {
        let (done, closed) = oneshot::channel::<()>();
        self.bury(Some(done));
        // An error is the channel's end, which is what is waited for.
        if timeout(limits::STOP_TIMEOUT, closed).await.is_err() {
            tracing::debug!("a reader is left to close when its broker answers");
        }
    }

    fn bury(&mut self, done: Option<oneshot::Sender<()>>) {
        let Some(consumer) = self.0.take() else {
            return;
        };
        let closing = move || {
            drop(consumer);
            drop(done);
        };
        let begun = thread::Builder::new()
            .name("kafka-close".to_owned())
            .spawn(closing);
        if let Err(error) = begun {
            tracing::warn!(%error, "a reader had to be closed without a thread of its own");
        }
    }
}

impl Deref for Reader {
    type Target = StreamConsumer<Quiet>;

    fn deref(&self) -> &Self::Target {
        #[expect(
            clippy::expect_used,
            reason = "only what takes the reader itself empties it"
        )]
        self.0.as_ref().expect("a reader that is not closed")
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.bury(None);
    }
}
