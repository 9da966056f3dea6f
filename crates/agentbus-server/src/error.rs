//! Why the host cannot start, and what a failed request is answered with.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use agentbus::{Error, ErrorCode, ErrorPayload};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// Tells why the host cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Another program listens there.
    #[error(
        "{address} is in use by another program; stop it, or choose another port with --listen"
    )]
    AddressInUse {
        /// The address.
        address: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A bind that strangers could reach.
    #[error(
        "{address} can be reached from other machines; that needs `--auth token` and at least one `--allow-host NAME`"
    )]
    Exposed {
        /// The address.
        address: SocketAddr,
    },
    /// Another bus uses the data directory.
    #[error("{} is in use by another agentbus; stop it, or choose another --data-dir", .path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// Other users may look into the data directory.
    #[error("{} can be read by other users; close it with `chmod 700 {}`", .path.display(), .path.display())]
    TooOpen {
        /// The file or directory.
        path: PathBuf,
    },
    /// The data directory cannot be used.
    #[error("cannot use {}: {source}", .path.display())]
    DataDir {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something else than a directory is where the data directory should be.
    #[error("{} is no directory; name the directory for the bus's data with --data-dir", .path.display())]
    NoDirectory {
        /// The path.
        path: PathBuf,
    },
    /// The token file holds no token.
    #[error("{} holds no token; delete it and a new one is made", .path.display())]
    BadToken {
        /// The file.
        path: PathBuf,
    },
    /// A host or origin of the allow-list makes no sense.
    #[error("`{0}` is not an origin; write it as `https://example.org`")]
    BadOrigin(String),
    /// The conversations cannot be opened.
    #[error("cannot open the conversations in {place}: {source}")]
    Chat {
        /// The database, without what is secret about it.
        place: String,
        /// What the store said.
        source: agentbus_chat::ChatError,
    },
    /// What MCP clients are offered has a name twice.
    #[error("cannot offer MCP: {0}")]
    Mcp(#[from] agentbus_mcp::CatalogError),
    /// The bus underneath failed.
    #[error(transparent)]
    Bus(#[from] Error),
}

/// A failed request: a status and the error payload of the protocol.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    payload: ErrorPayload,
}

impl Failure {
    pub(crate) const fn new(status: StatusCode, payload: ErrorPayload) -> Self {
        Self { status, payload }
    }

    /// The status and the JSON body.
    pub(crate) fn into_parts(self) -> (StatusCode, Vec<u8>) {
        (
            self.status,
            serde_json::to_vec(&self.payload).unwrap_or_default(),
        )
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        ErrorPayload::new(ErrorCode::InvalidRequest, message).into()
    }

    /// A request that no route takes as it is, with a status of its own.
    pub(crate) fn refused(status: StatusCode, message: impl Into<String>) -> Self {
        Self::new(
            status,
            ErrorPayload::new(ErrorCode::InvalidRequest, message),
        )
    }

    /// The same failure, with a word about what failed.
    pub(crate) fn about(mut self, what: impl std::fmt::Display) -> Self {
        self.payload.message = format!("{what}: {}", self.payload.message);
        self
    }

    /// What went wrong, in a sentence.
    pub(crate) fn message(&self) -> &str {
        &self.payload.message
    }

    /// Whether something was not done in time.
    pub(crate) fn is_late(&self) -> bool {
        self.payload.code == ErrorCode::AgentTimeout
    }

    pub(crate) fn unauthorized(message: &str) -> Self {
        ErrorPayload::new(ErrorCode::AuthFailure, message).into()
    }

    /// A request that comes from where none may come.
    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            ErrorPayload::new(ErrorCode::AuthFailure, message),
        )
    }
}

/// The status that belongs to a code.
fn status_of(code: &ErrorCode) -> StatusCode {
    match code {
        ErrorCode::AgentTimeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorCode::AgentUnavailable | ErrorCode::TransportFailure => StatusCode::BAD_GATEWAY,
        ErrorCode::BackpressureDrop => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::AuthFailure => StatusCode::UNAUTHORIZED,
        ErrorCode::InvalidRequest => StatusCode::BAD_REQUEST,
        ErrorCode::NoHandler => StatusCode::NOT_FOUND,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<ErrorPayload> for Failure {
    fn from(payload: ErrorPayload) -> Self {
        Self {
            status: status_of(&payload.code),
            payload,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        error.to_payload().into()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.payload).unwrap_or_default();
        let json = [(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        )];
        let mut response = (self.status, json, body).into_response();
        if self.status == StatusCode::UNAUTHORIZED && self.payload.code == ErrorCode::AuthFailure {
            let challenge = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
