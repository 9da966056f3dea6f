//! The writing end of a streamed reply.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use agentbus_protocol::{Envelope, EventType, Payload, Subject};
use agentbus_transport::{Completion, Message, PublishOptions, Receipt, TransportError};
use serde::Serialize;

use crate::{Bus, Error, mint};

/// Sends the frames of one streamed reply.
///
/// Frames are numbered from 0 without a hole: a frame that cannot be sent gives its number back.
/// When the caller has left, sending fails, so that a handler stops at its next frame; usually it
/// is cancelled even before.
#[derive(Clone)]
pub struct StreamWriter(Arc<Shared>);

struct Shared {
    bus: Bus,
    request: Arc<Message>,
    reply_to: Subject,
    /// Held while a frame is on its way, so that clones of the writer take turns and numbers
    /// follow the order of sending. Holds a frame whose sender gave up before the carrier had
    /// taken it: it may arrive, so the next frame waits for its fate and cannot get its number.
    turn: tokio::sync::Mutex<Option<OnItsWay>>,
    /// Frames that the carrier has taken; the number of the next one.
    sent: AtomicU64,
    /// Set with the last frame, never cleared.
    ended: AtomicBool,
}

struct OnItsWay {
    sent: Completion<Result<Receipt, TransportError>>,
    is_final: bool,
}

impl StreamWriter {
    pub(crate) fn new(bus: Bus, request: Arc<Message>, reply_to: Subject) -> Self {
        Self(Arc::new(Shared {
            bus,
            request,
            reply_to,
            turn: tokio::sync::Mutex::new(None),
            sent: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        }))
    }

    /// Announces that work has begun; only as the first frame.
    ///
    /// # Errors
    /// Fails when a frame has been sent, when the caller has left, or when the carrier fails.
    pub async fn started(&self, meta: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        if self.has_sent() {
            return Err(Error::StreamStarted);
        }
        self.send(EventType::RESPONSE_STARTED, Payload::from_value(meta)?)
            .await
    }

    /// Sends a part of the answer.
    ///
    /// # Errors
    /// Fails when the stream has ended, the caller has left, or the carrier fails.
    pub async fn delta(&self, chunk: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        self.send(EventType::RESPONSE_DELTA, Payload::from_value(chunk)?)
            .await
    }

    /// Sends a part of the answer that is JSON already.
    ///
    /// # Errors
    /// Fails when the stream has ended, the caller has left, or the carrier fails.
    pub async fn delta_payload(&self, chunk: Option<Payload>) -> Result<(), Error> {
        self.send(EventType::RESPONSE_DELTA, chunk).await
    }

    /// Ends the stream with a result.
    ///
    /// # Errors
    /// Fails when the stream has ended, the caller has left, or the carrier fails.
    pub async fn finish(&self, result: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        self.finish_payload(Payload::from_value(result)?).await
    }

    /// Ends the stream with a result that is JSON already.
    ///
    /// # Errors
    /// Fails when the stream has ended, the caller has left, or the carrier fails.
    pub async fn finish_payload(&self, result: Option<Payload>) -> Result<(), Error> {
        self.send(EventType::RESPONSE_FINAL, result).await
    }

    /// Ends the stream with an error.
    ///
    /// # Errors
    /// Fails when the stream has ended, the caller has left, or the carrier fails.
    pub async fn fail(&self, error: &Error) -> Result<(), Error> {
        let payload = Payload::json(&error.to_payload())?;
        self.send(EventType::RESPONSE_ERROR, Some(payload)).await
    }

    /// Sends a frame of the agent's own making, for example one that another agent streamed: its
    /// type, payload and metadata stay, its number becomes the next one of this stream.
    ///
    /// # Errors
    /// Fails when the stream has ended, the caller has left, or the carrier fails.
    pub async fn forward(&self, frame: Envelope) -> Result<(), Error> {
        let mut fresh = frame;
        fresh.event_id = mint::stamp().event_id;
        fresh.correlation_id = self.0.request.envelope.event_id.clone();
        fresh.to = self.0.request.envelope.from.clone();
        let from = self.0.bus.agent_id_text();
        let frame = self.0.request.envelope.adopt_reply(fresh, from);
        self.publish(frame).await
    }

    /// Whether the last frame has been sent.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.0.ended.load(Ordering::Acquire)
    }

    /// Whether any frame has been sent.
    #[must_use]
    pub fn has_sent(&self) -> bool {
        self.0.sent.load(Ordering::Acquire) > 0
    }

    async fn send(&self, event_type: EventType, payload: Option<Payload>) -> Result<(), Error> {
        let is_final = event_type.is_terminal();
        let from = self.0.bus.agent_id_text().clone();
        let mut frame = self
            .0
            .request
            .envelope
            .reply_shell(mint::stamp(), from, event_type);
        frame.payload = payload;
        frame.is_final = is_final;
        self.publish(frame).await
    }

    /// Numbers and sends one frame. The number is taken for good only when the carrier took the
    /// frame, so that a failure leaves no hole; a failed last frame leaves the stream open for
    /// the error that then has to end it.
    async fn publish(&self, mut frame: Envelope) -> Result<(), Error> {
        let mut turn = self.0.turn.lock().await;
        // Whoever sent the one before has heard of it or has given up; only its number matters.
        let _ = self.settle(&mut turn).await;
        if self.has_ended() {
            return Err(Error::StreamEnded);
        }
        frame.seq = self.0.sent.load(Ordering::Acquire);
        let is_final = frame.is_final;
        let message = Arc::new(Message::new(self.0.reply_to.clone(), frame));
        let options = PublishOptions::default();
        let sent = self.0.bus.transport().publish(message, options);
        if let Completion::Ready(Some(Ok(_))) = sent {
            self.taken(is_final);
            return Ok(());
        }
        *turn = Some(OnItsWay { sent, is_final });
        self.settle(&mut turn).await
    }

    /// Waits until the carrier has taken or refused the frame on its way, if there is one.
    async fn settle(&self, turn: &mut Option<OnItsWay>) -> Result<(), Error> {
        let Some(frame) = turn.as_mut() else {
            return Ok(());
        };
        let outcome = (&mut frame.sent).await;
        let is_final = frame.is_final;
        *turn = None;
        outcome?;
        self.taken(is_final);
        Ok(())
    }

    /// Notes that the carrier has a frame. Only the sender whose turn it is comes here.
    fn taken(&self, is_final: bool) {
        self.0.sent.fetch_add(1, Ordering::AcqRel);
        if is_final {
            self.0.ended.store(true, Ordering::Release);
        }
    }

    /// Ends the stream after its handler returned: with an empty final frame or with the error.
    pub(crate) async fn conclude(&self, outcome: Result<(), &Error>) {
        if self.has_ended() {
            return;
        }
        let sent = match outcome {
            Ok(()) => self.finish_payload(None).await,
            Err(error) => self.fail(error).await,
        };
        self.0.ended.store(true, Ordering::Release);
        if let Err(error) = sent {
            tracing::debug!(reply_to = %self.0.reply_to, %error, "stream ended without its last frame");
        }
    }
}

impl fmt::Debug for StreamWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamWriter")
            .field("reply_to", &self.0.reply_to)
            .field("sent", &self.0.sent)
            .finish_non_exhaustive()
    }
}
