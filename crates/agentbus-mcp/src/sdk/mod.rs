//! The official SDK, and everything that names it. Nothing outside of this module does: the SDK
//! changes often, and what clients find here should not.

#![expect(
    deprecated,
    reason = "the newest revision lets go of sampling, roots and logging, which clients of the \
    others still use"
)]

mod client;
mod convert;
mod direct;
mod handler;
mod http;
mod listen;
mod run;
mod seal;
mod sessions;
mod spans;
mod wire;

pub use http::{HttpBody, HttpService};
pub use wire::{Pipe, PipeError};

pub(crate) use direct::{call, request};
pub(crate) use handler::Shared;
pub(crate) use run::Running;
pub(crate) use seal::Seal;
pub(crate) use sessions::Sessions;
pub(crate) use wire::{Incoming, Posted, serve_lines};
