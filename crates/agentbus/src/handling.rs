//! One message between its start and its answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use agentbus_transport::{Completion, Message, Settlement, TransportError, Verdict};
use pin_project_lite::pin_project;

use crate::handler::{Reply, Request};
use crate::targets::TargetKind;
use crate::telemetry::OpenSpan;
use crate::{Error, answer, current};

pin_project! {
    /// The handling of one message: its handler, then its answer.
    ///
    /// Written by hand because each message has one: an async block would keep room for all of its
    /// steps side by side, and most answers are sent without a wait.
    pub(crate) struct Handling<F> {
        #[pin]
        handled: F,
        concluding: Option<Completion<()>>,
        ledger: Ledger,
    }
}

impl<F> Handling<F>
where
    F: Future<Output = Result<Reply, Error>>,
{
    /// `handled` is what the layers and the handler make of `request`.
    pub(crate) fn new(
        request: Request,
        settlement: Settlement,
        span: OpenSpan,
        handled: F,
    ) -> Self {
        Self {
            handled,
            concluding: None,
            ledger: Ledger::open(request, settlement, span),
        }
    }

    /// The message that is handled.
    pub(crate) fn message(&self) -> Option<Arc<Message>> {
        self.ledger
            .request
            .as_ref()
            .map(|request| Arc::clone(request.message()))
    }
}

impl<F> Future for Handling<F>
where
    F: Future<Output = Result<Reply, Error>>,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.concluding.is_none() {
            let outcome = {
                let _scope = current::enter(&mut this.ledger.request);
                ready!(this.handled.poll(cx))
            };
            *this.concluding = Some(this.ledger.conclude(outcome));
        }
        match this.concluding {
            Some(concluding) => Pin::new(concluding).poll(cx),
            None => Poll::Pending,
        }
    }
}

/// Counts a message from its start to its end, answers it and settles it. One that is dropped
/// before was cancelled.
struct Ledger {
    /// Elsewhere only while the handler is being polled.
    request: Option<Request>,
    /// Taken at the end.
    settlement: Option<Settlement>,
    span: OpenSpan,
}

impl Ledger {
    fn open(request: Request, settlement: Settlement, span: OpenSpan) -> Self {
        request.served().target.begin();
        Self {
            request: Some(request),
            settlement: Some(settlement),
            span,
        }
    }

    /// Answers whoever asked and settles the message.
    fn conclude(&mut self, outcome: Result<Reply, Error>) -> Completion<()> {
        let (Some(request), Some(settlement)) = (&self.request, self.settlement.take()) else {
            return Completion::ready(());
        };
        let served = request.served();
        served.target.end(outcome.is_ok());
        self.span.end(outcome.as_ref());
        if let Some(writer) = request.stream().cloned() {
            return Completion::waiting(async move {
                writer.conclude(outcome.map(drop).as_ref().copied()).await;
                settle(settlement, Verdict::Ack).await;
            });
        }
        if served.target.kind == TargetKind::Events {
            return settle(settlement, verdict(request, &outcome));
        }
        match answer::send(&served.bus, request.message(), outcome) {
            Completion::Ready(_) => settle(settlement, Verdict::Ack),
            Completion::Waiting(sent) => Completion::waiting(async move {
                sent.await;
                settle(settlement, Verdict::Ack).await;
            }),
        }
    }
}

/// The verdict on an event, which is what a confirmed publish waits for.
fn verdict(request: &Request, outcome: &Result<Reply, Error>) -> Verdict {
    let Err(error) = outcome else {
        return Verdict::Ack;
    };
    let (subject, event_id) = (request.subject(), &request.envelope().event_id);
    tracing::warn!(%subject, %event_id, %error, "event handler failed");
    Verdict::Reject
}

impl Drop for Ledger {
    fn drop(&mut self) {
        if let (Some(request), Some(_)) = (&self.request, &self.settlement) {
            request.served().target.abandon();
        }
    }
}

/// Gives the verdict; most transports take it at once.
fn settle(mut settlement: Settlement, verdict: Verdict) -> Completion<()> {
    match settlement.settle(verdict) {
        Completion::Ready(Some(Err(error))) => warn_unsettled(&error),
        Completion::Ready(_) => {}
        Completion::Waiting(taking) => {
            return Completion::waiting(async move {
                taking.await.unwrap_or_else(|error| warn_unsettled(&error));
            });
        }
    }
    Completion::ready(())
}

fn warn_unsettled(error: &TransportError) {
    tracing::warn!(%error, "a handled message could not be acknowledged");
}
