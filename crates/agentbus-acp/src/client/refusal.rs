//! What goes wrong with an agent, in the words of the bus.

use agentbus::{Error, ErrorCode, ErrorPayload};
use serde::{Deserialize, Serialize};

use super::link::{Gone, StartError};
use crate::limits::ERROR_BYTES;
use crate::sdk::driving::{Abilities, Fault};

fn error(code: ErrorCode, retryable: bool, message: String) -> Error {
    let mut payload = ErrorPayload::new(code, message);
    payload.retryable = retryable;
    Error::Remote(payload)
}

/// The turn died with its agent. It may have had effects, so the caller has to decide.
pub(super) fn died(agent: &str, gone: &Gone, abilities: &Abilities) -> Error {
    let then = match abilities.keeps_sessions() {
        true => "takes this session up",
        false => "opens a new session, in which it remembers nothing of what was said in this one",
    };
    let message = format!(
        "during this turn, the agent `{agent}` {gone}; it is started again for the next prompt, \
         and {then}"
    );
    error(ErrorCode::AgentUnavailable, true, message)
}

/// The agent did not start.
pub(super) fn not_started(agent: &str, problem: &StartError) -> Error {
    let unavailable = |retryable, message| error(ErrorCode::AgentUnavailable, retryable, message);
    match problem {
        StartError::Spawn(problem) => unavailable(
            problem.is_retryable(),
            format!("the agent `{agent}` cannot be started: {problem}"),
        ),
        StartError::Gone(gone) => unavailable(
            true,
            format!("the agent `{agent}` {gone} before it had introduced itself"),
        ),
        StartError::Silent(seconds) => error(
            ErrorCode::AgentTimeout,
            true,
            format!(
                "the agent `{agent}` did not answer `initialize` within {seconds} s and was ended; \
                 check that its command speaks ACP, or raise `limits.initialize_s`"
            ),
        ),
        StartError::Version(version) => unavailable(
            false,
            format!(
                "the agent `{agent}` speaks version {version} of ACP and the bus speaks version 1; \
                 install a release of it that does too"
            ),
        ),
        StartError::Fault(fault) => answered(agent, fault, &Abilities::default()),
    }
}

/// It failed a moment ago and is not tried again yet.
pub(super) fn pausing(agent: &str, seconds: u64, last: &str) -> Error {
    let message = format!("{last} (`{agent}` is tried again in {seconds} s)");
    error(ErrorCode::AgentUnavailable, true, message)
}

/// The agent answered with an error.
pub(super) fn answered(agent: &str, fault: &Fault, abilities: &Abilities) -> Error {
    if fault.wants_login() {
        let logins = match abilities.logins.as_slice() {
            [] => String::new(),
            logins => format!(" ({})", logins.join(", ")),
        };
        let message = format!(
            "the agent `{agent}` wants you to log in first{logins}: authentication required; log \
             in with its own program, as the user the bus runs as"
        );
        return error(ErrorCode::AuthFailure, false, message);
    }
    let code = match fault.code {
        -32700 | -32602..=-32600 => ErrorCode::InvalidRequest,
        _ => ErrorCode::AgentUnavailable,
    };
    let told = match &fault.data {
        Some(data) => format!("{} {data}", fault.message),
        None => fault.message.clone(),
    };
    // What an agent adds can be a whole page; the reader needs its beginning.
    let told = &told[..told.floor_char_boundary(ERROR_BYTES)];
    let message = format!(
        "the agent `{agent}` answered with error {}: {told}",
        fault.code
    );
    error(code, false, message)
}

/// Too many turns wait in a session.
pub(super) fn queue_full(session: &str, queue: usize) -> Error {
    let message = format!(
        "{queue} turns wait in the session `{session}` already; try again when one has ended, or \
         use another session"
    );
    error(ErrorCode::BackpressureDrop, true, message)
}

/// Every session that may be remembered has a turn.
pub(super) fn too_many_sessions(agent: &str, sessions: usize) -> Error {
    let message = format!(
        "all {sessions} sessions of `{agent}` are at work; try again later, or raise \
         `limits.sessions`"
    );
    error(ErrorCode::BackpressureDrop, true, message)
}

/// The agent refuses to go on, which is an answer to what it was asked.
pub(super) fn refused(agent: &str, text: &str) -> Error {
    let said = match text {
        "" => String::new(),
        text => format!(": {text}"),
    };
    let message = format!("the agent `{agent}` refuses to go on{said}");
    let mut payload = ErrorPayload::new(ErrorCode::InvalidRequest, message);
    payload.cause = serde_json::value::to_raw_value(&Stopped::REFUSAL).ok();
    Error::Remote(payload)
}

/// Why a turn ended, for those who speak ACP to their callers.
#[derive(Serialize, Deserialize)]
pub(crate) struct Stopped<'a> {
    pub(crate) stop_reason: &'a str,
}

impl Stopped<'static> {
    const REFUSAL: Self = Self {
        stop_reason: "refusal",
    };
}

/// The agent cannot take this kind of content.
pub(super) fn beyond(agent: &str, kind: &str) -> Error {
    Error::invalid_request(format!(
        "the agent `{agent}` takes no `{kind}` content; send text or a `resource_link`"
    ))
}

/// The host stops.
pub(super) fn stopping() -> Error {
    let message = "the bus is stopping; try again when it runs again".to_owned();
    error(ErrorCode::AgentUnavailable, true, message)
}

/// The host stopped in the middle of a turn.
pub(crate) fn bus_stopped() -> Error {
    let message = "the bus was stopped during this turn; start it again and prompt again to go on";
    error(ErrorCode::AgentUnavailable, true, message.to_owned())
}

/// Nothing can be set on a session whose agent ended.
pub(super) fn not_open(agent: &str) -> Error {
    let message = format!(
        "the session is not open in the agent `{agent}`, which ended; the next prompt opens it again"
    );
    error(ErrorCode::AgentUnavailable, true, message)
}

/// The agent did not open the session.
pub(super) fn session_not_opened(agent: &str, seconds: u64) -> Error {
    let message = format!(
        "the agent `{agent}` did not open a session within {seconds} s; the MCP servers that it \
         starts may be what it waits for; if so, raise `limits.opening_s`"
    );
    error(ErrorCode::AgentTimeout, true, message)
}
