//! One timer for all calls of a bus whose carrier keeps no time for them.
//!
//! A timer of the runtime's own for each call would be the first in an empty wheel nearly every
//! time, and each first timer wakes the runtime's driver, which sleeps on another core. Here the
//! deadlines stand in one place, and one task sleeps until the earliest. Calls mostly have
//! the same timeout, so a new deadline is later than the one slept for and wakes nobody; and they
//! mostly end long before that one, so they are put in order only when the task looks.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use slab::Slab;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

/// The deadlines of one bus. The task that watches them ends with it.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Tells the keeper that a deadline came which is earlier than the one it sleeps for.
    earlier: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// What came since the keeper last looked. Most calls are over before it looks again, so they
    /// stand here in no order, where coming and going costs least.
    fresh: Slab<(Instant, Waker)>,
    /// How often the keeper has looked; tells deadlines whether they still stand among the fresh.
    looks: u64,
    /// What was there when the keeper looked, by its time and by the place that it had.
    due: BTreeMap<(Instant, Place), Waker>,
    sleeping_until: Option<Instant>,
    /// Begins with the first deadline, so that a bus without calls has no such task.
    keeper: Option<AbortHandle>,
}

impl Deadlines {
    /// Makes a deadline; it is watched from its first poll on.
    pub(crate) const fn at(&self, at: Instant) -> Deadline<'_> {
        Deadline {
            shared: &self.shared,
            at,
            place: None,
        }
    }
}

impl Drop for Deadlines {
    fn drop(&mut self) {
        if let Some(keeper) = self.shared.state.lock().keeper.take() {
            keeper.abort();
        }
    }
}

/// A future that is ready once its time has come.
#[derive(Debug)]
pub(crate) struct Deadline<'a> {
    shared: &'a Arc<Shared>,
    at: Instant,
    /// Set while it is watched.
    place: Option<Place>,
}

/// The place that a deadline was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// How often the keeper had looked by then.
    looks: u64,
    /// Its key among those who came since.
    key: usize,
}

impl Future for Deadline<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Just made, it cannot have come yet; the clock is asked only when something woke us.
        if self.place.is_some() && Instant::now() >= self.at {
            return Poll::Ready(());
        }
        let shared = self.shared;
        let mut state = shared.state.lock();
        let before = self.place.and_then(|place| state.remove(place, self.at));
        self.place = Some(state.add(self.at, cx.waker().clone()));
        // The runtime of an earlier keeper may be gone, and the keeper with it.
        if state.keeper.as_ref().is_none_or(AbortHandle::is_finished) {
            let keeper = tokio::spawn(keep(Arc::downgrade(shared)));
            state.keeper = Some(keeper.abort_handle());
        }
        let earlier = state.sleeping_until.is_none_or(|until| self.at < until);
        if earlier {
            state.sleeping_until = Some(self.at);
        }
        drop(state);
        drop(before);
        if earlier {
            shared.earlier.notify_one();
        }
        Poll::Pending
    }
}

impl Drop for Deadline<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            let mut state = self.shared.state.lock();
            let waker = state.remove(place, self.at);
            drop(state);
            drop(waker);
        }
    }
}

impl State {
    fn add(&mut self, at: Instant, waker: Waker) -> Place {
        Place {
            key: self.fresh.insert((at, waker)),
            looks: self.looks,
        }
    }

    /// Takes a deadline out, unless it has come.
    fn remove(&mut self, place: Place, at: Instant) -> Option<Waker> {
        if place.looks == self.looks {
            return self.fresh.try_remove(place.key).map(|(_, waker)| waker);
        }
        self.due.remove(&(at, place))
    }

    /// Puts the fresh in order and takes out what is due by now.
    fn look(&mut self, now: Instant) -> BTreeMap<(Instant, Place), Waker> {
        let looks = self.looks;
        for (key, (at, waker)) in std::mem::take(&mut self.fresh) {
            self.due.insert((at, Place { looks, key }), waker);
        }
        self.looks += 1;
        let last = Place {
            looks: u64::MAX,
            key: usize::MAX,
        };
        let later = self.due.split_off(&(now, last));
        std::mem::replace(&mut self.due, later)
    }
}

async fn keep(shared: Weak<Shared>) {
    while let Some(shared) = shared.upgrade() {
        let wake_at = shared.wake_due();
        let earlier = shared.earlier.notified();
        match wake_at {
            Some(at) => tokio::select! {
                () = sleep_until(at) => {}
                () = earlier => {}
            },
            None => earlier.await,
        }
    }
}

impl Shared {
    /// Wakes those whose time has come; returns when the next one's comes.
    fn wake_due(&self) -> Option<Instant> {
        let mut state = self.state.lock();
        let due = state.look(Instant::now());
        state.sleeping_until = state.due.keys().next().map(|(at, _)| *at);
        let next = state.sleeping_until;
        drop(state);
        due.into_values().for_each(Waker::wake);
        next
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Polls a deadline once.
    async fn watch(deadline: &mut Deadline<'_>) -> Poll<()> {
        std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *deadline).poll(cx))).await
    }

    /// How many stand among the fresh, and how many in order.
    fn standing(deadlines: &Deadlines) -> (usize, usize) {
        let state = deadlines.shared.state.lock();
        (state.fresh.len(), state.due.len())
    }

    #[tokio::test(start_paused = true)]
    async fn each_comes_in_its_time_whatever_order_they_were_made_in() {
        let deadlines = Deadlines::default();
        let begun = Instant::now();
        let spans = [50, 10, 30, 10, 40, 20];
        let all = spans.map(|ms| {
            let deadline = deadlines.at(Instant::now() + Duration::from_millis(ms));
            async move {
                deadline.await;
                assert_eq!(begun.elapsed().as_millis(), u128::from(ms));
            }
        });
        futures_util::future::join_all(all).await;
        assert_eq!(standing(&deadlines), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_dropped_is_forgotten_before_and_after_a_look() {
        let deadlines = Deadlines::default();
        let mut early = deadlines.at(Instant::now() + Duration::from_millis(1));
        let mut late = deadlines.at(Instant::now() + Duration::from_secs(60));
        let mut later = deadlines.at(Instant::now() + Duration::from_secs(61));
        for deadline in [&mut early, &mut late, &mut later] {
            assert!(watch(deadline).await.is_pending());
        }
        assert_eq!(standing(&deadlines), (3, 0));
        drop(later);
        assert_eq!(standing(&deadlines), (2, 0));
        early.await;
        assert_eq!(standing(&deadlines), (0, 1));
        drop(late);
        assert_eq!(standing(&deadlines), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_polled_again_stands_once() {
        let deadlines = Deadlines::default();
        let mut early = deadlines.at(Instant::now() + Duration::from_millis(1));
        let mut late = deadlines.at(Instant::now() + Duration::from_millis(9));
        assert!(watch(&mut late).await.is_pending());
        assert!(watch(&mut late).await.is_pending());
        assert!(watch(&mut early).await.is_pending());
        early.await;
        assert!(watch(&mut late).await.is_pending());
        assert_eq!(standing(&deadlines), (1, 0));
        late.await;
        assert_eq!(standing(&deadlines), (0, 0));
    }
}
