//! Who listens, as every client reads it from one compacted topic.
//!
//! A client, each of its subscriptions, and each durable name are one record, removed by an empty
//! one. All clients read the records in one order, so that those who must agree, do: the first to
//! use a durable name decides its pattern, and the one place without a group goes to whoever came
//! first.
//!
//! Publishers deal messages to the members of groups from this table. One that has not read of a
//! member yet deals it nothing; see [`Table::steps_in`] for a group that nobody had read of.
//!
//! Whoever removes a durable name stands in the table too, in one line with the name's members.

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
    /// Whether it takes nothing, but removes the name, and has it for itself until it is done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) removes: bool,
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
    durables: HashMap<String, Known>,
    /// Where each subject goes, as it was last looked up.
    routes: HashMap<String, Arc<Route>, RandomState>,
    /// The number of the next record.
    position: i64,
    /// Our own beats that were heard.
    beats: u64,
}

/// A durable name.
#[derive(Debug)]
struct Known {
    durable: Durable,
    pattern: Pattern,
    /// The record that brought it; a name that was removed and made again has another.
    life: i64,
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
    /// A durable name was to get other properties than it has, or to be removed by somebody who may
    /// not. Compaction keeps the last record, so the first has to be written again.
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
            (Some(Key::Durable(name)), Some(value)) => return state.name(at, name, value),
            (Some(Key::Durable(name)), None) => return state.forget(name),
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

    /// A durable name, and which life of it this is.
    pub(crate) fn durable(&self, name: &str) -> Option<(Durable, i64)> {
        let state = self.state.lock();
        let known = state.durables.get(name)?;
        Some((known.durable.clone(), known.life))
    }

    /// Which life of a durable name this is; `None` for a name that there is not.
    pub(crate) fn life(&self, name: &str) -> Option<i64> {
        let state = self.state.lock();
        state.durables.get(name).map(|known| known.life)
    }

    /// Whether a member, or somebody who removes a name, is known.
    pub(crate) fn holds(&self, id: &str) -> bool {
        self.state.lock().members.contains_key(id)
    }

    /// The first in the line of a durable name to stand before this one: of its members, or of those
    /// who remove it. Before one that stands nowhere, everybody does.
    pub(crate) fn before(&self, name: &str, id: &str, removes: bool) -> Option<Arc<str>> {
        let state = self.state.lock();
        let own = state.members.get(id);
        let own = own.map_or(i64::MAX, |entry| entry.joined);
        let line = state.line(name, removes);
        let before = line.filter(|(_, entry)| entry.joined < own);
        let first = before.min_by_key(|(_, entry)| entry.joined);
        first.map(|(id, _)| Arc::clone(id))
    }

    /// The members of a durable name, the first to join first.
    pub(crate) fn members_of(&self, name: &str) -> Vec<Arc<str>> {
        let state = self.state.lock();
        let of_name = state.line(name, false);
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

    /// Who stands in the line of a durable name: its members, or those who remove it.
    fn line(&self, name: &str, removes: bool) -> impl Iterator<Item = (&Arc<str>, &Entry)> {
        self.members.iter().filter(move |(_, entry)| {
            entry.member.removes == removes && entry.member.durable.as_deref() == Some(name)
        })
    }

    fn name(&mut self, at: i64, name: &str, value: &[u8]) -> Change {
        let Ok(durable) = serde_json::from_slice::<Durable>(value) else {
            return Change::None;
        };
        if let Some(known) = self.durables.get(name) {
            if known.durable == durable {
                return Change::None;
            }
            return Change::Overwritten(name.to_owned(), known.durable.clone());
        }
        if self.durables.len() < limits::TABLE_ENTRIES
            && let Ok(pattern) = Pattern::parse(&durable.pattern)
        {
            let known = Known {
                durable,
                pattern,
                life: at,
            };
            self.durables.insert(name.to_owned(), known);
            self.routes.clear();
        }
        Change::None
    }

    /// Removes a name. Whoever does stands in its line until all have read this; one that was taken
    /// for gone meanwhile has lost its place to members, and takes the name from nobody.
    fn forget(&mut self, name: &str) -> Change {
        let is_taken =
            self.line(name, true).next().is_none() && self.line(name, false).next().is_some();
        if is_taken && let Some(known) = self.durables.get(name) {
            return Change::Overwritten(name.to_owned(), known.durable.clone());
        }
        self.durables.remove(name);
        self.routes.clear();
        Change::None
    }

    fn find(&self, subject: &str) -> Route {
        let mut route = Route {
            kept: self
                .durables
                .values()
                .any(|known| known.pattern.matches(subject)),
            ..Route::default()
        };
        for (id, entry) in &self.members {
            if entry.member.removes || !entry.pattern.matches(subject) {
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

#[cfg(test)]
mod tests;
