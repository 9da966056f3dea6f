//! `agentbus bench`: what this bus, or this transport, carries here and now.
//!
//! Never more than `--in-flight` messages are under way, so that memory is bounded and a carrier is
//! not measured by what piles up in front of it. Names are random: nobody else's work is touched,
//! but who listens for everything hears the events too, and a transport that keeps events keeps
//! these.

mod figures;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use agentbus::protocol::Stamp;
use agentbus::transport::remote::token;
use agentbus::{Bus, Error, EventId, Payload, Request, mint};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Sleep, sleep};

use super::client::Client;
use crate::args::BenchArgs;
use crate::failure::{Exit, Failure};
use crate::plain;
use figures::Figures;

/// Most bytes of payloads that are under way at a time.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Errors after which a part ends: more would say the same.
const ERRORS_MAX: u64 = 1000;

/// How long is waited for what is under way when a part ends.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long one call may take.
const CALL: Duration = Duration::from_secs(10);

/// How a part is measured.
struct Measure {
    bus: Bus,
    payload: Payload,
    in_flight: usize,
    span: Duration,
}

pub(crate) async fn bench(client: &Client, args: BenchArgs) -> Result<(), Failure> {
    if args.payload * args.in_flight > BYTES_MAX {
        return Err(Failure::usage(format!(
            "{} payloads of {} bytes at a time are more than the {BYTES_MAX} bytes that are kept in memory; lower \
             --payload or --in-flight",
            args.in_flight, args.payload
        )));
    }
    // Listened for before anything is sent, so that no early signal is missed.
    let mut stop = std::pin::pin!(super::serve::stop_signal());
    let bus = tokio::select! {
        bus = client.connect_as("bench", &args.space) => bus?,
        signal = &mut stop => return Err(stopped(signal)),
    };
    // A string, with its quotes.
    let text = "x".repeat(usize::try_from(args.payload).unwrap_or(2).saturating_sub(2));
    let measure = Measure {
        bus: bus.clone(),
        payload: Payload::text(&text),
        in_flight: usize::try_from(args.in_flight).unwrap_or(1),
        span: Duration::from_secs(args.seconds),
    };
    let outcome = parts(&measure, client, &mut stop).await;
    // What was given up is not waited for.
    bus.close(Duration::ZERO).await;
    outcome
}

async fn parts(
    measure: &Measure,
    client: &Client,
    stop: &mut (impl Future<Output = Exit> + Unpin),
) -> Result<(), Failure> {
    let (events, signal) = measure.events(stop).await?;
    tell(client, &events)?;
    if let Some(signal) = signal {
        return Err(stopped(signal));
    }
    let (calls, signal) = measure.calls(stop).await?;
    tell(client, &calls)?;
    match (signal, events.errors + calls.errors) {
        (Some(signal), _) => Err(stopped(signal)),
        (None, 0) => Ok(()),
        (None, errors) => {
            let message = format!("{errors} events or calls failed");
            Err(Failure::new(Exit::Unwell, message))
        }
    }
}

fn stopped(signal: Exit) -> Failure {
    Failure::new(signal, "stopped before the measurement was done")
}

fn tell(client: &Client, figures: &Figures) -> Result<(), Failure> {
    let output = &client.output;
    match output.is_json() {
        true => output.line(&figures.json().to_string()),
        // An error may be in words of others.
        false => output.line(&plain::line(&figures.sentence())),
    }
}

/// A part as far as it came, and the signal that ended it before its time.
type Part = (Figures, Option<Exit>);

impl Measure {
    /// Publishes events to a subscription of its own. The time of one is that from before its
    /// publish until it has arrived.
    async fn events(
        &self,
        stop: &mut (impl Future<Output = Exit> + Unpin),
    ) -> Result<Part, Failure> {
        let name = format!("bench.{}", token());
        let mut events = self.bus.subscribe(name.as_str()).await?;
        let mut figures = Figures::begin("events");
        let mut sending = FuturesUnordered::new();
        let mut under_way: HashMap<EventId, Instant> = HashMap::new();
        let mut clock = Clock::of(self.span);
        let signal = loop {
            while !clock.ending && under_way.len().max(sending.len()) < self.in_flight {
                let stamp = mint::stamp();
                under_way.insert(stamp.event_id.clone(), Instant::now());
                sending.push(self.publish(&name, stamp));
            }
            if figures.errors >= ERRORS_MAX || (clock.ending && under_way.is_empty()) {
                break None;
            }
            tokio::select! {
                over = clock.next() => if over {
                    break None;
                },
                signal = &mut *stop => break Some(signal),
                Some((id, error)) = sending.next() => if let Some(error) = error {
                    under_way.remove(&id);
                    figures.refused(error)?;
                },
                delivery = events.next() => {
                    let delivery = delivery.ok_or_else(hung_up)?;
                    if let Some(since) = under_way.remove(&delivery.envelope().event_id) {
                        figures.through(since);
                    }
                    drop(delivery.ack());
                }
            }
        };
        if clock.ending && signal.is_none() {
            figures.lost(under_way.len());
        }
        Ok((figures, signal))
    }

    async fn publish(&self, name: &str, stamp: Stamp) -> (EventId, Option<Error>) {
        let id = stamp.event_id.clone();
        let event = self.bus.publish_payload(name, Some(self.payload.clone()));
        (id, event.stamp(stamp).await.err())
    }

    /// Calls a target of its own, which answers with what it was sent.
    async fn calls(
        &self,
        stop: &mut (impl Future<Output = Exit> + Unpin),
    ) -> Result<Part, Failure> {
        let target = format!("bench-{}", token());
        let echo = |request: Request| async move { Ok::<_, Error>(request.payload().cloned()) };
        let serving = self.bus.handle(target.as_str(), echo);
        let _served = serving.concurrency(self.in_flight).await?;
        let mut figures = Figures::begin("calls");
        let mut calling = FuturesUnordered::new();
        let mut clock = Clock::of(self.span);
        let signal = loop {
            while !clock.ending && calling.len() < self.in_flight {
                calling.push(self.call(&target));
            }
            if figures.errors >= ERRORS_MAX || calling.is_empty() {
                break None;
            }
            tokio::select! {
                over = clock.next() => if over {
                    break None;
                },
                signal = &mut *stop => break Some(signal),
                Some((since, error)) = calling.next() => match error {
                    None => figures.through(since),
                    Some(error) => figures.refused(error)?,
                },
            }
        };
        if clock.ending && signal.is_none() {
            figures.lost(calling.len());
        }
        Ok((figures, signal))
    }

    async fn call(&self, target: &str) -> (Instant, Option<Error>) {
        let since = Instant::now();
        let call = self.bus.invoke_payload(target, Some(self.payload.clone()));
        (since, call.timeout(CALL).await.err())
    }
}

/// The time of a part: a span in which messages are sent, and a while for what is under way then.
struct Clock {
    end: Pin<Box<Sleep>>,
    /// Whether nothing new is sent any more.
    ending: bool,
}

impl Clock {
    fn of(span: Duration) -> Self {
        Self {
            end: Box::pin(sleep(span)),
            ending: false,
        }
    }

    /// Waits until something changes. Returns whether the part is over.
    async fn next(&mut self) -> bool {
        self.end.as_mut().await;
        if !self.ending {
            self.ending = true;
            self.end
                .as_mut()
                .reset(tokio::time::Instant::now() + PATIENCE);
            return false;
        }
        true
    }
}

fn hung_up() -> Failure {
    Failure::new(Exit::Unreachable, "the bus hung up; is it still running?")
}
