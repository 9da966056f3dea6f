//! The HTTP host of AgentBus.
//!
//! One port serves the bus over HTTP, server-sent events and WebSocket, its metrics, its OpenAPI
//! description and a small page. The host translates and authenticates; everything else is the
//! bus's.
//!
//! What it promises: no route answers a foreign `Host` or `Origin`; no route but `/healthz`
//! and `/open`, which trades a link for a session,
//! answers without the token, unless authentication was switched off on a loopback address; a
//! client that leaves cancels what it asked for; a shutdown finishes what was accepted.

mod acp;
mod auth;
mod chat;
mod cloudevents;
mod config;
mod data_dir;
mod error;
mod extract;
mod guard;
mod idempotency;
pub mod limits;
mod log_lines;
mod mcp;
mod metrics;
mod reach;
mod routes;
mod server;
mod sse;
mod state;
mod ws;

pub use agentbus_decisions::Board;
pub use config::{AuthMode, DEFAULT_PORT, Figures, ServerConfig};
pub use data_dir::DataDir;
pub use error::ServerError;
pub use log_lines::LogLines;
pub use reach::quoted;
pub use server::{RunningServer, Server};

/// The OpenAPI description that `/openapi.json` serves.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    routes::openapi()
}
