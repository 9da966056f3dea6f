//! Tells the bus what becomes of questions, in order, without making anybody wait.

use std::fmt;

use agentbus::{Bus, Payload};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::limits::ANNOUNCEMENTS_WAITING;

/// Publishes events of questions.
pub(crate) struct Announcer {
    /// Events on their way to the bus.
    waiting: mpsc::Sender<(&'static str, Payload)>,
    /// The task that publishes them; awaited by [`Announcer::close`].
    task: TaskTracker,
    stop: CancellationToken,
}

impl Announcer {
    pub(crate) fn new(bus: Bus) -> Self {
        let (sender, waiting) = mpsc::channel(ANNOUNCEMENTS_WAITING);
        let (task, stop) = (TaskTracker::new(), CancellationToken::new());
        task.spawn(publish(bus, waiting, stop.clone()));
        Self {
            waiting: sender,
            task,
            stop,
        }
    }

    pub(crate) fn announce(&self, event: &'static str, what: &impl Serialize) {
        let Ok(payload) = Payload::json(what) else {
            return;
        };
        let sent = self.waiting.try_send((event, payload));
        if matches!(sent, Err(mpsc::error::TrySendError::Full(_))) {
            tracing::warn!(
                event,
                "too many announcements wait for the bus; this one is lost"
            );
        }
    }

    /// Waits until everything is announced.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.task.close();
        self.task.wait().await;
    }
}

/// Publishes announcements until told to stop, and then those that wait.
async fn publish(
    bus: Bus,
    mut waiting: mpsc::Receiver<(&'static str, Payload)>,
    stop: CancellationToken,
) {
    loop {
        let next = tokio::select! {
            biased;
            next = waiting.recv() => next,
            () = stop.cancelled() => {
                waiting.close();
                waiting.recv().await
            }
        };
        let Some((event, payload)) = next else { return };
        if let Err(error) = bus.publish_payload(event, Some(payload)).await {
            tracing::debug!(%error, event, "an announcement was not taken by the bus");
        }
    }
}

impl fmt::Debug for Announcer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Announcer")
    }
}
