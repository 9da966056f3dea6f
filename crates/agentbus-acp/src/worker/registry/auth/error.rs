//! Why nobody is logged in, with the word that programs know it by.

use std::io;
use std::path::PathBuf;

/// What can go wrong between a person, a provider and the store of tokens.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// No provider and no agent has the name.
    #[error("nothing called {0} can be logged in to; `--auth-status` shows what there is")]
    Unknown(String),
    /// The description of a provider cannot be used.
    #[error("the provider {provider} cannot be used: {why}")]
    Provider {
        /// Its name.
        provider: String,
        /// What is wrong.
        why: String,
    },
    /// Nobody is logged in.
    #[error("nobody is logged in at {provider}; run `agentbus worker registry --login {provider}`")]
    LoggedOut {
        /// Its name.
        provider: String,
    },
    /// The provider does not know the refresh token any more.
    #[error(
        "the login at {provider} has ended ({why}); run `agentbus worker registry --login {provider}`"
    )]
    Ended {
        /// Its name.
        provider: String,
        /// What the provider says.
        why: String,
    },
    /// The provider, or the person at it, said no.
    #[error("{provider} refused the login: {why}")]
    Refused {
        /// Its name.
        provider: String,
        /// What it says.
        why: String,
    },
    /// The provider does not accept what it has just handed out, or this client.
    #[error("{provider} did not exchange the code for a token: {why}; log in again")]
    Credentials {
        /// Its name.
        provider: String,
        /// What it says.
        why: String,
    },
    /// The answers of the browser belong to another login.
    #[error(
        "the browser came back with answers to another login, too many times; log in again, in one window"
    )]
    State,
    /// Nobody logged in.
    #[error("nobody logged in within {0} s; log in again")]
    Timeout(u64),
    /// The provider cannot be reached.
    #[error("{provider} cannot be reached: {why}; try again later")]
    Network {
        /// Its name.
        provider: String,
        /// Why not.
        why: String,
    },
    /// The place where the browser comes back to cannot be opened.
    #[error("no port can be opened for the browser to come back to: {0}")]
    Callback(String),
    /// There is no browser, or no terminal, to log in with.
    #[error("there is nobody to log in here: {0}")]
    Headless(String),
    /// The tokens cannot be read or kept.
    #[error("{}: {why}", path.display())]
    Storage {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// An agent's own login failed.
    #[error("the agent {agent} was not logged in: {why}")]
    Agent {
        /// Its id.
        agent: String,
        /// Why not.
        why: String,
    },
}

impl AuthError {
    /// The word for programs.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unknown(_) | Self::Provider { .. } => "UNSUPPORTED_PROVIDER",
            Self::LoggedOut { .. } => "LOGIN_REQUIRED",
            Self::Ended { .. } => "TOKEN_REFRESH_FAILED",
            Self::Refused { .. } | Self::Agent { .. } => "PROVIDER_ERROR",
            Self::Credentials { .. } => "INVALID_CREDENTIALS",
            Self::State => "INVALID_STATE",
            Self::Timeout(_) => "TIMEOUT",
            Self::Network { .. } => "NETWORK_ERROR",
            Self::Callback(_) => "CALLBACK_ERROR",
            Self::Headless(_) => "HEADLESS_ENVIRONMENT",
            Self::Storage { .. } => "STORAGE_ERROR",
        }
    }

    /// Whether logging in can help.
    pub(in super::super) fn wants_login(&self) -> bool {
        matches!(
            self,
            Self::LoggedOut { .. } | Self::Ended { .. } | Self::Timeout(_) | Self::Headless(_)
        )
    }

    pub(super) fn storage(path: &std::path::Path, error: &io::Error) -> Self {
        Self::Storage {
            path: path.to_owned(),
            why: error.to_string(),
        }
    }
}
