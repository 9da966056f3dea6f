//! Being an ACP agent on lines: the official crate reads and writes them, a trait of ours answers.
//!
//! It promises that requests reach the [`Agent`] in the order of arrival, that every request is
//! answered once, and that what an agent says faster than its client reads makes the agent wait.
//! It knows neither where the lines come from nor what an agent does with a prompt.
//!
//! The surprising invariant: **the end of the input is held back** until the requests under way have
//! had a moment to be answered, so that whoever writes three lines and closes gets three answers.

use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::sync::Arc;

use agent_client_protocol as acp;
use agent_client_protocol::schema::ProtocolVersion;
use agent_client_protocol::v1::{ConnectionTo, Responder};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

pub(crate) use agent_client_protocol::Error;
pub(crate) use agent_client_protocol::v1::schema;

use crate::worker::limits::{ANSWERS_UNWRITTEN_MAX, END_GRACE, STOP_GRACE, UPDATES_UNWRITTEN_MAX};

/// The codes of JSON-RPC.
const INVALID_REQUEST: i32 = -32600;
const INVALID_PARAMS: i32 = -32602;
const INTERNAL_ERROR: i32 = -32603;

/// The version that every agent of ours speaks, whatever it is asked for.
pub(crate) const VERSION: ProtocolVersion = ProtocolVersion::V1;

/// What an agent answers a request with.
pub(crate) type Answer = Result<schema::AgentResponse, Error>;

/// An answer, and what is to be said right after it.
pub(crate) struct Reply {
    answer: Answer,
    then: Option<BoxFuture<'static, ()>>,
}

impl Reply {
    /// Says something once the answer is out: about a session that the client knows only then.
    pub(crate) fn then(mut self, then: impl Future<Output = ()> + Send + 'static) -> Self {
        // After a refusal there is nothing to speak of.
        self.then = self.answer.is_ok().then(|| then.boxed());
        self
    }
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self { answer, then: None }
    }
}

/// An ACP agent, free of what carries its messages.
pub(crate) trait Agent: Send + Sync + 'static {
    /// Takes a request, in the order of arrival.
    ///
    /// Must not wait: what waits belongs into the future. `cancelled` fires when the client no
    /// longer wants the answer; it is for the agent to decide what that means.
    fn request(
        &self,
        request: schema::ClientRequest,
        client: Client,
        cancelled: CancellationToken,
    ) -> BoxFuture<'static, Reply>;

    /// Takes a notification, in the order of arrival; must not wait.
    fn notification(&self, notification: schema::ClientNotification);

    /// Cancels every turn, because the connection ends.
    fn stop(&self);
}

/// The client of an agent: whoever sent the request at hand.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    connection: ConnectionTo<acp::Client>,
    room: Arc<Room>,
}

/// What may be on its way to the output: one place for each update, or for each KiB of a long one.
#[derive(Debug)]
struct Room {
    free: Semaphore,
    /// What the updates on their way took, in their order.
    taken: Mutex<VecDeque<u32>>,
}

impl Room {
    fn new() -> Self {
        Self {
            free: Semaphore::new(UPDATES_UNWRITTEN_MAX),
            taken: Mutex::default(),
        }
    }

    /// Waits for room and sends; cancel safe.
    async fn send(
        &self,
        bytes: usize,
        send: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let places = (bytes / 1024 + 1).min(UPDATES_UNWRITTEN_MAX);
        let places = u32::try_from(places).unwrap_or(1);
        let permit = self.free.acquire_many(places).await;
        // Given back once the line is written.
        permit.map_err(Error::into_internal_error)?.forget();
        let mut taken = self.taken.lock();
        // Under the lock, so that places are in the order of lines.
        taken.push_back(places);
        send()
    }

    /// Gives back what the oldest update took.
    fn written(&self) {
        if let Some(places) = self.taken.lock().pop_front() {
            self.free.add_permits(places as usize);
        }
    }
}

impl Client {
    /// Sends an update of a session; waits while too many are unwritten. Cancel safe.
    pub(crate) async fn update(
        &self,
        session: &schema::SessionId,
        update: schema::SessionUpdate,
    ) -> Result<(), Error> {
        let update = schema::SessionNotification::new(session.clone(), update);
        let send = || self.connection.send_notification(update);
        self.room.send(0, send).await
    }

    /// Sends an update that somebody else has written, as it is; otherwise the same.
    pub(crate) async fn update_json(&self, session: &str, update: &str) -> Result<(), Error> {
        let read = serde_json::from_str::<Value>(update).map_err(Error::into_internal_error)?;
        let params = json!({ "sessionId": session, "update": read });
        let update_line = acp::UntypedMessage::new("session/update", params)?;
        let send = || self.connection.send_notification(update_line);
        self.room.send(update.len(), send).await
    }

    /// Passes a question on. Dropping the future withdraws it.
    pub(crate) async fn ask(&self, method: &str, params: Value) -> Result<Value, Error> {
        let question = acp::UntypedMessage::new(method, params)?;
        self.connection.send_request(question).block_task().await
    }

    /// Asks the client whether a tool may run. Dropping the future withdraws the question.
    pub(crate) async fn ask_permission(
        &self,
        request: schema::RequestPermissionRequest,
    ) -> Result<schema::RequestPermissionOutcome, Error> {
        let answer = self.connection.send_request(request).block_task().await?;
        Ok(answer.outcome)
    }

    /// Asks the client's person for facts, or to go somewhere. Dropping the future withdraws the
    /// question.
    pub(crate) async fn elicit(
        &self,
        request: schema::CreateElicitationRequest,
    ) -> Result<schema::CreateElicitationResponse, Error> {
        self.connection.send_request(request).block_task().await
    }

    /// Tells the client that what its person was sent elsewhere for is done.
    pub(crate) fn completed(&self, elicitation: &str) -> Result<(), Error> {
        let done = schema::CompleteElicitationNotification::new(elicitation.to_owned());
        self.connection.send_notification(done)
    }
}

/// Serves an agent until its input ends or `stop` fires.
///
/// # Errors
///
/// The failure of the input or the output.
pub(crate) async fn serve(
    agent: Arc<impl Agent>,
    incoming: impl Stream<Item = io::Result<String>> + Send + 'static,
    outgoing: impl Sink<String, Error = io::Error> + Send + 'static,
    stop: CancellationToken,
) -> Result<(), Error> {
    let room = Arc::new(Room::new());
    let open = Arc::new(watch::Sender::new(0));
    let end = end(Arc::clone(&agent), open.subscribe(), stop.clone());
    let asked_for = Arc::clone(&open);
    let incoming = incoming
        .and_then(move |line| {
            let open = Arc::clone(&asked_for);
            async move {
                if is_request(&line) {
                    // A client that reads no answers is not listened to either.
                    let fits = |open: &usize| *open < ANSWERS_UNWRITTEN_MAX;
                    let _ = open.subscribe().wait_for(fits).await;
                    open.send_modify(|open| *open += 1);
                }
                Ok(line)
            }
        })
        .take_until(stop.cancelled_owned())
        .chain(stream::once(end).filter_map(async |()| None));
    let outgoing = counted(outgoing, Arc::clone(&room), open);
    let notified = Arc::clone(&agent);
    // Whatever is under way when this returns, or is dropped, ends with it.
    let over = CancellationToken::new();
    let _ends = over.clone().drop_guard();
    let asked = async move |request: schema::ClientRequest,
                            responder: Responder,
                            connection: ConnectionTo<acp::Client>| {
        let room = Arc::clone(&room);
        let client = Client { connection, room };
        let answer = answer(agent.as_ref(), request, responder, client);
        tokio::spawn(over.clone().run_until_cancelled_owned(answer));
        Ok(())
    };
    acp::Agent
        .v1()
        .on_receive_request(asked, acp::on_receive_request!())
        .on_receive_notification(
            async move |notification: schema::ClientNotification, _| {
                notified.notification(notification);
                Ok(())
            },
            acp::on_receive_notification!(),
        )
        .connect_to(acp::Lines::new(outgoing, incoming))
        .await
}

/// Hands a request to the agent at once, and returns what waits for its answer.
fn answer(
    agent: &impl Agent,
    request: schema::ClientRequest,
    responder: Responder,
    client: Client,
) -> impl Future<Output = ()> + Send + 'static {
    let cancelled = CancellationToken::new();
    let withdrawn = responder.cancellation();
    let work = agent.request(request, client, cancelled.clone());
    async move {
        let mut work = pin!(work);
        let reply = tokio::select! {
            reply = &mut work => reply,
            () = withdrawn.cancelled() => {
                cancelled.cancel();
                work.await
            }
        };
        // A client that is gone does not want its answer.
        let _ = responder.respond_with_result(reply.answer.and_then(json));
        if let Some(then) = reply.then {
            then.await;
        }
    }
}

/// Lets the requests under way end: after a moment by themselves, or at once if told to stop.
async fn end(agent: Arc<impl Agent>, mut open: watch::Receiver<usize>, stop: CancellationToken) {
    if !stop.is_cancelled() {
        tokio::select! {
            _ = open.wait_for(|open| *open == 0) => return,
            () = tokio::time::sleep(END_GRACE) => {}
            () = stop.cancelled() => {}
        }
    }
    agent.stop();
    // What does not end now is dropped.
    let _ = tokio::time::timeout(STOP_GRACE, open.wait_for(|open| *open == 0)).await;
}

/// Gives back the room of each update that is written, and counts the answers.
fn counted(
    outgoing: impl Sink<String, Error = io::Error> + Send + 'static,
    room: Arc<Room>,
    open: Arc<watch::Sender<usize>>,
) -> impl Sink<String, Error = io::Error> + Send + 'static {
    outgoing.with(move |line: String| {
        if let Ok(seen) = serde_json::from_str::<Seen<'_>>(&line) {
            match seen.method {
                Some("session/update") => room.written(),
                None if seen.id.is_some() => {
                    open.send_modify(|open| *open = open.saturating_sub(1));
                }
                _ => {}
            }
        }
        std::future::ready(Ok(line))
    })
}

/// What is looked at of a line. Methods have no escapes; one that has is none of the protocol's.
#[derive(Deserialize)]
struct Seen<'a> {
    jsonrpc: Option<&'a str>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<&'a str>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

/// Tells whether a line asks for an answer that will carry its id. A request that is none of the
/// protocol's is answered without one, so that it must not be waited for.
fn is_request(line: &str) -> bool {
    let Ok(seen) = serde_json::from_str::<Seen<'_>>(line) else {
        return false;
    };
    let named = |id: &RawValue| id.get().starts_with('"') || id.get().parse::<i64>().is_ok();
    let structured = |params: &RawValue| params.get().starts_with(['{', '[']);
    seen.jsonrpc == Some("2.0")
        && seen.method.is_some()
        && seen.id.is_some_and(named)
        && seen.params.is_none_or(structured)
}

/// Whether a client shows notices.
pub(crate) fn takes_notices(can: &schema::ClientCapabilities) -> bool {
    let session = can.session.as_ref();
    session.is_some_and(|session| session.notices.is_some())
}

/// Refuses what a client asked for, in a sentence that says what to do.
pub(crate) fn invalid(sentence: impl Into<String>) -> Error {
    Error::new(INVALID_PARAMS, sentence)
}

/// Refuses what cannot be now.
pub(crate) fn refused(sentence: impl Into<String>) -> Error {
    Error::new(INVALID_REQUEST, sentence)
}

/// Tells of a failure on this side.
pub(crate) fn failed(sentence: impl Into<String>) -> Error {
    Error::new(INTERNAL_ERROR, sentence)
}

fn json(response: schema::AgentResponse) -> Result<Value, Error> {
    serde_json::to_value(response).map_err(Error::into_internal_error)
}
