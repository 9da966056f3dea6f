//! Who of this transport takes from which shared queue.
//!
//! The broker knows its consumers, but not that two of them are the same program's, nor what a
//! group's members elsewhere listen on. What can be refused here is refused here.

use std::collections::HashMap;

use agentbus_protocol::overlap;
use agentbus_transport::{Capability, TransportError};
use parking_lot::Mutex;

use crate::errors::NAME;
use crate::plan::Plan;

/// The queues that members of this transport share, and how many each has.
#[derive(Debug, Default)]
pub(crate) struct Seats(Mutex<HashMap<String, Seat>>);

#[derive(Debug)]
struct Seat {
    members: usize,
    /// Whether the queue is being removed, so that nobody may join it.
    ends: bool,
    /// The group and the pattern; `None` for the queue of a durable name, which keeps its own.
    group: Option<(String, String)>,
}

impl Seats {
    /// Takes a place among the members of a queue.
    pub(crate) fn take(&self, plan: &Plan) -> Result<(), TransportError> {
        let mut seats = self.0.lock();
        let taken = seats.get(&plan.queue);
        if taken.is_some_and(|seat| seat.ends || plan.has_one_user()) {
            return Err(plan.in_use());
        }
        let group = plan.live_group();
        if let Some(group) = &group
            && seats.iter().any(|(queue, seat)| {
                *queue != plan.queue && seat.group.as_ref().is_some_and(|other| mix(group, other))
            })
        {
            return Err(TransportError::Unsupported {
                transport: NAME,
                capability: Capability::MixedGroups,
            });
        }
        let seat = seats.entry(plan.queue.clone()).or_insert(Seat {
            members: 0,
            ends: false,
            group,
        });
        seat.members += 1;
        Ok(())
    }

    /// Takes all places of a queue that is to be removed, if nobody here has one.
    pub(crate) fn take_all<'a>(&'a self, queue: &'a str) -> Option<WholeQueue<'a>> {
        let mut seats = self.0.lock();
        if seats.contains_key(queue) {
            return None;
        }
        let seat = Seat {
            members: 1,
            ends: true,
            group: None,
        };
        seats.insert(queue.to_owned(), seat);
        drop(seats);
        Some(WholeQueue { seats: self, queue })
    }

    /// Gives a place up. Says whether it was the last here.
    pub(crate) fn leave(&self, queue: &str) -> bool {
        let mut seats = self.0.lock();
        let Some(seat) = seats.get_mut(queue) else {
            return true;
        };
        seat.members -= 1;
        let last = seat.members == 0;
        if last {
            seats.remove(queue);
        }
        last
    }
}

/// All places of a queue, until it is dropped.
#[derive(Debug)]
pub(crate) struct WholeQueue<'a> {
    seats: &'a Seats,
    queue: &'a str,
}

impl Drop for WholeQueue<'_> {
    fn drop(&mut self) {
        self.seats.leave(self.queue);
    }
}

/// Whether both are one group on patterns that have something in common.
fn mix(one: &(String, String), other: &(String, String)) -> bool {
    one.0 == other.0 && overlap(&one.1, &other.1)
}
