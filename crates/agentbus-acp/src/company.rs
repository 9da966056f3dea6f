//! Who is with a session of an agent: the editors that can be asked what the agent asks.
//!
//! Any number may be with it. A question for a person goes to all of them that can ask it, and the
//! first answer counts; a question about files and terminals goes to the one in control, and only if
//! it said that it serves such questions.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;

use crate::decide::{Answer, Ask, Question};
use crate::log::Key;
use crate::sdk::elicitation::{self, Modes};
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

/// What a client said of itself.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Abilities {
    pub(crate) serves: Serves,
    /// How its person can be asked for more than permissions.
    pub(crate) asks: Modes,
    /// Whether it shows what is neither said by the agent nor asked.
    pub(crate) notices: bool,
}

/// The editors of all sessions. Cloning gives another handle.
#[derive(Debug, Clone, Default)]
pub(crate) struct Company(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The first guest of a session is in control of it.
    guests: Mutex<HashMap<Key, Vec<Guest>>>,
    /// Counts those who came and those who left: questions that are open already go to the former,
    /// and wait for the latter no more.
    changes: watch::Sender<u64>,
    numbers: AtomicU64,
}

/// An editor with a session.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    number: u64,
    client: Client,
    /// What the editor calls the session.
    session: String,
    can: Abilities,
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
    /// This was answered; the same as it was written.
    Answered(Answer, Value),
    /// Nobody who was asked wants to answer.
    Cancelled,
}

impl Company {
    /// Lets an editor be with a session.
    pub(crate) fn join(&self, key: Key, client: Client, session: String, can: Abilities) -> Seat {
        let number = self.0.numbers.fetch_add(1, Ordering::Relaxed);
        let guest = Guest {
            number,
            client,
            session,
            can,
        };
        self.0
            .guests
            .lock()
            .entry(key.clone())
            .or_default()
            .push(guest);
        self.0.changes.send_modify(|changes| *changes += 1);
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
        serves(first.can.serves).then(|| first.clone())
    }

    /// The guest of this number, if it is still there.
    pub(crate) fn guest(&self, key: &Key, number: u64) -> Option<Guest> {
        let guests = self.0.guests.lock();
        let found = guests.get(key)?.iter().find(|it| it.number == number);
        found.cloned()
    }

    /// Asks everybody who is with a session, and whoever comes, which option to take. Waits for as
    /// long as nobody says; dropping it takes the question back.
    pub(crate) async fn choose(&self, key: &Key, params: &Value, question: &Question) -> Said {
        let read = |answer: &Value| chosen(answer, question);
        self.ask(key, "session/request_permission", params, |_| true, read)
            .await
    }

    /// The same for facts, and for an address that a person is sent to; only those are asked who can
    /// ask for it.
    pub(crate) async fn elicit(&self, key: &Key, params: &Value, question: &Question) -> Said {
        let can = |guest: &Guest| guest.can_elicit(&question.ask);
        let read = |answer: &Value| filled_in(answer, question);
        self.ask(key, "elicitation/create", params, can, read).await
    }

    /// Tells those who could be sent to an address that what a person was to do there is done.
    pub(crate) fn completed(&self, key: &Key, elicitation: &str) {
        for guest in self.guests(key) {
            if guest.can.asks.url {
                // Fails when it has left.
                let _ = guest.client.completed(elicitation);
            }
        }
    }

    async fn ask(
        &self,
        key: &Key,
        method: &str,
        params: &Value,
        can: impl Fn(&Guest) -> bool,
        read: impl Fn(&Value) -> Option<Said>,
    ) -> Said {
        let mut changes = self.0.changes.subscribe();
        let (mut asked, mut waiting) = (HashSet::new(), HashSet::new());
        let mut answers = FuturesUnordered::new();
        let mut dismissed = false;
        loop {
            let guests = self.guests(key);
            let here = |number: &u64| guests.iter().any(|guest| guest.number == *number);
            asked.retain(here);
            waiting.retain(here);
            for guest in guests.iter().filter(|guest| can(guest)) {
                let (guest, number, params) = (guest.clone(), guest.number, params.clone());
                if asked.insert(number) {
                    waiting.insert(number);
                    answers.push(async move { (number, guest.ask(method, params).await) });
                }
            }
            // As long as somebody still looks at it, it is not dismissed for them.
            if dismissed && waiting.is_empty() {
                return Said::Cancelled;
            }
            tokio::select! {
                Some((number, answer)) = answers.next() => {
                    waiting.remove(&number);
                    match answer.ok().as_ref().and_then(&read) {
                        Some(Said::Cancelled) => dismissed = true,
                        Some(said) => return said,
                        // It left, or what it said is no answer; others may know one.
                        None => {}
                    }
                }
                // The sender is ours, so that it does not go away.
                _ = changes.changed() => {}
            }
        }
    }
}

/// Reads what a guest chose; `None` if it is no answer.
fn chosen(answer: &Value, question: &Question) -> Option<Said> {
    let outcome = &answer["outcome"];
    match outcome["outcome"].as_str()? {
        "cancelled" => Some(Said::Cancelled),
        "selected" => {
            let option = outcome["optionId"].as_str()?;
            question
                .offers(option)
                .then(|| Said::Answered(Answer::option(option), answer.clone()))
        }
        _ => None,
    }
}

/// Reads what a guest's person filled in; `None` if it is no answer to what was asked.
fn filled_in(answer: &Value, question: &Question) -> Option<Said> {
    let given = elicitation::given(answer)?;
    match (given.option.as_str(), &question.ask) {
        (Question::CANCEL, _) => return Some(Said::Cancelled),
        (Question::ACCEPT, Ask::Form { form }) => {
            let content = given.content.clone().unwrap_or_default();
            if form.check(&content).is_err() {
                // Without the problem: it quotes what was filled in, which is in no log.
                tracing::warn!("what an editor sent does not fit its form, which stays open");
                return None;
            }
        }
        _ => {}
    }
    Some(Said::Answered(given, answer.clone()))
}

impl Guest {
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    const fn can_elicit(&self, ask: &Ask) -> bool {
        match ask {
            Ask::Form { .. } => self.can.asks.form,
            Ask::Url { .. } => self.can.asks.url,
            Ask::Permission { .. } | Ask::Card => false,
        }
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
        drop(all);
        self.company.0.changes.send_modify(|changes| *changes += 1);
    }
}
