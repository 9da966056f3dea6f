//! A running call, as its handler sees it.

use std::collections::BTreeMap;
use std::sync::Arc;

use agentbus::protocol::TraceParent;
use agentbus_chat::BoxFuture;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use agentbus_decisions::{Asker, Board, Form, Question};

use crate::ask::Exchange;
use crate::{Ability, Answer, Ask, Fault, Session, Visitor, limits};

/// How much a line of a client's log matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// For whoever looks for a fault.
    Debug,
    /// What happens.
    Info,
    /// What may go wrong.
    Warning,
    /// What went wrong.
    Error,
}

/// The client's end of a call; the SDK is behind it.
pub(crate) trait Client: Send + Sync {
    fn can(&self, ability: Ability) -> bool;
    fn progress(&self, done: f64, total: Option<f64>, message: Option<String>)
    -> BoxFuture<'_, ()>;
    fn log(&self, level: LogLevel, data: Value) -> BoxFuture<'_, ()>;
    /// Whether questions are requests of their own; otherwise the call is repeated.
    fn asks_in_between(&self) -> bool;
    /// Asks; `withdrawn` fires when the answer is not wanted any more, and the client is told so.
    fn request(
        &self,
        ask: Ask,
        withdrawn: CancellationToken,
    ) -> BoxFuture<'_, Result<Value, Fault>>;
}

/// A call of a tool, a prompt or a resource. Cloning gives another handle to the same call.
#[derive(Clone)]
pub struct Call {
    inner: Arc<Inner>,
}

struct Inner {
    client: Arc<dyn Client>,
    visitor: Visitor,
    session: Arc<Session>,
    cancelled: CancellationToken,
    stopping: CancellationToken,
    exchange: Mutex<Exchange>,
    /// Whether the client came back with state that this bus sealed.
    resumed: bool,
    trace: Option<TraceParent>,
    name: String,
    board: Option<Board>,
}

/// Everything that a call is made of.
pub(crate) struct CallParts {
    pub(crate) client: Arc<dyn Client>,
    pub(crate) visitor: Visitor,
    pub(crate) session: Arc<Session>,
    pub(crate) cancelled: CancellationToken,
    pub(crate) stopping: CancellationToken,
    pub(crate) answers: BTreeMap<String, Value>,
    pub(crate) resumed: bool,
    /// The span of this call, or else that of the client that it belongs to.
    pub(crate) trace: Option<TraceParent>,
    /// The tool, prompt or resource.
    pub(crate) name: String,
    /// Where forms are shown beside.
    pub(crate) board: Option<Board>,
}

impl Call {
    pub(crate) fn new(parts: CallParts) -> Self {
        let exchange = Exchange {
            answers: parts.answers,
            ..Exchange::default()
        };
        Self {
            inner: Arc::new(Inner {
                client: parts.client,
                visitor: parts.visitor,
                session: parts.session,
                cancelled: parts.cancelled,
                stopping: parts.stopping,
                exchange: Mutex::new(exchange),
                resumed: parts.resumed,
                trace: parts.trace,
                name: parts.name,
                board: parts.board,
            }),
        }
    }

    /// Who calls.
    #[must_use]
    pub fn visitor(&self) -> &Visitor {
        &self.inner.visitor
    }

    /// What the connection remembers.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.inner.session
    }

    /// Fires when the client gives the call up. The handler is dropped then; only what it started
    /// elsewhere has to look.
    #[must_use]
    pub fn cancelled(&self) -> &CancellationToken {
        &self.inner.cancelled
    }

    /// Fires when the bus stops. A call that waits for others ends then.
    #[must_use]
    pub fn stopping(&self) -> &CancellationToken {
        &self.inner.stopping
    }

    /// Whether the client can do something.
    #[must_use]
    pub fn can(&self, ability: Ability) -> bool {
        self.inner.client.can(ability)
    }

    /// Whether the client has called before and brings answers under a state that this bus gave it.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.inner.resumed
    }

    /// The span that what the call does on the bus belongs to: its own, where the bus collects
    /// spans, and else the one that its client named (`_meta.traceparent`, or the HTTP header
    /// `traceparent`), if it named one.
    #[must_use]
    pub fn trace(&self) -> Option<TraceParent> {
        self.inner.trace
    }

    /// Tells the client how far the call is, if it asked to be told.
    pub async fn progress(&self, done: f64, total: Option<f64>, message: Option<&str>) {
        let message = message.map(str::to_owned);
        self.inner.client.progress(done, total, message).await;
    }

    /// Writes to the client's log, if it wants to read lines of this level.
    pub async fn log(&self, level: LogLevel, data: impl Into<Value> + Send) {
        self.inner.client.log(level, data.into()).await;
    }

    /// Asks the client. The key names the question within the call.
    ///
    /// # Errors
    /// Fails when the client cannot answer such questions, or when it has to call again with the
    /// answer; the handler passes the fault on.
    pub async fn ask(&self, key: &str, ask: Ask) -> Result<Answer, Fault> {
        let mut answers = self.ask_all([(key, ask)]).await?;
        answers.pop().ok_or(Fault::Unanswered)
    }

    /// Asks the client several things at once; the answers have the order of the questions.
    ///
    /// # Errors
    /// As [`Call::ask`].
    pub async fn ask_all<'a>(
        &self,
        asks: impl IntoIterator<Item = (&'a str, Ask)>,
    ) -> Result<Vec<Answer>, Fault> {
        let asks: Vec<(&str, Ask)> = asks.into_iter().collect();
        if let Some((_, ask)) = asks.iter().find(|(_, ask)| !self.can(ask.ability)) {
            return Err(Fault::Unable(ask.ability));
        }
        if !self.inner.client.asks_in_between() {
            return self.take_all(&asks);
        }
        let mut answers = Vec::with_capacity(asks.len());
        for (_, ask) in asks {
            answers.push(self.ask_in_between(ask).await?);
        }
        Ok(answers)
    }

    /// Asks the client now. A form waits on the board too: who asks there is the tool, and its
    /// client's person may be anywhere.
    async fn ask_in_between(&self, ask: Ask) -> Result<Answer, Fault> {
        let withdrawn = CancellationToken::new();
        let (board, message, form) = match (&self.inner.board, ask.form_of()) {
            (Some(board), Some((message, form))) => (board, message.to_owned(), form),
            _ => return Ok(Answer(self.inner.client.request(ask, withdrawn).await?)),
        };
        let question = Question {
            patience: limits::ASK_TIMEOUT,
            ..Question::form(Asker::tool(&self.inner.name), message, form.clone())
        };
        let mut asking = self.inner.client.request(ask, withdrawn.clone());
        let mut said = None;
        let here = async {
            let answer = (&mut asking)
                .await
                .and_then(|answer| fitting(answer, &form));
            let given = answer.as_ref().ok().map(Answer::as_decision);
            said = Some(answer);
            given
        };
        let by = self.inner.visitor.principal.as_str();
        let decided = board.decide_beside(question, by, here).await;
        if let Some(answer) = said {
            return answer;
        }
        withdrawn.cancel();
        // It ends as soon as the client is told.
        let _ = asking.await;
        Ok(Answer::from_decision(decided))
    }

    fn take_all(&self, asks: &[(&str, Ask)]) -> Result<Vec<Answer>, Fault> {
        let mut exchange = self.inner.exchange.lock();
        if exchange.answers.len() + asks.len() > limits::ASKS_MAX {
            let text = format!("a call may ask at most {} questions", limits::ASKS_MAX);
            return Err(Fault::Failed(text));
        }
        // All of them are looked at, so that all that are open go out together.
        let taken: Vec<_> = asks
            .iter()
            .map(|(key, ask)| exchange.take(key, ask))
            .collect();
        taken.into_iter().collect()
    }

    /// What was answered and what was asked; both go to the client when the call ends unanswered.
    pub(crate) fn into_exchange(self) -> Exchange {
        std::mem::take(&mut *self.inner.exchange.lock())
    }
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call")
            .field("visitor", &self.inner.visitor)
            .finish_non_exhaustive()
    }
}

/// What a client said of a form, if it fits; a client that shows forms has checked it, and one that
/// does not is told.
fn fitting(answer: Value, form: &Form) -> Result<Answer, Fault> {
    let answer = Answer(answer);
    match answer.fields().map(|content| form.check(content)) {
        Some(Err(problem)) => Err(Fault::Failed(format!(
            "the client's answer does not fit the form: {problem}"
        ))),
        _ => Ok(answer),
    }
}

/// Reads arguments into what a handler takes.
pub(crate) fn arguments<T: DeserializeOwned>(arguments: Map<String, Value>) -> Result<T, Fault> {
    serde_json::from_value(Value::Object(arguments))
        .map_err(|error| Fault::invalid(format!("the arguments cannot be read: {error}")))
}
