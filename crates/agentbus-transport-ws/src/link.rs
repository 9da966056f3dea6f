//! The connection while it lives: numbered operations, receivers, and the two tasks that read
//! and write.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use agentbus_protocol::{Envelope, ErrorCode, ErrorPayload, Subject, Timestamp};
use agentbus_transport::{
    Completion, Delivery, DurableInfo, Message, Priority, Receipt, Received, Settle,
    TransportError, Verdict,
};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message as SocketMessage;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::carrier::millis;
use crate::connect::{Socket, failed};
use crate::wire::{self, ClientFrame, OPERATIONS_MAX, ServerFrame, UNSETTLED_MAX};

/// Frames that wait to be written.
const OUTGOING: usize = 1024;

/// Messages that wait for one receiver: what the server may send unsettled, and as many expired
/// ones, which need no verdict.
const INCOMING: usize = 2 * UNSETTLED_MAX;

type Answer = Result<Done, ErrorPayload>;

/// What a server says when it has done what it was asked.
#[derive(Debug)]
pub(crate) enum Done {
    Receipt(Receipt),
    Durables(Vec<DurableInfo>),
}

impl Done {
    /// What a publish is answered with.
    pub(crate) fn receipt(self) -> Result<Receipt, TransportError> {
        match self {
            Self::Receipt(receipt) => Ok(receipt),
            Self::Durables(_) => Err(mistaken()),
        }
    }

    /// What a request for the durable names is answered with.
    pub(crate) fn durables(self) -> Result<Vec<DurableInfo>, TransportError> {
        match self {
            Self::Durables(durables) => Ok(durables),
            Self::Receipt(_) => Err(mistaken()),
        }
    }
}

fn mistaken() -> TransportError {
    failed(
        "the bus answered something else than what it was asked; run the same version of agentbus at both ends"
            .to_owned(),
    )
}

/// What the transport, its receivers and its two tasks share.
#[derive(Debug)]
pub(crate) struct Link {
    out: mpsc::Sender<String>,
    numbers: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    receivers: Mutex<HashMap<u64, mpsc::Sender<Received>>>,
    /// Tells that a receiver has ended, for a close that waits for all of them.
    fewer: Notify,
    /// Set when publishes are not taken any more: closed here, or the connection broke.
    closed: AtomicBool,
    /// Ends both tasks.
    over: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Link {
    pub(crate) fn start(socket: Socket) -> Arc<Self> {
        let (out, frames) = mpsc::channel(OUTGOING);
        let link = Arc::new(Self {
            out,
            numbers: AtomicU64::new(1),
            waiting: Mutex::default(),
            receivers: Mutex::default(),
            fewer: Notify::new(),
            closed: AtomicBool::new(false),
            over: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let (sink, incoming) = socket.split();
        link.tasks.spawn(write(sink, frames, link.over.clone()));
        link.tasks.spawn(read(incoming, Arc::clone(&link)));
        link
    }

    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Sends an operation and waits for its answer. Its place among the frames is that of this
    /// call, not of the first poll: a cancel must come before the end of the inbox that it names.
    pub(crate) fn ask(
        self: &Arc<Self>,
        id: u64,
        frame: String,
    ) -> impl Future<Output = Result<Answer, TransportError>> + Send + 'static {
        let asked = self
            .wait_for(id)
            .map(|waiting| (waiting, self.out.try_send(frame)));
        let out = self.out.clone();
        async move {
            let (waiting, queued) = asked?;
            if let Err(refused) = queued {
                let frame = refused.into_inner();
                out.send(frame).await.map_err(|_| lost())?;
            }
            waiting.answer().await
        }
    }

    /// Sends an operation at once; what is returned only waits for its answer.
    pub(crate) fn ask_soon(
        self: &Arc<Self>,
        id: u64,
        frame: &ClientFrame,
    ) -> impl Future<Output = Result<Answer, TransportError>> + Send + 'static {
        let waiting = self.wait_for(id);
        self.send_soon(frame);
        async move { waiting?.answer().await }
    }

    fn wait_for(self: &Arc<Self>, id: u64) -> Result<Waiting, TransportError> {
        let (sender, answer) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        if waiting.len() >= OPERATIONS_MAX {
            return Err(TransportError::TooMany {
                transport: crate::transport::NAME,
                what: "operations that wait",
                limit: OPERATIONS_MAX,
            });
        }
        waiting.insert(id, sender);
        Ok(Waiting {
            link: Arc::clone(self),
            id,
            answer,
        })
    }

    /// Sends a frame that has no answer; never waits, and never loses it while the link lives.
    pub(crate) fn send_soon(&self, frame: &ClientFrame) {
        let text = wire::encode(frame);
        let Err(mpsc::error::TrySendError::Full(text)) = self.out.try_send(text) else {
            return;
        };
        if tokio::runtime::Handle::try_current().is_ok() {
            let out = self.out.clone();
            self.tasks.spawn(async move { drop(out.send(text).await) });
        }
    }

    pub(crate) fn add_receiver(&self, sub: u64) -> mpsc::Receiver<Received> {
        let (sender, receiver) = mpsc::channel(INCOMING);
        self.receivers.lock().insert(sub, sender);
        receiver
    }

    pub(crate) fn remove_receiver(&self, sub: u64) -> bool {
        let removed = self.receivers.lock().remove(&sub).is_some();
        self.fewer.notify_waiters();
        removed
    }

    /// Takes no new messages, waits until the server has sent what it had, and hangs up.
    pub(crate) async fn close(&self, drain: Duration) {
        self.closed.store(true, Ordering::Release);
        let subs: Vec<u64> = self.receivers.lock().keys().copied().collect();
        for sub in subs {
            self.send_soon(&ClientFrame::Stop { sub });
        }
        let drained = async {
            loop {
                // Made before the look, so that an end in between is not missed.
                let fewer = self.fewer.notified();
                if self.receivers.lock().is_empty() || self.over.is_cancelled() {
                    return;
                }
                fewer.await;
            }
        };
        let _ = tokio::time::timeout(drain, drained).await;
        self.over.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn take(self: &Arc<Self>, frame: ServerFrame) {
        match frame {
            ServerFrame::Ok {
                id,
                receivers,
                sequence,
                duplicate,
                durability,
            } => {
                let mut receipt = Receipt::new(durability.into(), receivers);
                receipt.sequence = sequence;
                receipt.duplicate = duplicate;
                self.answer(id, Ok(Done::Receipt(receipt)));
            }
            ServerFrame::Durables { id, durables } => {
                let durables = durables.into_iter().map(DurableInfo::from).collect();
                self.answer(id, Ok(Done::Durables(durables)));
            }
            ServerFrame::Error {
                id: Some(id),
                error,
            } => self.answer(id, Err(error)),
            ServerFrame::Error { id: None, error } => {
                tracing::warn!(code = %error.code, message = error.message, "the bus hung up");
                self.over.cancel();
            }
            ServerFrame::Message { .. } => self.receive(frame),
            ServerFrame::Lost { sub } => self.hand_on(sub, Received::Lost),
            ServerFrame::End { sub: Some(sub), .. } => drop(self.remove_receiver(sub)),
            // Answers to operations that this client does not use.
            ServerFrame::Welcome { .. }
            | ServerFrame::Reply { .. }
            | ServerFrame::Frame { .. }
            | ServerFrame::End { sub: None, .. } => {}
        }
    }

    fn answer(&self, id: u64, answer: Answer) {
        if let Some(asker) = self.waiting.lock().remove(&id) {
            // An asker who gave up in the meantime wants no answer.
            let _ = asker.send(answer);
        }
    }

    fn receive(self: &Arc<Self>, frame: ServerFrame) {
        let ServerFrame::Message {
            sub,
            delivery,
            subject,
            sequence,
            attempt,
            missed,
            priority,
            ttl_ms,
            envelope: Some(envelope),
        } = frame
        else {
            return;
        };
        let bytes = Bytes::copy_from_slice(envelope.get().as_bytes());
        let now = Timestamp::from_system_time(SystemTime::now());
        let read = (Subject::parse(&subject), Envelope::decode(&bytes, now));
        let (Ok(subject), Ok(envelope)) = read else {
            tracing::warn!(sub, "the bus sent a message that cannot be read");
            return;
        };
        let mut message = Message::new(subject, envelope);
        message.priority = Priority::parse(&priority).unwrap_or_default();
        message.expires_at =
            ttl_ms.and_then(|ttl| Instant::now().checked_add(Duration::from_millis(ttl)));
        let subject = message.subject.clone();
        let mut handed = Delivery::new(Arc::new(message), attempt).after_missing(missed);
        if let Some(sequence) = sequence {
            handed = handed.numbered(sequence);
        }
        let received = match delivery {
            Some(number) => {
                let settle = Arc::new(Settler {
                    link: Arc::clone(self),
                    sub,
                    number,
                    logged: sequence.is_some().then_some(subject),
                });
                Received::Live(handed.settled_by(settle, 0))
            }
            None => Received::Expired(handed),
        };
        self.hand_on(sub, received);
    }

    fn hand_on(&self, sub: u64, received: Received) {
        let Some(receiver) = self.receivers.lock().get(&sub).cloned() else {
            return;
        };
        // Full only when the server sends more than the window allows; what does not fit is
        // abandoned, which the server hears.
        if receiver.try_send(received).is_err() {
            tracing::debug!(sub, "a message came for a receiver that takes no more");
        }
    }

    /// Fails everything that waits; nothing will come any more.
    fn end(&self) {
        self.closed.store(true, Ordering::Release);
        self.over.cancel();
        self.waiting.lock().clear();
        self.receivers.lock().clear();
        self.fewer.notify_waiters();
    }
}

fn lost() -> TransportError {
    failed("the connection to the bus was lost".to_owned())
}

/// An operation whose answer is to come. It is forgotten also when the asker gives up.
struct Waiting {
    link: Arc<Link>,
    id: u64,
    answer: oneshot::Receiver<Answer>,
}

impl Waiting {
    async fn answer(mut self) -> Result<Answer, TransportError> {
        if self.link.over.is_cancelled() {
            return Err(lost());
        }
        (&mut self.answer).await.map_err(|_| lost())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.link.waiting.lock().remove(&self.id);
    }
}

async fn write(
    mut sink: SplitSink<Socket, SocketMessage>,
    mut frames: mpsc::Receiver<String>,
    over: CancellationToken,
) {
    loop {
        let frame = tokio::select! {
            biased;
            frame = frames.recv() => frame,
            () = over.cancelled() => None,
        };
        let Some(frame) = frame else { break };
        if sink.send(SocketMessage::text(frame)).await.is_err() {
            break;
        }
    }
    over.cancel();
    let _ = sink.close().await;
}

async fn read(mut incoming: SplitStream<Socket>, link: Arc<Link>) {
    loop {
        let frame = tokio::select! {
            frame = incoming.next() => frame,
            () = link.over.cancelled() => None,
        };
        match frame {
            Some(Ok(SocketMessage::Text(text))) => match serde_json::from_str(&text) {
                Ok(frame) => link.take(frame),
                Err(error) => tracing::warn!(%error, "the bus sent a frame that cannot be read"),
            },
            Some(Ok(SocketMessage::Close(_)) | Err(_)) | None => break,
            Some(Ok(_)) => {}
        }
    }
    link.end();
}

/// Sends the verdict on one message.
#[derive(Debug)]
struct Settler {
    link: Arc<Link>,
    sub: u64,
    /// Which message it is, to the bus at the other end.
    number: u64,
    /// The subject, if the message is in a log: then its verdict is written down there, which can
    /// fail and is waited for.
    logged: Option<Subject>,
}

impl Settle for Settler {
    fn settle(
        self: Arc<Self>,
        _token: u128,
        verdict: Verdict,
    ) -> Completion<Result<(), TransportError>> {
        let (verdict, ms) = match verdict {
            Verdict::Ack => ("ack", None),
            Verdict::Nak { delay, .. } => ("nak", Some(millis(delay))),
            Verdict::Extend { lease } => ("extend", Some(millis(lease))),
            Verdict::Reject => ("reject", None),
            Verdict::Abandoned => ("abandoned", None),
        };
        // Nobody is left to hear of an abandoned one.
        let subject = self.logged.clone().filter(|_| verdict != "abandoned");
        let id = subject.is_some().then(|| self.link.number());
        let frame = ClientFrame::Settle {
            id,
            sub: self.sub,
            delivery: self.number,
            verdict: verdict.to_owned(),
            ms,
        };
        let (Some(id), Some(subject)) = (id, subject) else {
            self.link.send_soon(&frame);
            return Completion::ready(Ok(()));
        };
        let answer = self.link.ask_soon(id, &frame);
        Completion::waiting(async move {
            match answer.await? {
                Ok(_) => Ok(()),
                Err(error) if error.code == ErrorCode::AgentTimeout => {
                    Err(TransportError::LeaseEnded { subject })
                }
                Err(error) => Err(TransportError::Remote(error)),
            }
        })
    }
}
