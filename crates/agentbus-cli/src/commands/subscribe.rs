//! `agentbus sub`.

use std::time::Duration;

use agentbus::protocol::SubjectSpace;
use agentbus::{Error, TransportError};

use super::client::Client;
use crate::args::SubscribeArgs;
use crate::failure::{Exit, Failure};

/// What a timer takes for never.
const FOR_EVER: Duration = Duration::MAX;

pub(crate) async fn subscribe(client: &Client, args: SubscribeArgs) -> Result<(), Failure> {
    let bus = client.connect(&args.space).await?;
    let mut subscription = bus.subscribe(args.pattern.as_str());
    if let Some(group) = args.queue {
        subscription = subscription.queue(group);
    }
    if let Some(name) = args.durable {
        subscription = subscription.durable(name);
    }
    if let Some(start) = args.from {
        subscription = subscription.start(start);
    }
    let mut events = subscription.await.map_err(explain)?;
    // After what the transport itself lacks, which says more.
    client.others_must_reach()?;
    if let Some(unheard) = unheard(bus.subjects(), &args.pattern) {
        client.output.note(&unheard);
    }
    client
        .output
        .note(&format!("listening for {}", args.pattern));
    let mut left = args.count.unwrap_or(u64::MAX);
    let idle = args.until_idle.map_or(FOR_EVER, Duration::from_secs);
    // Made once: a signal that comes while an event is printed must not be missed.
    let mut asked_to_stop = std::pin::pin!(super::serve::asked_to_stop());
    while left > 0 {
        let delivery = tokio::select! {
            delivery = events.next() => delivery,
            () = tokio::time::sleep(idle) => break,
            () = &mut asked_to_stop => break,
        };
        let Some(delivery) = delivery else {
            return Err(Failure::new(
                Exit::Unreachable,
                "the bus hung up; is it still running?",
            ));
        };
        if delivery.missed() > 0 {
            client
                .output
                .note(&format!("{} events were lost", delivery.missed()));
        }
        client.output.event(delivery.envelope())?;
        // Acknowledged once printed, which is what a confirmed publish waits for.
        delivery.ack().await.map_err(agentbus::Error::from)?;
        left -= 1;
    }
    // Ended first, or the shutdown would wait for it to take what is left.
    drop(events);
    bus.shutdown().await;
    Ok(())
}

/// What a pattern leaves out, which would look like silence.
fn unheard(space: &SubjectSpace, pattern: &str) -> Option<String> {
    let topics = space.unheard(pattern).map(|topic| format!("`{topic}`"));
    let topics: Vec<_> = topics.collect();
    (!topics.is_empty()).then(|| {
        let topics = topics.join(", ");
        format!(
            "`{pattern}` does not hear the topics that are shared with AMB peers, {topics}; subscribe to them by themselves"
        )
    })
}

/// A bus that keeps nothing is the default, and another one would not have its events.
fn explain(error: Error) -> Failure {
    let Error::Transport(TransportError::Unsupported {
        transport,
        capability,
    }) = &error
    else {
        return error.into();
    };
    let message = format!(
        "this bus is on the {transport} transport, which cannot give {capability}; start the bus with `agentbus serve \
         --transport sqlite://PATH`, or see `agentbus semantics`"
    );
    Failure::new(Exit::Usage, message)
}
