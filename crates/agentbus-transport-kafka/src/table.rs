//! Who listens, as every client reads it from one compacted topic.
//!
//! A client, each of its subscriptions, and each durable name are one record, removed by an empty
//! one. All clients read the records in one order, so that those who must agree, do: the first to
//! use a durable name decides its pattern, and the one place without a group goes to whoever came
//! first.
//!
//! Publishers deal messages to the members of groups from this table. One that has not read of a
//! member yet deals it nothing; see [`Table::steps_in`] for a group that nobody had read of.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agentbus_protocol::Pattern;
use agentbus_transport::limits as common;
use foldhash::quality::RandomState;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::limits;

/// What a record says of a subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) pattern: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// The durable name from whose queue it takes; empty for a replay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) durable: Option<String>,
}

/// What a record says of a durable name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Durable {
    pub(crate) pattern: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
}

/// The key of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key<'a> {
    Client(&'a str),
    Member(&'a str),
    Durable(&'a str),
}

impl<'a> Key<'a> {
    pub(crate) fn text(self) -> String {
        match self {
            Self::Client(name) => format!("client {name}"),
            Self::Member(id) => format!("member {id}"),
            Self::Durable(name) => format!("durable {name}"),
        }
    }

    fn parse(text: &'a str) -> Option<Self> {
        let (kind, name) = text.split_once(' ')?;
        match kind {
            "client" => Some(Self::Client(name)),
            "member" => Some(Self::Member(name)),
            "durable" => Some(Self::Durable(name)),
            _ => None,
        }
    }
}

/// The client that a member belongs to.
pub(crate) fn client_of(member: &str) -> &str {
    member.split_once('/').map_or(member, |(client, _)| client)
}

/// Where a message goes.
#[derive(Debug, Default)]
pub(crate) struct Route {
    /// Whether anybody listens for themselves.
    plain: bool,
    /// Whether a durable name or a replay takes events of this subject from the log.
    kept: bool,
    /// Each group with its members.
    groups: Vec<(Arc<str>, Vec<Arc<str>>)>,
}

impl Route {
    /// Whether anybody receives a message; durable names keep events and no calls.
    pub(crate) fn has_receiver(&self, is_event: bool) -> bool {
        self.plain || !self.groups.is_empty() || (is_event && self.kept)
    }
}

/// A member to whom a message is dealt, and for which group.
pub(crate) type Dealt = (Arc<str>, Arc<str>);

#[derive(Debug, Default)]
pub(crate) struct Table {
    state: Mutex<State>,
    turns: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    clients: HashMap<String, Life>,
    members: BTreeMap<Arc<str>, Entry>,
    durables: HashMap<String, (Durable, Pattern)>,
    /// Where each subject goes, as it was last looked up.
    routes: HashMap<String, Arc<Route>, RandomState>,
    /// The number of the next record.
    position: i64,
    /// Our own beats that were heard.
    beats: u64,
}

/// When a client was last heard.
#[derive(Debug, Clone, Copy)]
struct Life {
    beat: u64,
    /// The broker's time of its last record, in milliseconds.
    said_at: i64,
}

#[derive(Debug)]
struct Entry {
    member: Member,
    pattern: Pattern,
    /// The record that brought it.
    joined: i64,
}

/// What a record changed that somebody else has to act on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    /// A client said goodbye or was removed.
    Left(String),
    /// A durable name was to get other properties than it has. Compaction keeps the last record,
    /// so the first has to be written again.
    Overwritten(String, Durable),
}

impl Table {
    /// Takes a record in.
    pub(crate) fn apply(
        &self,
        at: i64,
        time: i64,
        key: &str,
        value: Option<&[u8]>,
        own: &str,
    ) -> Change {
        let mut state = self.state.lock();
        state.position = at + 1;
        match (Key::parse(key), value) {
            (Some(Key::Client(name)), Some(_)) => state.hear(name, time, own),
            (Some(Key::Client(name)), None) => {
                state.clients.remove(name);
                return Change::Left(name.to_owned());
            }
            (Some(Key::Member(id)), Some(value)) => state.join(id, value, at),
            (Some(Key::Member(id)), None) => state.leave(id),
            (Some(Key::Durable(name)), Some(value)) => return state.name(name, value),
            (Some(Key::Durable(name)), None) => {
                state.durables.remove(name);
                state.routes.clear();
            }
            (None, _) => {}
        }
        Change::None
    }

    /// The number of the record that will be read next.
    pub(crate) fn position(&self) -> i64 {
        self.state.lock().position
    }

    /// Where messages of a subject go.
    pub(crate) fn route(&self, subject: &str) -> (Arc<Route>, i64) {
        let mut state = self.state.lock();
        let position = state.position;
        if let Some(route) = state.routes.get(subject) {
            return (Arc::clone(route), position);
        }
        let route = Arc::new(state.find(subject));
        if state.routes.len() >= common::ROUTES_MAX {
            state.routes.clear();
        }
        state.routes.insert(subject.to_owned(), Arc::clone(&route));
        (route, position)
    }

    /// Chooses one member of each group, each in turn.
    pub(crate) fn deal(&self, route: &Route) -> Vec<Dealt> {
        if route.groups.is_empty() {
            return Vec::new();
        }
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        let choose = |(group, members): &(Arc<str>, Vec<Arc<str>>)| {
            let member = &members[turn % members.len()];
            (Arc::clone(member), Arc::clone(group))
        };
        route.groups.iter().map(choose).collect()
    }

    /// Whether a member takes a message that its publisher dealt to nobody of the group, because
    /// all of it joined at `seen` or later, which the publisher had not read. The first to join
    /// does; whoever joined after it has read of it, so that two never do.
    pub(crate) fn steps_in(&self, id: &str, group: &str, subject: &str, seen: i64) -> bool {
        let state = self.state.lock();
        let of_group = state.members.iter().filter(|(_, entry)| {
            entry.member.durable.is_none()
                && entry.member.group.as_deref() == Some(group)
                && entry.pattern.matches(subject)
        });
        let first = of_group.min_by_key(|(_, entry)| entry.joined);
        first.is_some_and(|(first, entry)| entry.joined >= seen && **first == *id)
    }

    /// Forgets a member of our own at once; the record follows.
    pub(crate) fn leave(&self, id: &str) {
        self.state.lock().leave(id);
    }

    pub(crate) fn durable(&self, name: &str) -> Option<Durable> {
        let state = self.state.lock();
        state.durables.get(name).map(|(durable, _)| durable.clone())
    }

    /// The members of a durable name, the first to join first.
    pub(crate) fn members_of(&self, name: &str) -> Vec<Arc<str>> {
        let state = self.state.lock();
        let all = state.members.iter();
        let of_name = all.filter(|(_, entry)| entry.member.durable.as_deref() == Some(name));
        let mut found: Vec<_> = of_name.map(|(id, entry)| (entry.joined, id)).collect();
        found.sort_unstable();
        found.into_iter().map(|(_, id)| Arc::clone(id)).collect()
    }

    /// The broker's time at which a client was last heard; `None` for one that is gone.
    pub(crate) fn last_heard(&self, client: &str) -> Option<i64> {
        let state = self.state.lock();
        state.clients.get(client).map(|life| life.said_at)
    }

    /// Clients that are gone: silent for too many of our beats.
    pub(crate) fn silent(&self) -> Vec<String> {
        let state = self.state.lock();
        let beats = state.beats;
        let silent = |life: &Life| beats.saturating_sub(life.beat) > limits::MISSED_BEATS;
        state.silent(silent)
    }

    /// Clients that were silent for too long already when we came, at this time of the broker.
    pub(crate) fn stale(&self, now: i64) -> Vec<String> {
        let life = i64::try_from(limits::CLIENT_LIFE.as_millis()).unwrap_or(i64::MAX);
        let state = self.state.lock();
        state.silent(|heard: &Life| now.saturating_sub(heard.said_at) > life)
    }

    /// Forgets a client. Returns the keys of all records about it, which are to be removed.
    pub(crate) fn bury(&self, client: &str) -> Vec<String> {
        let mut state = self.state.lock();
        state.clients.remove(client);
        let ids: Vec<_> = state
            .members
            .keys()
            .filter(|id| client_of(id) == client)
            .map(Arc::clone)
            .collect();
        ids.iter().for_each(|id| state.leave(id));
        let mut keys: Vec<_> = ids.iter().map(|id| Key::Member(id).text()).collect();
        keys.push(Key::Client(client).text());
        keys
    }
}

impl State {
    fn hear(&mut self, client: &str, time: i64, own: &str) {
        if client == own {
            self.beats += 1;
        } else if self.clients.len() >= limits::TABLE_ENTRIES && !self.clients.contains_key(client)
        {
            return;
        }
        let life = Life {
            beat: self.beats,
            said_at: time,
        };
        self.clients.insert(client.to_owned(), life);
    }

    fn join(&mut self, id: &str, value: &[u8], at: i64) {
        let read = serde_json::from_slice::<Member>(value).ok();
        let Some((member, pattern)) = read
            .and_then(|member| Some((Pattern::parse(&member.pattern).ok()?, member)))
            .map(|(pattern, member)| (member, pattern))
        else {
            return;
        };
        if self.members.len() >= limits::TABLE_ENTRIES {
            tracing::warn!(
                id,
                "there are too many subscriptions to know of another one"
            );
            return;
        }
        // A client whose first beat was missed is alive, as it has just joined.
        let (beat, said_at) = (self.beats, i64::MAX);
        self.clients
            .entry(client_of(id).to_owned())
            .or_insert(Life { beat, said_at });
        let entry = Entry {
            member,
            pattern,
            joined: at,
        };
        self.members.insert(id.into(), entry);
        self.routes.clear();
    }

    fn leave(&mut self, id: &str) {
        if self.members.remove(id).is_some() {
            self.routes.clear();
        }
    }

    fn name(&mut self, name: &str, value: &[u8]) -> Change {
        let Ok(durable) = serde_json::from_slice::<Durable>(value) else {
            return Change::None;
        };
        if let Some((first, _)) = self.durables.get(name) {
            if *first == durable {
                return Change::None;
            }
            return Change::Overwritten(name.to_owned(), first.clone());
        }
        if self.durables.len() < limits::TABLE_ENTRIES
            && let Ok(pattern) = Pattern::parse(&durable.pattern)
        {
            self.durables.insert(name.to_owned(), (durable, pattern));
            self.routes.clear();
        }
        Change::None
    }

    fn find(&self, subject: &str) -> Route {
        let mut route = Route {
            kept: self
                .durables
                .values()
                .any(|(_, pattern)| pattern.matches(subject)),
            ..Route::default()
        };
        for (id, entry) in &self.members {
            if !entry.pattern.matches(subject) {
                continue;
            }
            if entry.member.durable.is_some() {
                route.kept = true;
                continue;
            }
            let Some(group) = entry.member.group.as_deref() else {
                route.plain = true;
                continue;
            };
            match route.groups.iter_mut().find(|(name, _)| **name == *group) {
                Some((_, members)) => members.push(Arc::clone(id)),
                None => route.groups.push((group.into(), vec![Arc::clone(id)])),
            }
        }
        route
    }

    fn silent(&self, is_silent: impl Fn(&Life) -> bool) -> Vec<String> {
        let silent = self.clients.iter().filter(|(_, life)| is_silent(life));
        silent.map(|(client, _)| client.clone()).collect()
    }
}
