//! Who is with a session of an agent: the editors that can be asked what the agent asks.
//!
//! Any number may be with it. A question for a person goes to all of them, and the first answer
//! counts; a question about files and terminals goes to the one in control, and only if it said
//! that it serves such questions.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;

use crate::log::Key;
use crate::sdk::serving::{Client, Error};

/// What a client said that it serves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Serves {
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) terminal: bool,
}

impl Serves {
    pub(crate) const ALL: Self = Self {
        read: true,
        write: true,
        terminal: true,
    };
}

/// The editors of all sessions. Cloning gives another handle.
#[derive(Debug, Clone, Default)]
pub(crate) struct Company(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The first guest of a session is in control of it.
    guests: Mutex<HashMap<Key, Vec<Guest>>>,
    /// Counts those who came, so that they hear of questions that are open already.
    came: watch::Sender<u64>,
    numbers: AtomicU64,
}

/// An editor with a session.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    number: u64,
    client: Client,
    /// What the editor calls the session.
    session: String,
    serves: Serves,
}

/// A guest's place; it is left when this is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    company: Company,
    key: Key,
    number: u64,
}

/// How a question to all guests ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Said {
    /// The option with this id was chosen; the whole answer.
    Chosen(String, Value),
    /// Nobody who was asked wants to choose.
    Cancelled,
}

impl Company {
    /// Lets an editor be with a session.
    pub(crate) fn join(&self, key: Key, client: Client, session: String, serves: Serves) -> Seat {
        let number = self.0.numbers.fetch_add(1, Ordering::Relaxed);
        let guest = Guest {
            number,
            client,
            session,
            serves,
        };
        self.0
            .guests
            .lock()
            .entry(key.clone())
            .or_default()
            .push(guest);
        self.0.came.send_modify(|came| *came += 1);
        Seat {
            company: self.clone(),
            key,
            number,
        }
    }

    /// Who is with a session; the first is in control.
    pub(crate) fn guests(&self, key: &Key) -> Vec<Guest> {
        self.0.guests.lock().get(key).cloned().unwrap_or_default()
    }

    /// The guest in control, if it serves this.
    pub(crate) fn host(&self, key: &Key, serves: impl Fn(Serves) -> bool) -> Option<Guest> {
        let guests = self.0.guests.lock();
        let first = guests.get(key)?.first()?;
        serves(first.serves).then(|| first.clone())
    }

    /// The guest of this number, if it is still there.
    pub(crate) fn guest(&self, key: &Key, number: u64) -> Option<Guest> {
        let guests = self.0.guests.lock();
        let found = guests.get(key)?.iter().find(|it| it.number == number);
        found.cloned()
    }

    /// Asks everybody who is with a session, and whoever comes, which option to take. Waits for as
    /// long as nobody says; dropping it takes the question back.
    pub(crate) async fn choose(&self, key: &Key, question: &Value, options: &[String]) -> Said {
        let mut came = self.0.came.subscribe();
        let mut asked = HashSet::new();
        let mut answers = FuturesUnordered::new();
        loop {
            for guest in self.guests(key) {
                if asked.insert(guest.number) {
                    let question = question.clone();
                    answers.push(
                        async move { guest.ask("session/request_permission", question).await },
                    );
                }
            }
            tokio::select! {
                Some(answer) = answers.next() => match read(answer, options) {
                    Some(Said::Cancelled) if !answers.is_empty() => {}
                    Some(said) => return said,
                    // It left, or it does not know what it was asked; others may.
                    None => {}
                },
                // The sender is ours, so that it does not go away.
                _ = came.changed() => {}
            }
        }
    }
}

/// Reads what a guest said; `None` if it is no answer.
fn read(answer: Result<Value, Error>, options: &[String]) -> Option<Said> {
    let answer = answer.ok()?;
    let outcome = &answer["outcome"];
    match outcome["outcome"].as_str()? {
        "cancelled" => Some(Said::Cancelled),
        "selected" => {
            let option = outcome["optionId"].as_str()?.to_owned();
            options
                .contains(&option)
                .then(|| Said::Chosen(option, answer))
        }
        _ => None,
    }
}

impl Guest {
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// Passes a question of an agent on, under the name that the editor has for the session.
    pub(crate) async fn ask(&self, method: &str, mut question: Value) -> Result<Value, Error> {
        question["sessionId"] = self.session.clone().into();
        self.client.ask(method, question).await
    }

    /// Tells it something that stands in no log.
    pub(crate) async fn tell(&self, update: &Value) {
        let update = update.to_string();
        let told = self.client.update_json(&self.session, &update);
        // Fails when it has left, or does not read; it learns of it when it loads the session.
        let _ = tokio::time::timeout(crate::limits::TELL, told).await;
    }
}

impl Seat {
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    pub(crate) const fn key(&self) -> &Key {
        &self.key
    }

    /// Takes control of the session.
    pub(crate) fn take_control(&self) {
        let mut guests = self.company.0.guests.lock();
        if let Some(guests) = guests.get_mut(&self.key)
            && let Some(at) = guests.iter().position(|guest| guest.number == self.number)
        {
            guests[..=at].rotate_right(1);
        }
    }

    /// Whether somebody else is with the session too.
    pub(crate) fn is_shared(&self) -> bool {
        self.company.guests(&self.key).len() > 1
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut all = self.company.0.guests.lock();
        if let Some(guests) = all.get_mut(&self.key) {
            guests.retain(|guest| guest.number != self.number);
            if guests.is_empty() {
                all.remove(&self.key);
            }
        }
    }
}
