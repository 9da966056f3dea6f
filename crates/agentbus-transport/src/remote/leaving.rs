//! Memberships that end.
//!
//! Dropping a subscription cannot wait for the server. Whoever joins the same queue from the same
//! transport waits here instead, so that what was dropped first has left first.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;

/// How many members of each queue are on their way out.
#[derive(Debug, Default)]
pub struct Leaving {
    queues: Mutex<HashMap<String, usize>>,
    changed: Notify,
}

impl Leaving {
    /// A member begins to leave a queue.
    pub fn begin(&self, queue: &str) {
        *self.queues.lock().entry(queue.to_owned()).or_default() += 1;
    }

    /// A member has left.
    pub fn end(&self, queue: &str) {
        let mut queues = self.queues.lock();
        if let Some(count) = queues.get_mut(queue) {
            *count -= 1;
            if *count == 0 {
                queues.remove(queue);
            }
        }
        drop(queues);
        self.changed.notify_waiters();
    }

    /// Waits until nobody is on the way out of a queue; not for ever, because the server may be.
    pub async fn wait(&self, queue: &str, patience: Duration) {
        let all_left = async {
            loop {
                let changed = self.changed.notified();
                if !self.queues.lock().contains_key(queue) {
                    return;
                }
                changed.await;
            }
        };
        let _ = timeout(patience, all_left).await;
    }
}
