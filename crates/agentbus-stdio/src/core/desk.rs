//! What one worker owes: the requests it has not answered, and the ones it asked itself.
//!
//! Requests are found by the text of their id, as worker answers carry it. A client's id is used
//! as it is unless another request pending here has the same text; then the worker sees an id of
//! ours, of the same JSON type, and the client's own is put back into the answer.
//!
//! The surprising invariant: **a request whose client has given up stays on the desk.** Its
//! answer may still come, and must not reach a newer request with the same id.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use agentbus_protocol::jsonrpc::{Id, IdKind};
use foldhash::fast::RandomState;
use smol_str::{SmolStr, format_smolstr};

use super::sessions::SessionId;
use super::{ClientId, Micros};
use crate::limits::ABANDONED_REQUESTS;

/// First number that stands in for a client's: beyond what people count to, exact in a double.
const FIRST_MINTED: u64 = 1 << 52;

/// A request that a worker has not answered.
#[derive(Debug)]
pub(crate) struct Pending {
    /// `None` once nobody waits for the answer any more.
    pub(crate) client: Option<ClientId>,
    kind: IdKind,
    /// The client's id as it stood in the line, where the key does not tell.
    raw: Option<SmolStr>,
    pub(crate) session: Option<SessionId>,
    pub(crate) since: Micros,
    pub(crate) serial: u64,
}

/// A request of the worker that no client has answered.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Those it was sent to.
    pub(crate) clients: Vec<ClientId>,
    /// The worker's id as it stood in the line.
    pub(crate) raw: SmolStr,
}

#[derive(Debug, Default)]
pub(crate) struct Desk {
    pending: HashMap<SmolStr, Pending, RandomState>,
    pub(crate) asked: HashMap<SmolStr, Asked, RandomState>,
    abandoned: VecDeque<(SmolStr, u64)>,
    /// Those on the desk that nobody waits for.
    abandoned_now: usize,
    minted: u64,
    serial: u64,
}

/// Where a new request was put.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) key: SmolStr,
    pub(crate) serial: u64,
    /// Raw JSON of the id the worker sees instead of the client's.
    pub(crate) replaced: Option<SmolStr>,
}

impl Desk {
    /// Returns how many requests somebody waits for.
    pub(crate) fn in_flight(&self) -> usize {
        self.pending.len() - self.abandoned_now
    }

    /// Puts the request of a line on the desk.
    pub(crate) fn put(
        &mut self,
        id: &Id<'_>,
        line: &[u8],
        client: ClientId,
        session: Option<SessionId>,
        now: Micros,
    ) -> Placed {
        self.serial += 1;
        let (serial, kind) = (self.serial, id.kind);
        // The scanner has checked that the id is UTF-8.
        let raw = || SmolStr::new(std::str::from_utf8(&line[id.span.clone()]).unwrap_or("null"));
        let mut pending = Pending {
            client: Some(client),
            kind,
            raw: (!is_told_by_text(id)).then(raw),
            session,
            since: now,
            serial,
        };
        let (key, replaced) = match self.pending.entry(SmolStr::new(&id.text)) {
            Entry::Vacant(free) => {
                let key = free.key().clone();
                free.insert(pending);
                (key, None)
            }
            Entry::Occupied(_) => {
                let (key, shown) = self.mint(kind);
                pending.raw = Some(raw());
                self.pending.insert(key.clone(), pending);
                (key, Some(shown))
            }
        };
        Placed {
            key,
            serial,
            replaced,
        }
    }

    /// Takes the request that an answer with this id belongs to.
    pub(crate) fn take(&mut self, text: &str) -> Option<(SmolStr, Pending)> {
        let (key, pending) = self.pending.remove_entry(text)?;
        self.abandoned_now -= usize::from(pending.client.is_none());
        Some((key, pending))
    }

    /// Tells whether somebody still waits for the answer to this request.
    pub(crate) fn awaits(&self, key: &str, serial: u64) -> bool {
        let pending = self.pending.get(key);
        pending.is_some_and(|pending| pending.serial == serial && pending.client.is_some())
    }

    /// Marks one request as given up and returns it as it was, if it is still that one.
    pub(crate) fn abandon(&mut self, key: &str, serial: u64) -> Option<Abandoned> {
        let pending = self.pending.get_mut(key)?;
        if pending.serial != serial {
            return None;
        }
        let client = pending.client.take()?;
        let abandoned = Abandoned {
            client,
            session: pending.session.take(),
            raw: pending.raw_id(key),
        };
        self.abandoned_now += 1;
        self.abandoned.push_back((SmolStr::new(key), serial));
        self.forget_oldest();
        Some(abandoned)
    }

    /// Marks every request of a client as given up and returns their sessions.
    pub(crate) fn abandon_all(&mut self, client: ClientId) -> Vec<Option<SessionId>> {
        let of_client: Vec<(SmolStr, u64)> = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.client == Some(client))
            .map(|(key, pending)| (key.clone(), pending.serial))
            .collect();
        of_client
            .iter()
            .filter_map(|(key, serial)| self.abandon(key, *serial))
            .map(|abandoned| abandoned.session)
            .collect()
    }

    /// Clears the desk of a worker that has ended, and returns what it owed, oldest first.
    pub(crate) fn clear(&mut self) -> Vec<(SmolStr, Pending)> {
        let mut owed: Vec<_> = self.pending.drain().collect();
        owed.sort_unstable_by_key(|(_, pending)| pending.serial);
        self.asked.clear();
        self.abandoned.clear();
        self.abandoned_now = 0;
        owed
    }

    /// Bounds what is remembered for answers that may never come.
    fn forget_oldest(&mut self) {
        while self.abandoned_now > ABANDONED_REQUESTS
            || self.abandoned.len() > 2 * ABANDONED_REQUESTS
        {
            let Some((key, serial)) = self.abandoned.pop_front() else {
                return;
            };
            let same = |pending: &Pending| pending.serial == serial && pending.client.is_none();
            if self.pending.get(&key).is_some_and(same) {
                self.pending.remove(&key);
                self.abandoned_now -= 1;
            }
        }
    }

    /// Finds an id that nothing on the desk has: its text, and its JSON of the client's type.
    fn mint(&mut self, kind: IdKind) -> (SmolStr, SmolStr) {
        loop {
            self.minted += 1;
            let number = FIRST_MINTED + self.minted;
            let (text, shown) = match kind {
                IdKind::Number => (format_smolstr!("{number}"), format_smolstr!("{number}")),
                _ => (
                    format_smolstr!("bus:{number}"),
                    format_smolstr!("\"bus:{number}\""),
                ),
            };
            if !self.pending.contains_key(&text) {
                return (text, shown);
            }
        }
    }
}

/// What is known of a request that was given up.
#[derive(Debug)]
pub(crate) struct Abandoned {
    pub(crate) client: ClientId,
    pub(crate) session: Option<SessionId>,
    pub(crate) raw: SmolStr,
}

impl Pending {
    /// Returns the client's id as it stood in its line.
    pub(crate) fn raw_id(&self, key: &str) -> SmolStr {
        match (&self.raw, self.kind) {
            (Some(raw), _) => raw.clone(),
            (None, IdKind::String) => format_smolstr!("\"{key}\""),
            (None, _) => SmolStr::new(key),
        }
    }

    /// Tells whether an answer with this id may go out as it is.
    pub(crate) fn is_answered_by(&self, id: &Id<'_>) -> bool {
        self.raw.is_none() && self.kind == id.kind && is_told_by_text(id)
    }
}

/// Tells whether an id's text and type say how it stood in the line, as they do unless it was
/// written with escapes.
fn is_told_by_text(id: &Id<'_>) -> bool {
    match id.kind {
        IdKind::String => id.span.len() == id.text.len() + 2,
        _ => true,
    }
}
