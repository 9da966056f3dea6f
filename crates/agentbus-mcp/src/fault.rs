//! Why a tool, resource or prompt did not answer.

use crate::Ability;

/// What a handler may fail with, besides an answer that says what went wrong.
///
/// A client's program sees a fault; its model sees an answer. What the model can put right belongs
/// into [`crate::Reply::error`].
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// There is no such resource.
    #[error("there is no resource `{0}`; list the resources to see which there are")]
    NoResource(String),
    /// The client did not say that it can do what the call needs of it.
    #[error("this needs a client that can do {}", .0.name())]
    Unable(Ability),
    /// The client has to answer first; it calls again with the answers.
    #[error("the call waits for answers of its client")]
    Unanswered,
    /// The call was cancelled by its client.
    #[error("the call was cancelled")]
    Cancelled,
    /// The bus stops.
    #[error("the bus is stopping; call again when it is back")]
    Stopping,
    /// Something failed that the client can do nothing about.
    #[error("{0}")]
    Failed(String),
}

impl Fault {
    /// A request that makes no sense, and why.
    #[must_use]
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }

    /// A failure on this side.
    #[must_use]
    pub fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}
