//! The ACP worker: an agent on a byte stream, for the process bus or any ACP client.
//!
//! It speaks every stable method of ACP v1, keeps its sessions on disk, connects the MCP servers
//! that a session names and runs their tools with permission. What answers is an engine.
//!
//! The surprising invariant: **what is replayed is what was sent.** A history holds the protocol's
//! own updates, and an engine that remembers reads its memory from there.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

mod agent;
mod content;
mod engine;
mod kinds;
pub(crate) mod limits;
mod lines;
mod mcp;
pub mod proxy;
mod recent;
pub mod registry;
mod replay;
mod routing;
mod session;
mod settings;
mod store;
mod turn;
mod web;

use self::agent::Worker;
pub use self::engine::OpenAi;
use self::engine::{Engine, Model};
pub(crate) use self::session::title_of;
use self::store::Store;
use crate::sdk::serving;

/// What a worker is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// What answers.
    pub engine: EngineOptions,
    /// Where sessions are kept.
    pub data_directory: PathBuf,
}

/// What answers a prompt.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum EngineOptions {
    /// Says what it is told.
    Echo,
    /// Asks a model.
    OpenAi(OpenAi),
}

/// Why a worker ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The data directory cannot be used.
    #[error("cannot keep sessions in {}: {source}; name another directory with --data-dir", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// No HTTP client can be made.
    #[error("cannot make an HTTP client: {0}")]
    Http(String),
    /// The connection failed.
    #[error("the connection to the client failed: {0}")]
    Connection(String),
}

/// Serves one client until its input ends or `stop` fires.
///
/// # Errors
///
/// A [`WorkerError`]; the end of the input is none.
pub async fn serve(
    options: Options,
    input: impl AsyncRead + Unpin + Send + 'static,
    output: impl AsyncWrite + Send + 'static,
    stop: CancellationToken,
) -> Result<(), WorkerError> {
    let store = Store::open(&options.data_directory).map_err(|source| WorkerError::Directory {
        path: options.data_directory.clone(),
        source,
    })?;
    let engine = match options.engine {
        EngineOptions::Echo => Engine::Echo,
        EngineOptions::OpenAi(options) => {
            let model = Model::new(options);
            Engine::OpenAi(model.map_err(WorkerError::Http)?)
        }
    };
    let worker = Worker::new(engine, store);
    let (incoming, outgoing) = lines::lines(input, output);
    let served = serving::serve(Arc::new(worker.clone()), incoming, outgoing, stop).await;
    worker.end().await;
    served.map_err(|error| WorkerError::Connection(error.to_string()))
}
