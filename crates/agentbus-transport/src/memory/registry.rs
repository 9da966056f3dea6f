//! Who listens on what.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use agentbus_protocol::{Pattern, Subject, Text};
use foldhash::quality::RandomState;
use parking_lot::{Mutex, RwLock};

use super::NAME;
use super::queue::Queue;
use crate::{TransportError, limits};

thread_local! {
    /// The route that this thread has used last. Publishers mostly stay with one subject, and here
    /// they find its route without a lock that all publishers share.
    static LAST: Cell<Option<Box<Known>>> = const { Cell::new(None) };
}

/// All subscriptions, and a memory of which of them match which subject.
///
/// The memory is forgotten with every change of the subscriptions. It is filled and forgotten
/// under the lock of the table, so that it is never older than the table.
#[derive(Debug)]
pub(super) struct Registry {
    /// Tells this registry from every other of the process.
    number: u64,
    /// Counts what made the memory forget.
    changes: AtomicU64,
    table: Mutex<Table>,
    routes: RwLock<HashMap<Text, Arc<Route>, RandomState>>,
}

impl Default for Registry {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            changes: AtomicU64::default(),
            table: Mutex::default(),
            routes: RwLock::default(),
        }
    }
}

/// A route, and what it was the route of.
#[derive(Debug)]
pub(super) struct Known {
    registry: u64,
    changes: u64,
    subject: Text,
    pub(super) route: Arc<Route>,
}

impl Known {
    /// Keeps the route for this thread's next message.
    pub(super) fn remember(self: Box<Self>) {
        // A thread that is about to end remembers nothing.
        let _ = LAST.try_with(|last| last.set(Some(self)));
    }
}

#[derive(Debug, Default)]
struct Table {
    /// Subscriptions without wildcard, by subject.
    literal: HashMap<Text, Vec<Member>>,
    /// Subscriptions with wildcards.
    wild: Vec<Member>,
    subscriptions: usize,
}

#[derive(Debug)]
struct Member {
    queue: Arc<Queue>,
    /// How many subscriptions share the queue.
    receivers: usize,
}

/// The receivers of one subject.
#[derive(Debug, Default)]
pub(super) struct Route {
    /// Each of these gets every message.
    pub(super) all: Vec<Arc<Queue>>,
    /// One queue of each of these gets a message.
    pub(super) groups: Vec<Group>,
}

/// The queues of one group name that match one subject: usually one, several when members
/// subscribed with different patterns. They take turns.
#[derive(Debug)]
pub(super) struct Group {
    queues: Vec<Arc<Queue>>,
    turn: AtomicUsize,
}

impl Group {
    /// The queue whose turn it is.
    pub(super) fn next(&self) -> &Arc<Queue> {
        match self.queues.as_slice() {
            [only] => only,
            several => &several[self.turn.fetch_add(1, Ordering::Relaxed) % several.len()],
        }
    }
}

impl Route {
    pub(super) fn receivers(&self) -> usize {
        self.all.len() + self.groups.len()
    }

    /// The queue that gets the message, if it is the only one.
    pub(super) fn only(&self) -> Option<&Arc<Queue>> {
        match (self.all.as_slice(), self.groups.as_slice()) {
            ([queue], []) => Some(queue),
            ([], [group]) => Some(group.next()),
            _ => None,
        }
    }
}

impl Registry {
    /// Adds a subscription: with a queue of its own, or as a member of a group that exists.
    pub(super) fn join(
        &self,
        pattern: Pattern,
        group: Option<Text>,
        make: impl FnOnce(Pattern, Option<Text>) -> Queue,
    ) -> Result<Arc<Queue>, TransportError> {
        let mut table = self.table.lock();
        if table.subscriptions >= limits::SUBSCRIPTIONS_MAX {
            let limit = limits::SUBSCRIPTIONS_MAX;
            return Err(TransportError::TooMany {
                transport: NAME,
                what: "subscriptions",
                limit,
            });
        }
        table.subscriptions += 1;
        let members = table.members_mut(&pattern);
        if group.is_some() {
            let same = |member: &&mut Member| {
                member.queue.group == group && member.queue.pattern == pattern
            };
            if let Some(member) = members.iter_mut().find(same) {
                member.receivers += 1;
                return Ok(Arc::clone(&member.queue));
            }
        }
        let queue = Arc::new(make(pattern, group));
        members.push(Member {
            queue: Arc::clone(&queue),
            receivers: 1,
        });
        self.forget_routes();
        Ok(queue)
    }

    /// Removes one subscription; the last one ends its queue.
    pub(super) fn leave(&self, queue: &Arc<Queue>) {
        if self.remove(queue) {
            queue.end();
        }
    }

    /// Takes one subscription out of the table and returns whether its queue is an orphan now. A
    /// queue that is not in the table any more was stopped before; it is an orphan too.
    fn remove(&self, queue: &Arc<Queue>) -> bool {
        let mut table = self.table.lock();
        let Some(members) = table.members_of(queue) else {
            return true;
        };
        let Some(at) = members
            .iter()
            .position(|member| Arc::ptr_eq(&member.queue, queue))
        else {
            return true;
        };
        members[at].receivers -= 1;
        let orphan = members[at].receivers == 0;
        if orphan {
            members.swap_remove(at);
            if members.is_empty() {
                table.literal.remove(queue.pattern.as_str());
            }
            self.forget_routes();
        }
        table.subscriptions -= 1;
        orphan
    }

    /// Stops one subscription: it leaves its group to the others, or, if it is alone, its queue
    /// takes no more messages. Returns whether the queue is left to it.
    pub(super) fn stop(&self, queue: &Arc<Queue>) -> bool {
        let alone = self.remove(queue);
        if alone {
            queue.stop();
        }
        alone
    }

    /// The receivers of a subject, to be [remembered](Known::remember) after use.
    pub(super) fn route(&self, subject: &Subject) -> Box<Known> {
        // Taken, not borrowed: a subscriber that is woken may publish in turn.
        let last = LAST.try_with(Cell::take).ok().flatten();
        match last.filter(|last| self.is_of_now(last, subject)) {
            Some(known) => known,
            None => Box::new(self.known(subject)),
        }
    }

    fn is_of_now(&self, known: &Known, subject: &Subject) -> bool {
        known.registry == self.number
            && known.changes == self.changes.load(Ordering::Acquire)
            && known.subject == *subject.text()
    }

    fn known(&self, subject: &Subject) -> Known {
        // Read before the route, so that one that changes meanwhile counts as old.
        let changes = self.changes.load(Ordering::Acquire);
        Known {
            registry: self.number,
            changes,
            subject: subject.text().clone(),
            route: self.look_up(subject),
        }
    }

    fn look_up(&self, subject: &Subject) -> Arc<Route> {
        if let Some(route) = self.routes.read().get(subject.as_str()) {
            return Arc::clone(route);
        }
        let table = self.table.lock();
        let route = Arc::new(table.route(subject.as_str()));
        let mut routes = self.routes.write();
        if routes.len() >= limits::ROUTES_MAX {
            routes.clear();
        }
        routes.insert(subject.as_str().into(), Arc::clone(&route));
        route
    }

    /// Forgets all routes; called under the lock of the table that has changed.
    fn forget_routes(&self) {
        self.routes.write().clear();
        self.changes.fetch_add(1, Ordering::Release);
    }

    pub(super) fn queues(&self) -> Vec<Arc<Queue>> {
        let table = self.table.lock();
        let literal = table.literal.values().flatten();
        literal
            .chain(&table.wild)
            .map(|member| Arc::clone(&member.queue))
            .collect()
    }
}

impl Table {
    fn members_of(&mut self, queue: &Queue) -> Option<&mut Vec<Member>> {
        if queue.pattern.is_literal() {
            self.literal.get_mut(queue.pattern.as_str())
        } else {
            Some(&mut self.wild)
        }
    }

    fn members_mut(&mut self, pattern: &Pattern) -> &mut Vec<Member> {
        if pattern.is_literal() {
            self.literal.entry(pattern.as_str().into()).or_default()
        } else {
            &mut self.wild
        }
    }

    fn route(&self, subject: &str) -> Route {
        let literal = self.literal.get(subject).into_iter().flatten();
        let wild = self
            .wild
            .iter()
            .filter(|member| member.queue.pattern.matches(subject));
        let mut route = Route::default();
        for queue in literal.chain(wild).map(|member| &member.queue) {
            match &queue.group {
                None => route.all.push(Arc::clone(queue)),
                Some(name) => route.join(name, queue),
            }
        }
        route
    }
}

impl Route {
    fn join(&mut self, name: &Text, queue: &Arc<Queue>) {
        let named = |group: &&mut Group| group.queues[0].group.as_ref() == Some(name);
        match self.groups.iter_mut().find(named) {
            Some(group) => group.queues.push(Arc::clone(queue)),
            None => self.groups.push(Group {
                queues: vec![Arc::clone(queue)],
                turn: AtomicUsize::new(0),
            }),
        }
    }
}
