//! Subscriptions and inboxes of one WebSocket.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use agentbus::protocol::{Pattern, Subject};
use agentbus::transport::{
    self, Completion, Delivery, Durability, Message, Received, Start, Subscribe,
};
use agentbus::{Error, EventType, Overflow, Receipt, TransportError, events_pattern};
use agentbus_transport_ws::wire::{
    self, ClientFrame, SUBSCRIPTIONS_MAX, ServerFrame, UNSETTLED_MAX,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::task::AbortHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::connection::{Connection, Ended, Out};
use crate::state::Served;

/// All subscriptions and inboxes by the client's number.
#[derive(Debug, Default)]
pub(super) struct Subscriptions(HashMap<u64, Sub>);

#[derive(Debug)]
struct Sub {
    pump: AbortHandle,
    stop: CancellationToken,
    /// Fires when the pump is gone, and its end of the subscription with it.
    ended: CancellationToken,
    window: Arc<Window>,
    /// The real subject behind an inbox number.
    inbox: Option<Subject>,
    /// The request whose replies the inbox is for, to cancel it when the client breaks off.
    request: Option<Message>,
}

/// Deliveries that the client has and has not settled, and room for more of them.
#[derive(Debug)]
struct Window {
    unsettled: Mutex<HashMap<u64, Delivery>>,
    room: Semaphore,
    /// Tells of each verdict.
    verdict: Notify,
}

impl Window {
    /// Gives a verdict. A delivery whose lease is extended stays here.
    fn decide(
        &self,
        number: u64,
        verdict: Decision,
        span: Duration,
    ) -> Option<Completion<Result<(), TransportError>>> {
        if verdict == Decision::Extend {
            return Some(self.unsettled.lock().get_mut(&number)?.extend(span));
        }
        let delivery = self.unsettled.lock().remove(&number)?;
        self.room.add_permits(1);
        self.verdict.notify_waiters();
        match verdict {
            Decision::Ack => Some(delivery.ack()),
            Decision::Nak => Some(delivery.nak(span)),
            Decision::Reject => Some(delivery.reject()),
            // Dropped, it is that.
            Decision::Abandon | Decision::Extend => None,
        }
    }

    /// Waits until the client has settled all that it was given.
    async fn settled(&self) {
        loop {
            // Made before the look, so that a verdict in between is not missed.
            let verdict = self.verdict.notified();
            if self.unsettled.lock().is_empty() {
                return;
            }
            verdict.await;
        }
    }
}

impl Subscriptions {
    pub(super) fn stop(&self, sub: u64) {
        if let Some(sub) = self.0.get(&sub) {
            sub.stop.cancel();
        }
    }

    /// Remembers which request an inbox is for. The payload is not needed for that.
    pub(super) fn asks(&mut self, number: u64, request: &Message) {
        if request.envelope.event_type != EventType::MESSAGE_RECEIVED {
            return;
        }
        if let Some(sub) = self.0.get_mut(&number) {
            let mut request = request.clone();
            request.envelope.payload = None;
            sub.request = Some(request);
        }
    }

    /// The requests whose inboxes are still open.
    pub(super) fn requests(&self) -> impl Iterator<Item = &Message> {
        self.0.values().filter_map(|sub| sub.request.as_ref())
    }

    /// Whether the client works on a delivery.
    pub(super) fn has_unsettled(&self) -> bool {
        self.0
            .values()
            .any(|sub| !sub.window.unsettled.lock().is_empty())
    }

    /// Ends a subscription. What the client had not settled is abandoned. What is returned fires
    /// once the bus has nothing of it any more.
    pub(super) fn remove(&mut self, sub: u64) -> Option<CancellationToken> {
        let sub = self.0.remove(&sub)?;
        sub.pump.abort();
        Some(sub.ended)
    }
}

impl Connection {
    pub(super) async fn subscribe(&mut self, frame: ClientFrame) {
        let ClientFrame::Subscribe { id, .. } = frame else {
            return;
        };
        let outcome = self.open(frame).await;
        let done = Receipt::new(Durability::Memory, None);
        self.out.answer(id, outcome.map(|()| done)).await;
    }

    /// In turn with the client's other frames: its next one may use the name again.
    pub(super) async fn remove_durable(&mut self, id: u64, name: &str) {
        let removed = self.app.bus.transport().remove_durable(name).await;
        tell(&self.out, Some(id), removed).await;
    }

    async fn open(&mut self, frame: ClientFrame) -> Result<(), Error> {
        let ClientFrame::Subscribe {
            sub,
            pattern,
            subject,
            group,
            capacity,
            overflow,
            window,
            durable,
            start,
            lease_ms,
            max_attempts,
            ..
        } = frame
        else {
            return Err(Error::invalid_request("not a subscribe"));
        };
        self.check_number(sub)?;
        if group
            .as_ref()
            .is_some_and(|group| !(1..=255).contains(&group.len()))
        {
            let message = "the name of a group has 1 to 255 bytes";
            return Err(Error::invalid_request(message));
        }
        let pattern = self.pattern(pattern.as_deref(), subject.as_deref())?;
        let served = self.served(&pattern, group.as_deref());
        let mut request = Subscribe::new(pattern);
        request.group = group.map(Into::into);
        request.overflow = read_overflow(overflow.as_deref())?;
        if let Some(capacity) = capacity {
            request.capacity = capacity;
        }
        request.durable = durable.map(Into::into);
        request.start = start.map_or(Start::New, Into::into);
        request.lease = lease_ms.map(Duration::from_millis);
        request.max_attempts = max_attempts;
        request.dead_letters = self.app.bus.subjects().prefix().into();
        let source = self.app.bus.transport().subscribe(request).await?;
        let window = window.unwrap_or(UNSETTLED_MAX);
        self.pump(sub, source, None, window);
        if let Some(served) = served {
            self.app.agents.add(self.number, sub, served);
        }
        Ok(())
    }

    fn check_number(&self, sub: u64) -> Result<(), Error> {
        if self.subscriptions.0.contains_key(&sub) {
            return Err(Error::invalid_request(format!(
                "the number {sub} is in use"
            )));
        }
        if self.subscriptions.0.len() >= SUBSCRIPTIONS_MAX {
            let message = format!("this connection has {SUBSCRIPTIONS_MAX} subscriptions already");
            return Err(Error::invalid_request(message));
        }
        Ok(())
    }

    /// Resolves what to listen on: events, or full subjects of this bus; never an inbox.
    fn pattern(&self, events: Option<&str>, subject: Option<&str>) -> Result<Pattern, Error> {
        match (events, subject) {
            (Some(events), None) => events_pattern(&self.space, events),
            (None, Some(subject)) if self.is_ours(subject) => Ok(Pattern::parse(subject)?),
            (None, Some(subject)) => {
                let message = format!("`{subject}` is outside of this bus's subjects");
                Err(Error::invalid_request(message))
            }
            _ => Err(Error::invalid_request("give either `pattern` or `subject`")),
        }
    }

    /// What others shall see of this subscription: only agents are listed, not readers.
    fn served(&self, pattern: &Pattern, group: Option<&str>) -> Option<Served> {
        let subject = Subject::parse(pattern.as_str()).ok()?;
        let own = self.app.bus.subjects();
        let (tenant, target) = own.tenant_and_target_of(&subject)?;
        Some(Served {
            name: target.to_owned(),
            agent: self.agent.to_string(),
            group: group.map(str::to_owned),
            tenant: (tenant != own.tenant()).then(|| tenant.to_owned()),
        })
    }

    /// The real inbox behind a number; opened when the number is new.
    pub(super) fn inbox(&mut self, number: u64) -> Result<Subject, Error> {
        if let Some(subject) = self
            .subscriptions
            .0
            .get(&number)
            .and_then(|sub| sub.inbox.clone())
        {
            return Ok(subject);
        }
        self.check_number(number)?;
        let (subject, replies) = self.app.bus.transport().open_inbox()?.into_parts();
        self.pump(number, replies, Some(subject.clone()), UNSETTLED_MAX);
        Ok(subject)
    }

    fn pump(
        &mut self,
        sub: u64,
        source: transport::Subscription,
        inbox: Option<Subject>,
        window: usize,
    ) {
        let window = Arc::new(Window {
            unsettled: Mutex::default(),
            verdict: Notify::new(),
            room: Semaphore::new(window.clamp(1, UNSETTLED_MAX)),
        });
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let pump = Pump {
            sub,
            source,
            window: Arc::clone(&window),
            stop: stop.clone(),
            out: self.out.clone(),
            _ended: ended.clone().drop_guard(),
        };
        let pump = self.tasks.spawn(pump.run());
        self.subscriptions.0.insert(
            sub,
            Sub {
                pump,
                stop,
                ended,
                window,
                inbox,
                request: None,
            },
        );
    }

    /// Passes a verdict on, and tells what became of it if the client asks. One on a delivery that
    /// is not known is a client that settles twice, or after it unsubscribed.
    pub(super) async fn settle(&mut self, frame: ClientFrame) {
        let ClientFrame::Settle {
            id,
            sub,
            delivery,
            verdict,
            ms,
        } = frame
        else {
            return;
        };
        let verdict = match Decision::read(&verdict) {
            Ok(verdict) => verdict,
            Err(error) => match id {
                Some(id) => return self.out.answer(id, Err(error)).await,
                None => return tracing::warn!(%error, "a remote agent decided nothing"),
            },
        };
        let window = self.subscriptions.0.get(&sub).map(|sub| &sub.window);
        let span = Duration::from_millis(ms.unwrap_or(0));
        let taken = match window.and_then(|window| window.decide(delivery, verdict, span)) {
            Some(taken) => taken,
            None => Completion::ready(Ok(())),
        };
        match (taken, id) {
            (Completion::Waiting(taking), id) => {
                let out = self.out.clone();
                self.tasks.spawn(async move {
                    tell(&out, id, taking.await).await;
                    Ended::Other
                });
            }
            (taken, id) => tell(&self.out, id, taken.await).await,
        }
    }
}

/// What a client decides about a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Ack,
    Nak,
    Extend,
    Reject,
    Abandon,
}

impl Decision {
    fn read(word: &str) -> Result<Self, Error> {
        match word {
            "ack" => Ok(Self::Ack),
            "nak" => Ok(Self::Nak),
            "extend" => Ok(Self::Extend),
            "reject" => Ok(Self::Reject),
            "abandoned" => Ok(Self::Abandon),
            other => Err(Error::invalid_request(format!(
                "`{other}` is no verdict; there are ack, nak, extend, reject and abandoned"
            ))),
        }
    }
}

async fn tell(out: &Out, id: Option<u64>, taken: Result<(), TransportError>) {
    match (id, taken) {
        (Some(id), taken) => {
            let done = Receipt::new(Durability::Memory, None);
            out.answer(id, taken.map(|()| done).map_err(Error::from))
                .await;
        }
        (None, Err(error)) => tracing::warn!(%error, "a verdict of a remote agent was not taken"),
        (None, Ok(())) => {}
    }
}

fn read_overflow(name: Option<&str>) -> Result<Overflow, Error> {
    match name {
        None | Some("wait") => Ok(Overflow::Wait),
        Some("drop_oldest") => Ok(Overflow::DropOldest),
        Some("fail") => Ok(Overflow::Fail),
        Some(other) => Err(Error::invalid_request(format!(
            "`{other}` is no overflow policy; there are wait, drop_oldest and fail"
        ))),
    }
}

/// Carries messages from the bus to the client, at most a window of them ahead.
struct Pump {
    sub: u64,
    source: transport::Subscription,
    window: Arc<Window>,
    stop: CancellationToken,
    out: Out,
    /// Last, so that it fires when all the others are dropped.
    _ended: DropGuard,
}

impl Pump {
    async fn run(mut self) -> Ended {
        let mut stopped = false;
        let mut number = 0;
        loop {
            // The window is never closed; it waits for the client to settle.
            let Ok(room) = self.window.room.acquire().await else {
                break;
            };
            room.forget();
            let received = tokio::select! {
                received = self.source.receive() => received,
                () = self.stop.cancelled(), if !stopped => {
                    stopped = true;
                    self.source.stop();
                    self.window.room.add_permits(1);
                    continue;
                }
            };
            number += 1;
            match received {
                Some(Received::Live(delivery)) => self.hand_on(number, delivery).await,
                Some(Received::Expired(delivery)) => self.tell_expired(delivery).await,
                Some(Received::Lost) => {
                    let lost = ServerFrame::Lost { sub: self.sub };
                    self.out.send(wire::encode(&lost)).await;
                }
                Some(Received::NoResponder) => {}
                None => break,
            }
        }
        self.window.settled().await;
        let end = ServerFrame::End {
            id: None,
            sub: Some(self.sub),
        };
        self.out.send(wire::encode(&end)).await;
        Ended::Sub(self.sub)
    }

    async fn hand_on(&self, number: u64, delivery: Delivery) {
        let frame = self.frame(&delivery, Some(number), remaining_ms(&delivery));
        self.window.unsettled.lock().insert(number, delivery);
        self.out.send(frame).await;
    }

    /// Passes on a message that expired on the way, marked so: its receiver answers for it.
    async fn tell_expired(&self, delivery: Delivery) {
        self.window.room.add_permits(1);
        let frame = self.frame(&delivery, None, Some(0));
        self.out.send(frame).await;
    }

    fn frame(&self, delivery: &Delivery, number: Option<u64>, ttl_ms: Option<u64>) -> String {
        let message = delivery.message();
        let frame = ServerFrame::Message {
            sub: self.sub,
            delivery: number,
            subject: message.subject.to_string(),
            sequence: delivery.sequence(),
            attempt: delivery.attempt(),
            missed: delivery.missed(),
            priority: message.priority.name().to_owned(),
            ttl_ms,
            envelope: None,
        };
        wire::encode_with(&frame, &message.envelope)
    }
}

/// What is left of a message's time, rounded up so that only an expired one has nothing left.
fn remaining_ms(delivery: &Delivery) -> Option<u64> {
    let left = delivery.message().remaining_ttl()?;
    Some(
        u64::try_from(left.as_millis())
            .unwrap_or(u64::MAX)
            .saturating_add(1),
    )
}
