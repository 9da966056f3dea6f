//! Calls that are answered frame by frame.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use agentbus_protocol::reassembly::{Limits, Reassembly};
use agentbus_protocol::{Envelope, EventId, Text};
use agentbus_transport::{BoxFuture, Inbox, Received, TransportError};
use futures_util::Stream;
use tokio::time::{Sleep, sleep};

use crate::bus::PreparedPayload;
use crate::call::{REQUEST, unserved};
use crate::cancel::CancelOnDrop;
use crate::draft::{Draft, Finished, Purpose, draft_setters};
use crate::telemetry::OpenSpan;
use crate::{Bus, Error, limits};

/// A streaming call, about to be made.
#[derive(Debug)]
#[must_use = "nothing is sent until this is awaited"]
pub struct StreamCall<'a> {
    draft: Draft<'a>,
    target: Text,
    timeout: Option<Duration>,
    idle_timeout: Option<Duration>,
    reorder: Limits,
}

impl<'a> StreamCall<'a> {
    pub(crate) fn new(bus: &'a Bus, target: Text, payload: PreparedPayload) -> Self {
        Self {
            draft: Draft::new(bus, Purpose::Call(target.clone()), payload),
            target,
            timeout: None,
            idle_timeout: Some(limits::STREAM_IDLE_TIMEOUT),
            reorder: Limits::default(),
        }
    }

    draft_setters!();

    /// Ends the stream with an error after this time, however busy it is.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Ends the stream with an error when no frame comes for this long.
    pub const fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = Some(timeout);
        self
    }

    /// Lets the agent be silent for as long as it likes.
    pub const fn no_idle_timeout(mut self) -> Self {
        self.idle_timeout = None;
        self
    }

    /// Sets how many frames may wait for a missing one, and how far ahead one may be.
    pub const fn reorder_limits(mut self, reorder: Limits) -> Self {
        self.reorder = reorder;
        self
    }

    /// Sends on an envelope that came from elsewhere; see [`Invoke::forward`](crate::Invoke::forward).
    pub fn forward(mut self, envelope: Envelope) -> Self {
        self.draft.forward(envelope);
        self
    }

    /// Makes the call and returns as soon as the request is on its way.
    ///
    /// # Errors
    /// [`Error::NoHandler`] at once when nobody serves the target, and what the carrier reports.
    pub async fn send(self) -> Result<Frames, Error> {
        let bus = self.draft.bus;
        let target = self.target;
        let inbox = bus.transport().open_inbox()?;
        let Finished {
            message, mut span, ..
        } = self.draft.finish(Some(inbox.subject()))?;
        let mut cancel = CancelOnDrop::new(bus, &message);
        let request = message.envelope.event_id.clone();
        let published = bus.transport().publish(message, REQUEST).await;
        if let Err(error) = published {
            cancel.disarm();
            let error = unserved(error.into(), || target.to_string());
            span.end::<()>(Err(&error));
            return Err(error);
        }
        Ok(Frames {
            inbox,
            request,
            batch: Vec::new(),
            reassembly: Reassembly::new(self.reorder),
            overall: self.timeout.map(Timer::new),
            idle: self.idle_timeout.map(Timer::new),
            heard: false,
            target,
            cancel,
            span,
            ended: false,
        })
    }
}

impl<'a> IntoFuture for StreamCall<'a> {
    type Output = Result<Frames, Error>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

#[derive(Debug)]
struct Timer {
    after: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl Timer {
    fn new(after: Duration) -> Self {
        Self {
            after,
            sleep: Box::pin(sleep(after)),
        }
    }

    fn restart(&mut self) {
        self.sleep
            .as_mut()
            .reset(agentbus_transport::clock::moment_in(self.after));
    }

    fn has_passed(&mut self, cx: &mut Context<'_>) -> bool {
        self.sleep.as_mut().poll(cx).is_ready()
    }
}

/// The frames of a streamed reply, in order, ending with the one that has `is_final`.
///
/// An error frame of the agent is a frame like any other; [`ErrorPayload::of`] reads it. `Err`
/// means that the stream itself failed, and is the last item. Dropping the stream before its end
/// tells the handler to stop.
///
/// [`ErrorPayload::of`]: agentbus_protocol::ErrorPayload::of
#[derive(Debug)]
pub struct Frames {
    /// Dropped before the inbox, which the cancellation names.
    cancel: CancelOnDrop,
    inbox: Inbox,
    request: EventId,
    batch: Vec<Received>,
    reassembly: Reassembly<Envelope>,
    overall: Option<Timer>,
    idle: Option<Timer>,
    /// Whether anything came since the idle timer was last restarted. The timer is touched only
    /// before waiting, so that a busy stream does not pay for it frame by frame.
    heard: bool,
    target: Text,
    span: OpenSpan,
    ended: bool,
}

impl Frames {
    /// Receives the next frame; `None` after the last. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Envelope, Error>> {
        std::future::poll_fn(|cx| self.poll_frame(cx)).await
    }

    /// The id of the request that these frames answer.
    #[must_use]
    pub const fn request_id(&self) -> &EventId {
        &self.request
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Envelope, Error>>> {
        loop {
            if let Some(frame) = self.reassembly.pop_ready() {
                self.span.end_with(&frame);
                return Poll::Ready(Some(Ok(frame)));
            }
            if self.reassembly.is_finished() {
                self.end();
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match self.poll_inbox(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    self.ended = true;
                    self.span.end::<()>(Err(&error));
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Feeds the reassembly with what came, or finds out why nothing will.
    fn poll_inbox(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self
            .overall
            .as_mut()
            .is_some_and(|timer| timer.has_passed(cx))
        {
            return Poll::Ready(Err(self.timed_out()));
        }
        let max = limits::RECEIVE_BATCH;
        match self.inbox.poll_receive(cx, &mut self.batch, max) {
            Poll::Ready(0) => Poll::Ready(Err(TransportError::Closed.into())),
            Poll::Ready(_) => {
                self.heard = true;
                Poll::Ready(self.take_batch())
            }
            Poll::Pending => self.poll_idle(cx),
        }
    }

    fn take_batch(&mut self) -> Result<(), Error> {
        for received in self.batch.drain(..) {
            match received {
                Received::Live(delivery) => {
                    let frame = crate::take_envelope(delivery);
                    self.reassembly.accept(frame.seq, frame.is_final, frame)?;
                }
                Received::Expired(_) => {}
                Received::Lost => {
                    return Err(Error::Abandoned {
                        target: self.target.to_string(),
                    });
                }
                Received::NoResponder => {
                    return Err(Error::NoHandler {
                        target: self.target.to_string(),
                    });
                }
            }
        }
        Ok(())
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let heard = std::mem::take(&mut self.heard);
        let Some(idle) = &mut self.idle else {
            return Poll::Pending;
        };
        if heard {
            idle.restart();
        }
        if idle.has_passed(cx) {
            let after = idle.after;
            return Poll::Ready(Err(Error::IdleTimeout {
                target: self.target.to_string(),
                after,
            }));
        }
        Poll::Pending
    }

    fn timed_out(&self) -> Error {
        let after = self
            .overall
            .as_ref()
            .map_or(Duration::ZERO, |timer| timer.after);
        Error::Timeout {
            target: self.target.to_string(),
            after,
        }
    }

    fn end(&mut self) {
        self.ended = true;
        self.cancel.disarm();
    }
}

impl Stream for Frames {
    type Item = Result<Envelope, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_frame(cx)
    }
}
