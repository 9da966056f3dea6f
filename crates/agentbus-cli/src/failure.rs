//! What went wrong, in a sentence and an exit code.

use std::process::ExitCode;

use agentbus::{Error, ErrorCode, TransportError};
use agentbus_chat::{ChatError, store::StoreError};
use agentbus_server::ServerError;

use crate::args::Space;

/// Shown at the end of `--help`, and the source of the table in docs/cli.md.
pub(crate) const EXIT_CODES: &str = "Exit codes:
  0  done
  1  something unexpected
  2  the command line or a payload is wrong
  3  the configuration is wrong
  4  the bus cannot be reached
  5  the bus refused the token or the host
  6  nobody serves the target
  7  no answer in time
  8  the agent answered with an error
  9  cannot listen, or the data directory or the log is in use
  10 the message was not taken: a queue or a limit was full, or not everyone confirmed it
  11 `doctor` found something wrong, or `bench` had errors
  130, 143  ended by Ctrl-C or SIGTERM before it was done";

/// The exit codes, one word each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Unexpected = 1,
    Usage = 2,
    Configuration = 3,
    Unreachable = 4,
    Refused = 5,
    NoHandler = 6,
    Timeout = 7,
    Agent = 8,
    Listen = 9,
    NotTaken = 10,
    /// What was looked at is not well.
    Unwell = 11,
    /// 128 and the number of the signal, as a shell counts.
    Interrupted = 130,
    Terminated = 143,
}

/// A failed command.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
    /// The error code of the protocol, where there is one.
    pub(crate) code: Option<ErrorCode>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            code: None,
        }
    }

    pub(crate) fn unexpected(message: impl Into<String>) -> Self {
        Self::new(Exit::Unexpected, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The failure of a command that speaks in these subjects; what it says to do next is about the
    /// same ones.
    pub(crate) fn within(space: &Space, error: Error) -> Self {
        let unserved = match &error {
            Error::NoHandler { target } => Some(unserved(target, &space.flags())),
            _ => None,
        };
        let mut failure = Self::from(error);
        if let Some(message) = unserved {
            failure.message = message;
        }
        failure
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.exit as u8)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = error.code();
        let exit = match (&error, &code) {
            (Error::Transport(TransportError::InUse { .. }), _) => Exit::Listen,
            (Error::Transport(TransportError::Carrier { .. } | TransportError::Closed), _) => {
                Exit::Unreachable
            }
            (
                Error::Setup(_)
                | Error::Subject(_)
                | Error::Pattern(_)
                | Error::Payload(_)
                | Error::Transport(
                    TransportError::TooLarge { .. }
                    | TransportError::Invalid { .. }
                    | TransportError::Address(_)
                    | TransportError::Unsupported { .. }
                    | TransportError::Durable { .. },
                ),
                _,
            ) => Exit::Usage,
            (
                Error::Transport(
                    TransportError::QueueFull { .. }
                    | TransportError::TooMany { .. }
                    | TransportError::Unconfirmed { .. }
                    | TransportError::Expired { .. },
                ),
                _,
            )
            | (_, ErrorCode::BackpressureDrop) => Exit::NotTaken,
            (_, ErrorCode::AuthFailure) => Exit::Refused,
            (_, ErrorCode::NoHandler) => Exit::NoHandler,
            (_, ErrorCode::AgentTimeout) => Exit::Timeout,
            // What the bus says of a publish or a subscription itself; no agent had a part in it.
            (Error::Transport(TransportError::Remote(_)), ErrorCode::InvalidRequest) => Exit::Usage,
            (Error::Transport(TransportError::Remote(_)), ErrorCode::TransportFailure) => {
                Exit::NotTaken
            }
            (Error::Remote(_), _) => Exit::Agent,
            _ => Exit::Unexpected,
        };
        let message = match error {
            Error::Transport(TransportError::Closed) => {
                "the bus hung up before it had answered; is it still running?".to_owned()
            }
            Error::NoHandler { target } => unserved(&target, ""),
            error => error.to_string(),
        };
        Self {
            exit,
            message,
            code: Some(code),
        }
    }
}

fn unserved(target: &str, flags: &str) -> String {
    format!(
        "nobody serves `{target}`; `agentbus targets` shows who is there, and `agentbus handle{flags} {target} -- CMD` \
         would serve it"
    )
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        let exit = match &error {
            ServerError::Exposed { .. }
            | ServerError::BadOrigin(_)
            | ServerError::NoDirectory { .. } => Exit::Configuration,
            // The URL or the file that was named; a database that somebody else holds is in use.
            ServerError::Chat {
                source:
                    ChatError::Store(
                        StoreError::Open { .. }
                        | StoreError::Foreign { .. }
                        | StoreError::Failed(_),
                    ),
                ..
            } => Exit::Configuration,
            ServerError::Bus(_) => Exit::Unexpected,
            _ => Exit::Listen,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<agentbus_acp::log::LogError> for Failure {
    fn from(error: agentbus_acp::log::LogError) -> Self {
        Self::new(Exit::Listen, error.to_string())
    }
}
