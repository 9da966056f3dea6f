//! Questions that wait for a person, and the first answer to each.
//!
//! An open question is what somebody waits for now, so it is kept in memory; what became of it is
//! told as events, `decision.opened`, `decision.closed` and `decision.completed`. The first answer
//! wins. For as long as closed questions are remembered, the same answer once more is taken as a
//! repetition, and another one is told what was decided.

mod closed;
mod source;
mod voice;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use agentbus::transport::BoxFuture;
use agentbus::{Bus, mint};
use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use serde_json::json;
use tokio::sync::{oneshot, watch};

pub use source::Source;
pub use voice::Voice;

use crate::Answer;
use crate::announce::Announcer;
use crate::limits::DECISIONS_OPEN;
use crate::question::{Ask, Asker, Decider, Decision, Question, timestamp};
use closed::{Closed, Remembered};

/// The open questions of a host. Cloning gives another handle.
#[derive(Clone)]
pub struct Board(Arc<Inner>);

struct Inner {
    questions: Mutex<Questions>,
    sources: RwLock<Vec<Arc<dyn Source>>>,
    announcer: Announcer,
    /// Counts what was opened and closed here.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Questions {
    /// Their ids begin with the time, so the oldest comes first.
    open: BTreeMap<String, Open>,
    closed: Remembered,
}

struct Open {
    decision: Decision,
    answer: oneshot::Sender<Answer>,
}

/// An answer that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Taken {
    /// What was decided.
    pub option: String,
    /// Whether it had been decided before, in the same way.
    pub already_decided: bool,
}

/// Why an answer does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// There is and was no such question, as far as is remembered, for the one who answers.
    #[error("there is no decision `{0}`")]
    Unknown(String),
    /// Somebody answered something else before, or nobody did in time.
    #[error("{}", closed_text(.decided.as_deref()))]
    Closed {
        /// What was decided, if anything was.
        decided: Option<String>,
    },
    /// It is none of these options.
    #[error("`{option}` is no option of this decision; there is {}", .options.join(", "))]
    NoOption {
        /// What was chosen.
        option: String,
        /// What can be chosen.
        options: Vec<String>,
    },
    /// What was filled in does not fit.
    #[error("the answer does not fit the form: {0}")]
    Unfit(String),
    /// Whoever answers must not.
    #[error("{0}")]
    NotYours(&'static str),
    /// The place where it waits refuses: what it asks about has changed.
    #[error("{0}")]
    Refused(String),
    /// The place where it waits cannot be reached.
    #[error("{0}")]
    Failed(String),
}

fn closed_text(decided: Option<&str>) -> String {
    match decided {
        Some(option) => format!("the decision was made before: `{option}`"),
        None => "the decision is out of time, or was withdrawn".to_owned(),
    }
}

/// Closes a question that its asker does not wait for any more.
struct Asked<'a> {
    board: &'a Board,
    id: String,
    until: Option<SystemTime>,
}

impl Board {
    /// A board that announces on this bus.
    #[must_use]
    pub fn new(bus: Bus) -> Self {
        Self(Arc::new(Inner {
            questions: Mutex::default(),
            sources: RwLock::default(),
            announcer: Announcer::new(bus),
            changes: watch::Sender::new(0),
        }))
    }

    /// Lists what waits elsewhere too.
    pub fn join(&self, source: Arc<dyn Source>) {
        self.0.sources.write().push(source);
    }

    /// Changes its value with every question that is opened or closed on this board. Whoever shows
    /// questions looks at [`Board::open`] each time.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// The questions that wait on this board itself, the oldest first.
    #[must_use]
    pub fn open(&self) -> Vec<Decision> {
        let questions = self.0.questions.lock();
        let open = questions.open.values();
        open.map(|open| open.decision.clone()).collect()
    }

    /// All questions that somebody may see, the oldest first.
    ///
    /// # Errors
    /// Says why a source cannot be asked.
    pub async fn list(&self, voice: &Voice) -> Result<Vec<Decision>, String> {
        let mut all = self.open();
        all.retain(|decision| voice.sees(&decision.question));
        for source in self.sources_for(voice) {
            all.extend(source.open().await?);
        }
        all.sort_by(|one, other| one.since.cmp(&other.since));
        Ok(all)
    }

    fn sources_for(&self, voice: &Voice) -> Vec<Arc<dyn Source>> {
        match voice {
            Voice::Person(_) => self.0.sources.read().clone(),
            Voice::Assistant(_) | Voice::Agent(_) => Vec::new(),
        }
    }

    /// Answers a question.
    ///
    /// # Errors
    /// A [`NotTaken`] that says why the answer does not count.
    pub async fn answer(&self, id: &str, given: Answer, voice: &Voice) -> Result<Taken, NotTaken> {
        voice.may_answer_at_all()?;
        match self.answer_here(id, &given, voice) {
            Err(NotTaken::Unknown(_)) => {}
            answered => return answered,
        }
        for source in self.sources_for(voice) {
            match source.answer(id, &given).await {
                Err(NotTaken::Unknown(_)) => {}
                answered => return answered,
            }
        }
        Err(NotTaken::Unknown(id.to_owned()))
    }

    fn answer_here(&self, id: &str, given: &Answer, voice: &Voice) -> Result<Taken, NotTaken> {
        let mut questions = self.0.questions.lock();
        let Some(open) = questions.open.get(id) else {
            return questions.closed.repeated(id, given);
        };
        let question = &open.decision.question;
        if !voice.sees(question) {
            return Err(NotTaken::Unknown(id.to_owned()));
        }
        fits(question, given)?;
        let Some(open) = questions.open.remove(id) else {
            return Err(NotTaken::Unknown(id.to_owned()));
        };
        let closed = Closed::answered(&open.decision, given);
        if open.answer.send(given.clone()).is_err() {
            // Whoever asked gave up at the same moment.
            let closed = Closed::unanswered(&open.decision);
            self.close_with(&mut questions, closed, "cancelled", None);
            return Err(NotTaken::Closed { decided: None });
        }
        self.close_with(&mut questions, closed, "answered", Some(voice.name()));
        Ok(Taken {
            option: given.option.clone(),
            already_decided: false,
        })
    }

    /// Puts a question up that is asked elsewhere too: whichever answer comes first counts, and is
    /// told to everybody. `by` is who answers elsewhere; nobody's answer there withdraws the
    /// question.
    pub async fn decide_beside(
        &self,
        question: Question,
        by: &str,
        elsewhere: impl Future<Output = Option<Answer>>,
    ) -> Option<Answer> {
        let patience = question.patience;
        let Some((asked, answer)) = self.put_up(question) else {
            // No room on the board is no reason not to hear the one who is asked anyway.
            return elsewhere.await;
        };
        let both = async {
            tokio::select! {
                biased;
                answer = answer => answer.ok(),
                given = elsewhere => self.answered_elsewhere(&asked.id, given?, by),
            }
        };
        tokio::time::timeout(patience, both).await.ok().flatten()
    }

    fn answered_elsewhere(&self, id: &str, given: Answer, by: &str) -> Option<Answer> {
        let mut questions = self.0.questions.lock();
        if let Some(open) = questions.open.remove(id) {
            let closed = Closed::answered(&open.decision, &given);
            self.close_with(&mut questions, closed, "answered", Some(by));
        }
        Some(given)
    }

    /// Tells that something was asked elsewhere; `what` is as much of it as everybody may hear.
    pub fn announce_opened(&self, what: &impl Serialize) {
        self.0.announcer.announce("decision.opened", what);
        self.changed();
    }

    /// Tells that something was decided elsewhere.
    pub fn announce_closed(&self, id: &str, option: &str) {
        let closed = json!({ "id": id, "outcome": "answered", "option": option });
        self.0.announcer.announce("decision.closed", &closed);
        self.changed();
    }

    /// Waits until everything is announced.
    pub async fn close(&self) {
        self.0.announcer.close().await;
    }

    /// Puts a question up; `None` when there is no room for it.
    fn put_up(&self, question: Question) -> Option<(Asked<'_>, oneshot::Receiver<Answer>)> {
        let since = SystemTime::now();
        let until = since.checked_add(question.patience);
        let id = mint::stamp().event_id.to_string();
        let decision = Decision {
            id: id.clone(),
            question,
            since: timestamp(since),
            until: until.map(timestamp),
        };
        let (answer, answered) = oneshot::channel();
        let mut questions = self.0.questions.lock();
        if questions.open.len() >= DECISIONS_OPEN {
            return None;
        }
        self.0.announcer.announce("decision.opened", &decision);
        questions.open.insert(id.clone(), Open { decision, answer });
        self.changed();
        let asked = Asked {
            board: self,
            id,
            until,
        };
        Some((asked, answered))
    }

    /// Remembers and tells what became of a question.
    fn close_with(
        &self,
        questions: &mut Questions,
        closed: Closed,
        outcome: &str,
        by: Option<&str>,
    ) {
        let told =
            json!({ "id": closed.id, "outcome": outcome, "option": closed.option, "by": by });
        self.0.announcer.announce("decision.closed", &told);
        questions.closed.keep(closed);
        self.changed();
    }

    fn changed(&self) {
        self.0.changes.send_modify(|count| *count += 1);
    }
}

/// Whether an answer is one to this question.
fn fits(question: &Question, given: &Answer) -> Result<(), NotTaken> {
    if !question.offers(&given.option) {
        return Err(NotTaken::NoOption {
            option: given.option.clone(),
            options: question.option_ids(),
        });
    }
    let accepted = given.option == Question::ACCEPT;
    match (&question.ask, &given.content) {
        (Ask::Form { form }, content) if accepted => {
            let content = content.clone().unwrap_or_default();
            form.check(&content).map_err(NotTaken::Unfit)
        }
        (_, None) => Ok(()),
        (_, Some(_)) => Err(NotTaken::Unfit(
            "only a form that is accepted takes `content`".to_owned(),
        )),
    }
}

impl Decider for Board {
    fn decide(&self, question: Question) -> BoxFuture<'_, Option<Answer>> {
        Box::pin(async move {
            let patience = question.patience;
            let Some((_asked, answer)) = self.put_up(question) else {
                tracing::warn!(
                    "{DECISIONS_OPEN} questions are open; another one is answered `cancelled`"
                );
                return None;
            };
            let answer = tokio::time::timeout(patience, answer).await;
            answer.ok().and_then(Result::ok)
        })
    }

    fn decide_or<'a>(
        &'a self,
        question: Question,
        elsewhere: BoxFuture<'a, Option<Answer>>,
    ) -> BoxFuture<'a, Option<Answer>> {
        Box::pin(self.decide_beside(question, "an editor", elsewhere))
    }

    fn complete(&self, asker: &Asker, elicitation: &str) {
        let mut questions = self.0.questions.lock();
        let named = |open: &Open| open.decision.question.is_elicitation(asker, elicitation);
        let open = questions.open.iter().find(|(_, open)| named(open));
        let id = match open.map(|(id, _)| id.clone()) {
            Some(id) => {
                let Some(open) = questions.open.remove(&id) else {
                    return;
                };
                // Whoever went there without saying so has accepted.
                let accepted = Answer::option(Question::ACCEPT);
                let closed = Closed::answered(&open.decision, &accepted);
                self.close_with(&mut questions, closed, "completed", None);
                let _ = open.answer.send(accepted);
                id
            }
            None => match questions.closed.accepted(asker, elicitation) {
                Some(id) => id,
                None => return,
            },
        };
        let told = json!({ "id": id });
        self.0.announcer.announce("decision.completed", &told);
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let mut questions = self.board.0.questions.lock();
        let Some(open) = questions.open.remove(&self.id) else {
            return;
        };
        let outcome = match self.until {
            Some(until) if SystemTime::now() >= until => "expired",
            _ => "cancelled",
        };
        let closed = Closed::unanswered(&open.decision);
        self.board.close_with(&mut questions, closed, outcome, None);
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = self.0.questions.lock().open.len();
        f.debug_struct("Board")
            .field("open", &open)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
