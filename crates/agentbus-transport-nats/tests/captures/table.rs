//! Which recording is played, and how.
//!
//! The tests take the names of their recordings from here, so that what is listed as played is
//! played; a recording that is not listed fails a test.

use super::load;

/// How a recording is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Our caller, against the recorded agent.
    Agent,
    /// The recorded callers, against our agent.
    Callers,
    /// The recorded callers all at once.
    Crowd,
    /// Our caller, where nobody answered the recorded one.
    Silence,
    /// Our caller leaves a stream of the recorded agent.
    Leaving,
    /// A handler of ours that calls the recorded agent.
    Nested,
    /// A handler of ours that fails as the recorded one did.
    Letters,
    /// What is not understood.
    Garbage,
    /// Events under patterns.
    Patterns,
    /// Events as they are on the wire.
    Wire,
    /// Not at all, for this reason.
    Unplayed(&'static str),
}

use Part::{
    Agent, Callers, Crowd, Garbage, Leaving, Letters, Nested, Patterns, Silence, Unplayed, Wire,
};

/// Every recording that was made over NATS.
const TABLE: &[(&str, &[Part])] = &[
    ("go-01-invoke", &[Callers, Silence]),
    ("go-10-stream", &[Agent]),
    ("go-41-server-concurrency", &[Callers, Crowd]),
    ("nats-01-invoke-basic", &[Callers]),
    ("nats-02-invoke-payload-kinds", &[Callers]),
    ("nats-03-invoke-context-metadata", &[Callers]),
    ("nats-04-invoke-handler-envelope", &[Callers]),
    ("nats-05-invoke-errors", &[Callers]),
    ("nats-06-tenant-and-prefix", &[Callers]),
    ("nats-07-invoke-no-handler-timeout", &[Silence]),
    ("nats-10-stream-basic", &[Agent]),
    ("nats-11-stream-auto-terminal", &[Agent]),
    ("nats-12-stream-out-of-order", &[Agent]),
    ("nats-14-stream-gap-too-large", &[Agent]),
    ("nats-14b-stream-gap-just-ok", &[Agent]),
    ("nats-14c-stream-pending-full", &[Agent]),
    ("nats-15-stream-idle-timeout", &[Agent]),
    ("nats-16-stream-client-close", &[Agent, Leaving]),
    ("nats-17-stream-final-without-flag", &[Agent]),
    ("nats-18-stream-error-frame", &[Agent]),
    ("nats-19-stream-negative-seq", &[Agent]),
    ("nats-20-publish-subscribe", &[Wire]),
    ("nats-21-subscribe-wildcards", &[Patterns]),
    (
        "nats-23-driver-headers-request",
        &[Unplayed(
            "the driver below the other bus, alone: no message of it is an envelope",
        )],
    ),
    ("nats-30-retry-deadletter", &[Letters]),
    ("nats-31-otel-trace", &[Callers, Nested]),
    ("nats-32-session-propagation", &[Callers, Nested]),
    ("nats-40-malformed-inputs", &[Garbage]),
    (
        "nats-41-server-concurrency",
        &[Unplayed(
            "it holds times and no messages: its agent serves one call at a time, which is its \
             defect; the same calls are in go-41-server-concurrency",
        )],
    ),
    ("x-50-cross-go-agent-python-caller", &[Agent]),
];

/// The recordings that are played in this way.
pub(crate) fn played_as(part: Part) -> impl Iterator<Item = &'static str> {
    let rows = TABLE.iter().filter(move |(_, parts)| parts.contains(&part));
    rows.map(|(name, _)| *name)
}

/// The one recording that is played in this way.
pub(crate) fn only(part: Part) -> &'static str {
    let mut found = played_as(part);
    let name = found.next().unwrap();
    assert_eq!(found.next(), None, "{part:?}");
    name
}

#[test]
fn every_recording_is_played_or_says_why_not() {
    let Some(index) = load("index") else { return };
    let files = index["files"].as_array().unwrap().iter();
    // The others went over HTTP.
    let over_nats = files.filter(|file| file["ops"].as_u64().unwrap() > 0);
    let mut recorded: Vec<&str> = over_nats
        .map(|file| file["file"].as_str().unwrap().trim_end_matches(".json"))
        .collect();
    recorded.sort_unstable();
    let known: Vec<&str> = TABLE.iter().map(|(name, _)| *name).collect();
    assert_eq!(known, recorded);
    for (name, parts) in TABLE {
        let unplayed = parts.iter().any(|part| matches!(part, Unplayed(_)));
        assert!(
            parts.len() == 1 || !(unplayed || parts.is_empty()),
            "{name}"
        );
    }
}
