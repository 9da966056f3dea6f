//! Questions that wait for a person, and the first answer to each.
//!
//! An open question is what somebody waits for now, so it is kept in memory; what became of it is
//! told as events, `decision.opened` and `decision.closed`. The first answer wins: whoever comes
//! second is told so for as long as closed questions are remembered.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use agentbus::transport::BoxFuture;
use agentbus::{Bus, Payload, mint};
use agentbus_acp::{Decider, Question};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::limits::{ANNOUNCEMENTS_WAITING, DECISIONS_CLOSED, DECISIONS_OPEN};

/// The open questions of a host. Cloning gives another handle.
#[derive(Clone)]
pub struct Board(Arc<Inner>);

struct Inner {
    questions: Mutex<Questions>,
    /// Events on their way to the bus, in their order.
    announcements: mpsc::Sender<(&'static str, Payload)>,
    /// The task that publishes them.
    announcing: TaskTracker,
    stop: CancellationToken,
}

#[derive(Default)]
struct Questions {
    /// Their ids begin with the time, so the oldest comes first.
    open: BTreeMap<String, Open>,
    closed: VecDeque<String>,
}

struct Open {
    decision: Decision,
    answer: oneshot::Sender<String>,
}

/// A question as people and programs see it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Decision {
    id: String,
    #[serde(flatten)]
    question: Question,
    /// When it was asked.
    since: String,
    /// When it is answered `cancelled`.
    until: String,
}

/// Why an answer does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// There is and was no such question, as far as is remembered.
    Unknown,
    /// Somebody answered before, or nobody did in time.
    Closed,
    /// It is none of these options.
    NoOption(Vec<String>),
}

/// Closes a question, whatever became of it.
struct Asked {
    board: Board,
    id: String,
    until: SystemTime,
    chosen: Option<String>,
}

impl Board {
    /// A board that announces on this bus.
    #[must_use]
    pub fn new(bus: Bus) -> Self {
        let (announcements, waiting) = mpsc::channel(ANNOUNCEMENTS_WAITING);
        let (announcing, stop) = (TaskTracker::new(), CancellationToken::new());
        announcing.spawn(publish(bus, waiting, stop.clone()));
        Self(Arc::new(Inner {
            questions: Mutex::default(),
            announcements,
            announcing,
            stop,
        }))
    }

    /// The open questions, the oldest first.
    pub(crate) fn list(&self) -> Vec<Decision> {
        let questions = self.0.questions.lock();
        questions
            .open
            .values()
            .map(|open| open.decision.clone())
            .collect()
    }

    /// Answers a question.
    pub(crate) fn answer(&self, id: &str, option: &str) -> Result<(), NotTaken> {
        let mut questions = self.0.questions.lock();
        let Some(open) = questions.open.get(id) else {
            let was = questions.closed.iter().any(|closed| closed == id);
            return Err(if was {
                NotTaken::Closed
            } else {
                NotTaken::Unknown
            });
        };
        let options = &open.decision.question.options;
        if !options.iter().any(|known| known.id == option) {
            let known = options.iter().map(|known| known.id.clone());
            return Err(NotTaken::NoOption(known.collect()));
        }
        let answered = questions
            .remove(id)
            .map(|open| open.answer.send(option.to_owned()));
        match answered {
            Some(Ok(())) => Ok(()),
            // Whoever asked gave up at the same moment.
            _ => Err(NotTaken::Closed),
        }
    }

    /// Waits until everything is announced.
    pub(crate) async fn close(&self) {
        self.0.stop.cancel();
        self.0.announcing.close();
        self.0.announcing.wait().await;
    }

    /// Puts a question up; `None` when there is no room for it.
    fn put_up(&self, question: Question) -> Option<(Asked, oneshot::Receiver<String>)> {
        let since = SystemTime::now();
        let until = since + question.patience;
        let id = mint::stamp().event_id.to_string();
        let time = |time| agentbus::protocol::Timestamp::from_system_time(time).to_string();
        let decision = Decision {
            id: id.clone(),
            question,
            since: time(since),
            until: time(until),
        };
        let (answer, answered) = oneshot::channel();
        let mut questions = self.0.questions.lock();
        if questions.open.len() >= DECISIONS_OPEN {
            return None;
        }
        self.announce("decision.opened", &decision);
        questions.open.insert(id.clone(), Open { decision, answer });
        let asked = Asked {
            board: self.clone(),
            id,
            until,
            chosen: None,
        };
        Some((asked, answered))
    }

    fn announce(&self, event: &'static str, what: &impl Serialize) {
        let Ok(payload) = Payload::json(what) else {
            return;
        };
        let sent = self.0.announcements.try_send((event, payload));
        if matches!(sent, Err(mpsc::error::TrySendError::Full(_))) {
            tracing::warn!(
                event,
                "too many announcements wait for the bus; this one is lost"
            );
        }
    }
}

/// Publishes announcements until told to stop, and then those that wait.
async fn publish(
    bus: Bus,
    mut waiting: mpsc::Receiver<(&'static str, Payload)>,
    stop: CancellationToken,
) {
    loop {
        let next = tokio::select! {
            biased;
            next = waiting.recv() => next,
            () = stop.cancelled() => {
                waiting.close();
                waiting.recv().await
            }
        };
        let Some((event, payload)) = next else { return };
        if let Err(error) = bus.publish_payload(event, Some(payload)).await {
            tracing::debug!(%error, event, "an announcement was not taken by the bus");
        }
    }
}

impl Questions {
    fn remove(&mut self, id: &str) -> Option<Open> {
        let open = self.open.remove(id)?;
        if self.closed.len() >= DECISIONS_CLOSED {
            self.closed.pop_front();
        }
        self.closed.push_back(id.to_owned());
        Some(open)
    }
}

impl Decider for Board {
    fn decide(&self, question: Question) -> BoxFuture<'_, Option<String>> {
        Box::pin(async move {
            let patience = question.patience;
            let Some((mut asked, answer)) = self.put_up(question) else {
                tracing::warn!(
                    "{DECISIONS_OPEN} questions are open; another one is answered `cancelled`"
                );
                return None;
            };
            let answer = tokio::time::timeout(patience, answer).await;
            asked.chosen = answer.ok().and_then(Result::ok);
            asked.chosen.clone()
        })
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.board.0.questions.lock().remove(&self.id);
        let outcome = match &self.chosen {
            Some(_) => "answered",
            None if SystemTime::now() >= self.until => "expired",
            None => "cancelled",
        };
        let closed =
            serde_json::json!({ "id": self.id, "outcome": outcome, "option": self.chosen });
        self.board.announce("decision.closed", &closed);
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
mod tests {
    use std::time::Duration;

    use agentbus_acp::Choice;

    use super::*;

    fn question(patience: Duration) -> Question {
        let option = |id: &str| Choice {
            id: id.to_owned(),
            name: id.to_owned(),
            kind: "allow_once".to_owned(),
        };
        Question {
            agent: "a".to_owned(),
            session: "s".to_owned(),
            title: "t".to_owned(),
            kind: None,
            detail: serde_json::json!({}),
            options: vec![option("yes"), option("no")],
            patience,
        }
    }

    async fn board() -> (Bus, Board) {
        let bus = Bus::builder("test").connect().await.unwrap();
        (bus.clone(), Board::new(bus))
    }

    fn only(board: &Board) -> String {
        let open = board.list();
        assert_eq!(open.len(), 1);
        open[0].id.clone()
    }

    #[tokio::test]
    async fn the_first_answer_wins_and_everybody_hears_of_it() {
        let (bus, board) = board().await;
        let mut events = bus.subscribe("decision.*").await.unwrap();
        let mut asked = board.decide(question(Duration::from_secs(60)));
        assert!(futures_util::poll!(&mut asked).is_pending());
        let id = only(&board);
        let known = vec!["yes".to_owned(), "no".to_owned()];
        assert_eq!(board.answer(&id, "maybe"), Err(NotTaken::NoOption(known)));
        assert_eq!(board.answer("x", "yes"), Err(NotTaken::Unknown));
        assert_eq!(board.answer(&id, "yes"), Ok(()));
        assert_eq!(board.answer(&id, "no"), Err(NotTaken::Closed));
        assert_eq!(asked.await.as_deref(), Some("yes"));
        assert!(board.list().is_empty());
        for (kind, outcome) in [
            ("decision.opened", None),
            ("decision.closed", Some("answered")),
        ] {
            let event = events.next().await.unwrap();
            let event = event.envelope();
            let payload: serde_json::Value = event.payload.as_ref().unwrap().decode().unwrap();
            assert_eq!(event.event_type.as_str(), kind);
            assert_eq!(
                (payload["id"].as_str(), payload["outcome"].as_str()),
                (Some(id.as_str()), outcome)
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_nobody_answers_or_wants_is_closed() {
        let (_bus, board) = board().await;
        assert_eq!(board.decide(question(Duration::from_secs(1))).await, None);
        assert!(board.list().is_empty());
        let mut withdrawn = board.decide(question(Duration::from_secs(60)));
        assert!(futures_util::poll!(&mut withdrawn).is_pending());
        let id = only(&board);
        drop(withdrawn);
        assert_eq!(board.answer(&id, "yes"), Err(NotTaken::Closed));
    }

    #[tokio::test]
    async fn there_is_room_for_so_many_and_no_more() {
        let (_bus, board) = board().await;
        let mut open = Vec::new();
        for _ in 0..DECISIONS_OPEN {
            let mut asked = board.decide(question(Duration::from_secs(60)));
            assert!(futures_util::poll!(&mut asked).is_pending());
            open.push(asked);
        }
        assert_eq!(board.decide(question(Duration::from_secs(60))).await, None);
        drop(open);
        board.close().await;
        assert!(board.list().is_empty());
    }
}
