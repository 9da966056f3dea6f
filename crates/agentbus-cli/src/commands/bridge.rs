//! `agentbus bridge`.

use std::sync::Arc;
use std::time::Duration;

use agentbus::bridge::{self, Bridge, End, Step};
use agentbus::protocol::{Pattern, SubjectSpace};
use agentbus::transport::{Transport, TransportError};
use agentbus::{Error, events_pattern, transports};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::args::{BridgeArgs, Space};
use crate::failure::{Exit, Failure};
use crate::log::Log;
use crate::output::Output;

/// Time between two lines about how far the copy has come.
const PROGRESS: Duration = Duration::from_secs(10);

/// Time that the transports have to end in order.
const CLOSE: Duration = Duration::from_secs(2);

/// Copies until it is told to stop, or until the source is idle if that was asked for.
pub(crate) async fn bridge(args: BridgeArgs, output: &Output) -> Result<(), Failure> {
    let _log = Log::start("warn", output)?;
    let source = connect(&args.source).await?;
    let destination = connect(&args.destination).await?;
    let mut bridge = open(&args, &source, &destination).await?;
    let (from, to) = (
        transports::without_secrets(&args.source),
        transports::without_secrets(&args.destination),
    );
    output.note(&format!("copying {} from {from} to {to}", args.pattern));
    let outcome = run(&mut bridge, args.until_idle, output).await;
    let (copied, expired) = (bridge.copied(), bridge.expired());
    // Ended first, or the close would wait for it to take what is left.
    drop(bridge);
    source.close(CLOSE).await;
    destination.close(CLOSE).await;
    output.line(&match output.is_json() {
        true => serde_json::json!({ "copied": copied, "expired": expired }).to_string(),
        false => sum(copied, expired),
    })?;
    outcome
}

async fn connect(url: &str) -> Result<Arc<dyn Transport>, Failure> {
    let agent = format!("bridge-{}", std::process::id());
    Ok(transports::open(url, &agent).await?)
}

async fn open(
    args: &BridgeArgs,
    source: &Arc<dyn Transport>,
    destination: &Arc<dyn Transport>,
) -> Result<Bridge, Failure> {
    let space = subjects(&args.space, [source, destination])?;
    let sharing = space.clone().sharing(source.shared_topics());
    let pattern = events_pattern(&sharing.map_err(Error::from)?, &args.pattern)?;
    let to = transports::identity(&args.destination);
    let name = match &args.name {
        Some(name) => name.clone(),
        None => name_for(&to, &events_of(&space, &pattern, &args.pattern)),
    };
    let bridge = bridge::between(
        End::new(Arc::clone(source), transports::identity(&args.source)).within(space.clone()),
        End::new(Arc::clone(destination), to).within(space),
        pattern,
    );
    if args.live {
        return Ok(bridge.open().await?);
    }
    let opened = bridge.durable(name).start(args.from).open().await;
    opened.map_err(|error| match error {
        Error::Transport(TransportError::Unsupported { .. }) => {
            let message = format!("{error}; or copy what comes from now on with --live");
            Failure::new(Exit::Usage, message)
        }
        error => error.into(),
    })
}

/// Whose events are copied, under the names that they have: what was asked for, else those of the
/// bus at the source, else those of everyone. The destination has no say in what it is given.
fn subjects(asked: &Space, ends: [&Arc<dyn Transport>; 2]) -> Result<SubjectSpace, Failure> {
    let there = ends.map(|end| end.subjects());
    let usual = there[0].clone().unwrap_or_default();
    let prefix = asked.subject_prefix().unwrap_or(usual.prefix());
    let tenant = asked.tenant().unwrap_or(usual.tenant());
    if let Some(other) = there
        .iter()
        .flatten()
        .find(|other| other.prefix() != prefix)
    {
        let own = other.prefix();
        return Err(Failure::usage(format!(
            "a bus at one end has the subject prefix `{own}` and takes nothing under `{prefix}`; name the transport behind \
             that bus instead"
        )));
    }
    Ok(SubjectSpace::new(prefix, tenant).map_err(Error::from)?)
}

/// What a durable name says of the events: not only the pattern where another copy may have the same
/// one in another tenant.
fn events_of(space: &SubjectSpace, full: &Pattern, pattern: &str) -> String {
    match *space == SubjectSpace::default() {
        true => pattern.to_owned(),
        false => full.to_string(),
    }
}

/// A durable name that every transport takes.
fn name_for(destination: &str, pattern: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let pattern = pattern.replace('>', "all").replace('*', "any");
    format!("bridge-{destination}-{pattern}")
        .chars()
        .map(plain)
        .collect()
}

async fn run(bridge: &mut Bridge, until_idle: Option<u64>, output: &Output) -> Result<(), Failure> {
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    let asked = super::serve::asked_to_stop();
    let watch = tokio::spawn(async move {
        asked.await;
        stopping.cancel();
    });
    let idle = until_idle.map(Duration::from_secs);
    let mut told = Instant::now();
    let outcome = loop {
        match bridge.step(idle, &stop).await {
            Ok(Step::Copied(_)) if told.elapsed() < PROGRESS => {}
            Ok(Step::Copied(_)) => {
                output.note(&format!("{} so far", events(bridge.copied())));
                told = Instant::now();
            }
            Ok(Step::Over) if !stop.is_cancelled() => {
                let message = "the source hung up; run the same command again to go on";
                break Err(Failure::new(Exit::Unreachable, message));
            }
            Ok(Step::Idle | Step::Over) => break Ok(()),
            Err(error) => break Err(error.into()),
        }
    };
    watch.abort();
    outcome
}

/// What became of the events.
fn sum(copied: u64, expired: u64) -> String {
    match expired {
        0 => format!("copied {}", events(copied)),
        expired => format!(
            "copied {}; {} had expired before",
            events(copied),
            events(expired)
        ),
    }
}

fn events(count: u64) -> String {
    match count {
        1 => "1 event".to_owned(),
        count => format!("{count} events"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_names_what_expired_only_where_something_did() {
        assert_eq!(sum(2, 0), "copied 2 events");
        assert_eq!(sum(0, 1), "copied 0 events; 1 event had expired before");
    }

    #[test]
    fn a_name_is_made_of_letters_digits_and_dashes() {
        let name = name_for("nats://127.0.0.1:4222", "order.>");
        assert_eq!(name, "bridge-nats---127-0-0-1-4222-order-all");
        assert_ne!(name_for("a", "*"), name_for("a", ">"));
        let of = |tenant: &str| {
            let space = SubjectSpace::new("acp.v1", tenant).unwrap();
            name_for(
                "a",
                &events_of(&space, &space.events_pattern(">").unwrap(), ">"),
            )
        };
        assert_eq!(of(""), "bridge-a-all");
        assert_eq!(of("acme"), "bridge-a-acp-v1-acme-events-all");
    }
}
