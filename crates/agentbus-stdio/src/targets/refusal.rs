//! JSON-RPC errors in the words of the bus.

use agentbus::{Error, ErrorCode, ErrorPayload};
use serde::Deserialize;
use serde_json::Value;

use crate::CallError;
use crate::codes::{CODES, Fault};

#[derive(Deserialize)]
struct RpcError {
    code: i64,
    #[serde(default)]
    message: String,
    data: Option<Value>,
}

/// What a caller is told when the bus of the pool refused or ended its call.
pub(super) fn of_bus(error: CallError) -> Error {
    match error {
        CallError::Malformed => Error::invalid_request(error.to_string()),
        CallError::Unreadable => {
            let mut payload = ErrorPayload::new(ErrorCode::AgentUnavailable, error.to_string());
            payload.retryable = error.is_retryable();
            Error::Remote(payload)
        }
        CallError::Bus(fault) => {
            let mut payload = ErrorPayload::new(code_of(fault), fault.row().sentence);
            payload.retryable = fault.is_retryable();
            Error::Remote(payload)
        }
    }
}

/// What a caller is told of an error answer; the answer itself is the cause.
pub(super) fn of_worker(error: &str) -> Error {
    let cause = serde_json::value::RawValue::from_string(error.to_owned()).ok();
    let read: RpcError = serde_json::from_str(error).unwrap_or(RpcError {
        code: 0,
        message: String::new(),
        data: None,
    });
    let data = |name: &str| read.data.as_ref().and_then(|data| data.get(name));
    let ours = data("code").and_then(Value::as_str);
    let ours = CODES.iter().find(|row| Some(row.name) == ours);
    let code = match ours {
        Some(row) => code_of(row.fault),
        None => code_of_number(read.code),
    };
    let message = match read.message.as_str() {
        "" => "the worker answered with an error that has no message",
        message => message,
    };
    let mut payload = ErrorPayload::new(code, message);
    if let Some(retryable) = data("retryable").and_then(Value::as_bool) {
        payload.retryable = retryable;
    }
    payload.cause = cause;
    Error::Remote(payload)
}

/// JSON-RPC's own codes but one say that the request is wrong.
fn code_of_number(code: i64) -> ErrorCode {
    match code {
        -32700 | -32602..=-32600 => ErrorCode::InvalidRequest,
        _ => ErrorCode::AgentUnavailable,
    }
}

fn code_of(fault: Fault) -> ErrorCode {
    match fault {
        Fault::TimedOut => ErrorCode::AgentTimeout,
        Fault::QueueFull
        | Fault::TooManyPending
        | Fault::TooManySessions
        | Fault::TooManyClients
        | Fault::TooSlow => ErrorCode::BackpressureDrop,
        Fault::Parse
        | Fault::MessageTooLarge
        | Fault::FrameTooLarge
        | Fault::UnknownBusMethod
        | Fault::BadBusParams
        | Fault::SessionNameTooLong
        | Fault::ExtensionUnavailable => ErrorCode::InvalidRequest,
        Fault::PoolMissing
        | Fault::PoolUnknown
        | Fault::NoWorker
        | Fault::PoolGivenUp
        | Fault::WorkerDied
        | Fault::BadWorkerOutput
        | Fault::ShuttingDown
        | Fault::NoClient
        | Fault::SessionRequired => ErrorCode::AgentUnavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(error: &str, code: ErrorCode, retryable: bool) {
        let payload = of_worker(error).to_payload();
        assert_eq!(
            (payload.code, payload.retryable),
            (code, retryable),
            "{error}"
        );
        assert_eq!(payload.cause.unwrap().get(), error);
        assert!(!payload.message.is_empty());
    }

    #[test]
    fn errors_keep_their_meaning() {
        check(
            r#"{"code":-32013,"message":"m","data":{"code":"WORKER_DIED","retryable":true}}"#,
            ErrorCode::AgentUnavailable,
            true,
        );
        check(
            r#"{"code":-32017,"message":"m","data":{"code":"TIMED_OUT","retryable":true}}"#,
            ErrorCode::AgentTimeout,
            true,
        );
        check(
            r#"{"code":-32602,"message":"bad"}"#,
            ErrorCode::InvalidRequest,
            false,
        );
        check(
            r#"{"code":-32603,"message":"oops"}"#,
            ErrorCode::AgentUnavailable,
            false,
        );
        check("7", ErrorCode::AgentUnavailable, false);
    }
}
