//! The queue of one subscription or one queue group.

mod settle;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use agentbus_protocol::{Pattern, Text};
use parking_lot::Mutex;
use tokio::sync::Notify;

use settle::Watched;

use super::confirm::Confirm;
use super::{Common, Phase, inbox, wake};
use crate::stats::QueueStats;
use crate::{Delivery, Message, Overflow, Priority, Received, Settle, limits};

const LANES: usize = Priority::ALL.len();

/// One message in a queue.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) message: Arc<Message>,
    pub(super) attempt: u32,
    /// Whom to tell how it ended; only for confirmed publishes.
    pub(super) confirm: Option<Arc<Confirm>>,
    /// Whether no other queue got the message.
    pub(super) sole: bool,
}

impl Entry {
    /// The first attempt of a message.
    pub(super) const fn new(
        message: Arc<Message>,
        confirm: Option<Arc<Confirm>>,
        sole: bool,
    ) -> Self {
        Self {
            message,
            attempt: 1,
            confirm,
            sole,
        }
    }

    /// The bytes that it keeps.
    fn size(&self) -> usize {
        let payload = self.message.envelope.payload.as_ref();
        payload.map_or(0, |payload| payload.as_bytes().len())
    }

    /// The same entry for another attempt.
    fn again(self) -> Self {
        Self {
            attempt: self.attempt.saturating_add(1),
            ..self
        }
    }

    fn fail(&self, reason: &'static str) {
        if let Some(confirm) = &self.confirm {
            confirm.failed(reason);
        }
    }

    /// Whom to tell when nobody works on the message any more: a caller whose request went to
    /// nobody else.
    fn asker(&self) -> Option<inbox::Token> {
        match self.sole {
            true => inbox::token(&self.message.envelope.reply_to),
            false => None,
        }
    }
}

/// What became of a push.
#[derive(Debug)]
pub(super) enum Pushed {
    /// It is in the queue.
    Taken,
    /// The queue is full and its policy is that the publisher waits.
    Full(Entry),
    /// The queue is full and its policy is to fail.
    Refused(Entry),
    /// The queue takes no messages any more.
    Gone(Entry),
}

/// How a queue behaves.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueueOptions {
    pub(super) capacity: usize,
    pub(super) overflow: Overflow,
}

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) pattern: Pattern,
    pub(super) group: Option<Text>,
    pub(super) options: QueueOptions,
    state: Mutex<State>,
    /// Counted without the lock.
    expired: AtomicU64,
    /// Wakes publishers when there is room again.
    room: Notify,
    common: Arc<Common>,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    /// One lane per priority; lane 0 is served first.
    lanes: [VecDeque<Entry>; LANES],
    depth: usize,
    /// Bytes of what waits in the lanes.
    bytes: usize,
    /// Its subscriber took nothing for too long and has not taken anything since.
    stuck: bool,
    /// Messages that were given back and wait for their time. They keep their places in the
    /// queue, so that there are never more of them than the queue holds.
    delayed: usize,
    /// Receivers that found nothing, the longest waiting first.
    waiting: VecDeque<(u64, Waker)>,
    publishers_waiting: usize,
    /// Messages lost since the last delivery.
    missed: u64,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    /// Handed out, expired or not.
    taken: u64,
    dropped: u64,
    redelivered: u64,
    stalled: u64,
}

impl Queue {
    pub(super) fn new(
        pattern: Pattern,
        group: Option<Text>,
        options: QueueOptions,
        common: Arc<Common>,
    ) -> Self {
        let state = Mutex::default();
        Self {
            pattern,
            group,
            options,
            state,
            expired: AtomicU64::new(0),
            room: Notify::new(),
            common,
        }
    }

    /// Puts a message in, or says why not. Never waits.
    pub(super) fn push(&self, entry: Entry) -> Pushed {
        self.put(entry, Standing::Newcomer)
    }

    fn put(&self, entry: Entry, standing: Standing) -> Pushed {
        let mut state = self.state.lock();
        if state.phase != Phase::Open {
            drop(state);
            entry.fail("abandoned");
            return Pushed::Gone(entry);
        }
        let behind_others = standing == Standing::Newcomer
            && state.publishers_waiting > 0
            && self.options.overflow == Overflow::Wait;
        if !state.has_room(&entry, self.options.capacity) || behind_others {
            match self.options.overflow {
                Overflow::Wait if !state.stuck => return Pushed::Full(entry),
                Overflow::Fail => {
                    drop(state);
                    entry.fail("refused by a full queue");
                    return Pushed::Refused(entry);
                }
                Overflow::Wait | Overflow::DropOldest => {
                    let (entry, lost) = state.make_room(entry, self.options.capacity);
                    let waker = entry.map(|entry| state.push(entry, End::Back));
                    drop(state);
                    lost.into_iter()
                        .for_each(|lost| self.lose(&lost, "dropped"));
                    wake(waker.flatten());
                    return Pushed::Taken;
                }
            }
        }
        let waker = state.push(entry, End::Back);
        drop(state);
        wake(waker);
        Pushed::Taken
    }

    /// Puts a message in, waiting for room as long as the queue lives.
    pub(super) async fn push_when_room(&self, mut entry: Entry) -> Pushed {
        let waiting = WaitingPublisher::new(self);
        // Those who wait already come first, though there may be room.
        let mut passes = !waiting.behind_others;
        loop {
            // Registered before the attempt, so that room made in between is not missed.
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            if passes {
                entry = match self.put(entry, Standing::Waited) {
                    Pushed::Full(entry) => entry,
                    settled => return settled,
                };
            }
            passes = true;
            self.wait_for(room).await;
        }
    }

    /// Waits for room. A subscriber that takes nothing for too long is stuck from then on; a group
    /// is not, for its members work on what they have, and callers wait for it.
    async fn wait_for(&self, room: impl Future<Output = ()>) {
        if self.group.is_some() {
            return room.await;
        }
        let before = self.state.lock().counts.taken;
        let overdue = tokio::time::timeout(limits::STALL_MAX, room).await.is_err();
        if overdue && self.still_stuck_at(before) {
            // Nobody waits for it any more, now that it loses its oldest.
            self.room.notify_waiters();
        }
    }

    /// Notes that the subscriber is stuck if it has taken nothing since then.
    fn still_stuck_at(&self, taken: u64) -> bool {
        let mut state = self.state.lock();
        let stuck = state.counts.taken == taken;
        state.stuck |= stuck;
        stuck
    }

    /// Takes up to `max` messages for the receiver of this number. `taken` is the receiver's own
    /// and empty between calls; with it the lock is held only to move entries.
    pub(super) fn poll_receive(
        self: &Arc<Self>,
        receiver: u64,
        cx: &Context<'_>,
        taken: &mut Vec<Entry>,
        batch: &mut Vec<Received>,
        max: usize,
    ) -> Poll<usize> {
        let mut state = self.state.lock();
        if state.depth == 0 {
            return state.wait(receiver, cx);
        }
        if !state.waiting.is_empty() {
            state.waiting.retain(|(waiting, _)| *waiting != receiver);
        }
        state.stuck = false;
        state.take(taken, max);
        let missed = std::mem::take(&mut state.missed);
        let next = state.next_receiver();
        let publishers = state.publishers_to_wake(self.options.capacity);
        let emptied = state.depth == 0 && state.phase == Phase::Stopping;
        drop(state);
        (0..publishers).for_each(|_| self.room.notify_one());
        wake(next);
        if emptied {
            self.emptied();
        }
        Poll::Ready(self.hand_out(taken, missed, batch))
    }

    fn hand_out(
        self: &Arc<Self>,
        taken: &mut Vec<Entry>,
        missed: u64,
        batch: &mut Vec<Received>,
    ) -> usize {
        let all = taken.len();
        let mut missed = Some(missed);
        for entry in taken.drain(..) {
            let missed = missed.take().unwrap_or_default();
            batch.push(if entry.message.is_expired() {
                self.expired.fetch_add(1, Ordering::Relaxed);
                let delivery = Delivery::new(Arc::clone(&entry.message), entry.attempt);
                entry.fail("expired");
                Received::Expired(delivery.after_missing(missed))
            } else {
                Received::Live(self.delivery(entry).after_missing(missed))
            });
        }
        all
    }

    fn delivery(self: &Arc<Self>, entry: Entry) -> Delivery {
        let asker = settle::asked_by(entry.asker());
        let settle: Arc<dyn Settle> = match entry.confirm {
            None => Arc::clone(self) as _,
            Some(confirm) => Arc::new(Watched {
                queue: Arc::clone(self),
                confirm,
            }),
        };
        Delivery::new(entry.message, entry.attempt).settled_by(settle, asker)
    }

    /// Gives a message up that nobody will answer.
    fn lose(&self, entry: &Entry, reason: &'static str) {
        if let Some(asker) = entry.asker() {
            self.common.inboxes.lose(asker);
        }
        entry.fail(reason);
    }

    /// Takes no messages from now on, but gives out what it has.
    pub(super) fn stop(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Stopping;
        }
        self.release(state);
    }

    /// Takes and gives no messages from now on. Returns how many were given up.
    pub(super) fn end(&self) -> usize {
        let mut state = self.state.lock();
        state.phase = Phase::Ended;
        let abandoned = std::mem::take(&mut state.depth);
        state.bytes = 0;
        let lanes = std::mem::take(&mut state.lanes);
        self.release(state);
        lanes
            .into_iter()
            .flatten()
            .for_each(|entry| self.lose(&entry, "abandoned"));
        self.emptied();
        abandoned
    }

    /// Lets everybody who waits look again.
    fn release(&self, mut state: parking_lot::MutexGuard<'_, State>) {
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
        self.room.notify_waiters();
    }

    /// Forgets a receiver and passes a wake-up that was meant for it to the next.
    pub(super) fn forget(&self, receiver: u64) {
        let mut state = self.state.lock();
        state.waiting.retain(|(waiting, _)| *waiting != receiver);
        let next = state.next_receiver();
        drop(state);
        wake(next);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state.lock().depth == 0
    }

    fn emptied(&self) {
        self.common.emptied.notify_waiters();
    }

    pub(super) fn stats(&self) -> QueueStats {
        let state = self.state.lock();
        let expired = self.expired.load(Ordering::Relaxed);
        QueueStats {
            pattern: self.pattern.to_string(),
            group: self.group.as_ref().map(ToString::to_string),
            depth: state.depth,
            capacity: self.options.capacity,
            delivered: state.counts.taken.saturating_sub(expired),
            dropped: state.counts.dropped,
            expired,
            redelivered: state.counts.redelivered,
            stalled: state.counts.stalled,
        }
    }
}

/// Whether a publisher may take a free place, or has to let those pass who wait for one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Newcomer,
    Waited,
}

#[derive(Clone, Copy)]
enum End {
    Front,
    Back,
}

impl State {
    /// Puts an entry into its lane and returns the receiver to wake.
    fn push(&mut self, entry: Entry, end: End) -> Option<Waker> {
        self.bytes += entry.size();
        let lane = &mut self.lanes[entry.message.priority.lane()];
        match end {
            End::Front => lane.push_front(entry),
            End::Back => lane.push_back(entry),
        }
        self.depth += 1;
        self.waiting.pop_front().map(|(_, waker)| waker)
    }

    /// Moves up to `max` entries out, the highest lanes first.
    fn take(&mut self, taken: &mut Vec<Entry>, max: usize) {
        let mut left = max.min(self.depth);
        self.depth -= left;
        self.counts.taken += left as u64;
        for lane in self.lanes.iter_mut().filter(|lane| !lane.is_empty()) {
            while left > 0
                && let Some(entry) = lane.pop_front()
            {
                self.bytes -= entry.size();
                taken.push(entry);
                left -= 1;
            }
        }
    }

    /// The receiver to wake because something is left for it.
    fn next_receiver(&mut self) -> Option<Waker> {
        if self.depth == 0 {
            return None;
        }
        self.waiting.pop_front().map(|(_, waker)| waker)
    }

    /// How many waiting publishers can go on. They are woken only when half of the queue is free:
    /// waking one for each free place would make publisher and receiver take turns message by
    /// message.
    fn publishers_to_wake(&self, capacity: usize) -> usize {
        let occupied = self.occupied();
        if occupied > capacity / 2 {
            return 0;
        }
        self.publishers_waiting.min(capacity - occupied)
    }

    /// Places that are taken, by messages that can be received now or later.
    const fn occupied(&self) -> usize {
        self.depth + self.delayed
    }

    /// Whether an entry fits in. One that is larger than all may be fits into an empty queue.
    fn has_room(&self, entry: &Entry, capacity: usize) -> bool {
        self.occupied() < capacity
            && (self.depth == 0 || self.bytes + entry.size() <= limits::QUEUE_BYTES_MAX)
    }

    /// Loses the oldest entries of the lowest waiting priority, or the new one if it is lower still.
    /// Returns the new one, if it stays, and the lost ones.
    fn make_room(&mut self, entry: Entry, capacity: usize) -> (Option<Entry>, Vec<Entry>) {
        let mut lost = Vec::new();
        while !self.has_room(&entry, capacity) {
            self.counts.dropped += 1;
            self.missed += 1;
            let lowest = self.lanes.iter().rposition(|lane| !lane.is_empty());
            let oldest = lowest
                .filter(|lane| *lane >= entry.message.priority.lane())
                .and_then(|lane| self.lanes[lane].pop_front());
            let Some(oldest) = oldest else {
                lost.push(entry);
                return (None, lost);
            };
            self.depth -= 1;
            self.bytes -= oldest.size();
            lost.push(oldest);
        }
        (Some(entry), lost)
    }

    fn wait(&mut self, receiver: u64, cx: &Context<'_>) -> Poll<usize> {
        if self.phase != Phase::Open {
            return Poll::Ready(0);
        }
        match self
            .waiting
            .iter_mut()
            .find(|(waiting, _)| *waiting == receiver)
        {
            Some((_, waker)) => waker.clone_from(cx.waker()),
            None => self.waiting.push_back((receiver, cx.waker().clone())),
        }
        Poll::Pending
    }
}

/// Counts a publisher as waiting for as long as it does, also when it gives up.
struct WaitingPublisher<'a> {
    queue: &'a Queue,
    behind_others: bool,
}

impl<'a> WaitingPublisher<'a> {
    fn new(queue: &'a Queue) -> Self {
        let mut state = queue.state.lock();
        let behind_others = state.publishers_waiting > 0 && state.phase == Phase::Open;
        state.publishers_waiting += 1;
        state.counts.stalled += 1;
        drop(state);
        Self {
            queue,
            behind_others,
        }
    }
}

impl Drop for WaitingPublisher<'_> {
    fn drop(&mut self) {
        self.queue.state.lock().publishers_waiting -= 1;
    }
}
