//! How a commit reaches those who wait for it.
//!
//! A waiter asks before it looks, so that no change falls between its look and its sleep. Whoever
//! follows events and lags too far behind is told so, and reads the rest from the store.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};

use crate::model::Event;
use crate::{ThreadId, limits};

/// What a commit changed, as far as anyone may wait for it.
#[derive(Debug, Default)]
pub struct Effects {
    /// Events, in the order of their numbers.
    pub events: Vec<Event>,
    /// Threads whose waiters should look again.
    pub touched: Vec<ThreadId>,
}

/// Tells of commits.
pub struct Feed {
    events: broadcast::Sender<Arc<Event>>,
    /// One channel for each thread that somebody waits in; gone with the last of them.
    threads: Mutex<HashMap<ThreadId, watch::Sender<()>>>,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            events: broadcast::Sender::new(limits::EVENTS_BUFFERED),
            threads: Mutex::default(),
        }
    }
}

impl Feed {
    /// Tells of a commit. The store calls it when readers can see the changes.
    pub fn committed(&self, effects: Effects) {
        for event in effects.events {
            // Nobody follows at the moment; whoever comes later reads the store.
            let _ = self.events.send(Arc::new(event));
        }
        if effects.touched.is_empty() {
            return;
        }
        let threads = self.threads.lock();
        for thread in &effects.touched {
            if let Some(waiters) = threads.get(thread) {
                waiters.send_replace(());
            }
        }
    }

    /// Wakes everyone who waits in any thread, when it is not known what was missed.
    pub fn wake_all(&self) {
        for waiters in self.threads.lock().values() {
            waiters.send_replace(());
        }
    }

    /// Follows the events that are committed from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    /// Watches a thread from now on.
    #[must_use]
    pub fn watch(self: &Arc<Self>, thread: &ThreadId) -> ThreadWatch {
        let mut threads = self.threads.lock();
        let sender = threads
            .entry(thread.clone())
            .or_insert_with(|| watch::Sender::new(()));
        ThreadWatch {
            changes: sender.subscribe(),
            thread: thread.clone(),
            feed: Arc::clone(self),
        }
    }

    /// How many follow events.
    #[must_use]
    pub fn followers(&self) -> usize {
        self.events.receiver_count()
    }

    /// How many threads are watched.
    #[must_use]
    pub fn watched(&self) -> usize {
        self.threads.lock().len()
    }
}

/// Somebody who waits in a thread.
#[derive(Debug)]
pub struct ThreadWatch {
    changes: watch::Receiver<()>,
    thread: ThreadId,
    feed: Arc<Feed>,
}

impl ThreadWatch {
    /// Ends when something was committed to the thread since the last call, or since the watch
    /// began. Cancel-safe.
    pub async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            // The feed holds the sender for as long as anyone watches, so it cannot be gone.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for ThreadWatch {
    fn drop(&mut self) {
        let mut threads = self.feed.threads.lock();
        let last = threads
            .get(&self.thread)
            .is_some_and(|sender| sender.receiver_count() <= 1);
        if last {
            threads.remove(&self.thread);
        }
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed")
            .field("followers", &self.events.receiver_count())
            .field("watched", &self.watched())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(feed: &Feed, thread: &str) {
        feed.committed(Effects {
            events: Vec::new(),
            touched: vec![thread.into()],
        });
    }

    #[tokio::test]
    async fn a_change_between_look_and_sleep_is_not_missed() {
        let feed = Arc::new(Feed::default());
        let mut watch = feed.watch(&"a".into());
        touch(&feed, "a");
        watch.changed().await;
    }

    #[tokio::test]
    async fn a_change_elsewhere_wakes_nobody() {
        let feed = Arc::new(Feed::default());
        let mut watch = feed.watch(&"a".into());
        touch(&feed, "b");
        let woken = tokio::select! { biased; () = watch.changed() => true, () = async {} => false };
        assert!(!woken);
    }

    #[test]
    fn nothing_is_kept_for_threads_that_nobody_watches() {
        let feed = Arc::new(Feed::default());
        let first = feed.watch(&"a".into());
        let second = feed.watch(&"a".into());
        drop(first);
        assert_eq!(feed.watched(), 1);
        drop(second);
        assert_eq!(feed.watched(), 0);
    }
}
