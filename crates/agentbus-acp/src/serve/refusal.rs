//! What editors are told when something cannot be done.

use agentbus::{Error as BusError, ErrorCode};
use serde_json::json;

use crate::client::Refused;
use crate::limits;
use crate::log::LogError;
use crate::sdk::serving::{self, Error, schema};

/// The code of the protocol for a login that is missing.
const AUTH_REQUIRED: i32 = -32000;

/// A failure of the bus, or of an agent behind it.
pub(super) fn of_bus(error: &BusError) -> Error {
    let payload = error.to_payload();
    let told = match payload.code {
        ErrorCode::AuthFailure => Error::new(AUTH_REQUIRED, payload.message),
        ErrorCode::InvalidRequest => serving::invalid(payload.message),
        _ => serving::failed(payload.message),
    };
    told.data(json!({ "code": payload.code, "retryable": payload.retryable }))
}

/// Something that could not be set.
pub(super) fn of_change(refused: Refused) -> Error {
    match refused {
        Refused::Bus(error) => of_bus(&error),
        Refused::Agent(fault) => {
            let code = i32::try_from(fault.code).unwrap_or(-32603);
            Error::new(code, fault.message).data(fault.data)
        }
    }
}

pub(super) fn of_log(error: &LogError) -> Error {
    tracing::error!(%error, "an editor cannot be served");
    serving::failed(error.to_string())
}

pub(super) fn no_session(id: &str) -> Error {
    schema::Error::session_not_found(schema::SessionId::new(id)).into()
}

pub(super) fn nobody() -> Error {
    serving::refused(
        "there is no agent on the bus; add one with `agentbus agent add NAME -- CMD` and start the \
         bus with `--config agentbus.toml`",
    )
}

pub(super) fn no_agent(name: &str, there: &[String]) -> Error {
    let there = match there {
        [] => "nobody serves anything".to_owned(),
        names => format!("choose one of: {}", names.join(", ")),
    };
    serving::invalid(format!("there is no agent `{name}` on the bus; {there}"))
}

pub(super) fn begun() -> Error {
    serving::refused(
        "another agent has not heard what was said in this session; open a new one to speak with it",
    )
}

pub(super) fn shared() -> Error {
    serving::refused("other editors have this session open; open a new one for another agent")
}

pub(super) fn no_modes(name: &str) -> Error {
    serving::invalid(format!("`{name}` has no modes and no options of its own"))
}

pub(super) fn not_absolute(path: &std::path::Path) -> Error {
    serving::invalid(format!("{} is no absolute path", path.display()))
}

pub(super) fn not_introduced() -> Error {
    serving::refused("the first request of a connection is `initialize`; send that one first")
}

pub(super) fn queue_full() -> Error {
    serving::refused(format!(
        "{} prompts wait in this session already; wait for their answers",
        limits::SESSION_QUEUE
    ))
}

pub(super) fn too_many_requests() -> Error {
    serving::refused(format!(
        "{} requests of this connection are under way; wait for their answers",
        limits::EDITOR_REQUESTS
    ))
}

pub(super) fn too_many_sessions() -> Error {
    serving::refused(format!(
        "{} sessions are open in this connection; close one first",
        limits::EDITOR_SESSIONS
    ))
}

/// The connection ends; nobody reads this, but every request has its answer.
pub(super) fn leaving() -> Error {
    serving::failed("the connection ends; the turn goes on, and session/load tells what it says")
}
