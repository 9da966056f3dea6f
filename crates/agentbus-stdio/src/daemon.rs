//! The stdio process bus as a program: one endpoint, one configuration, until a signal or the
//! end of its input.

use std::io;
use std::path::PathBuf;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::Config;
use crate::driver::listen::{self, ListenError, UnixSocket};
use crate::driver::reap::Reaper;
use crate::driver::standard::Standard;
use crate::pools::Pools;

/// Descriptors that the bus asks for, if it may have as many.
const DESCRIPTORS: u64 = 65_536;

/// Where clients are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// At our own standard input and output.
    Stdio,
    /// At a Unix socket.
    Unix(PathBuf),
    /// At a TCP port.
    Tcp {
        /// Name or address; empty means all addresses.
        host: String,
        /// Port.
        port: u16,
    },
}

/// Why the bus did not run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// It cannot listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Standard input or output cannot be used.
    #[error("cannot use standard input and output: {0}")]
    Standard(io::Error),
    /// Signals cannot be received.
    #[error("cannot receive signals: {0}")]
    Signals(io::Error),
}

/// An endpoint that is open, but not served yet.
enum Open {
    Stdio(Standard),
    Unix(UnixSocket),
    Tcp(TcpListener),
}

struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Runs a bus until it is told to stop, or until the client at standard input is done.
///
/// The first signal finishes what is under way, a second one ends at once. When this returns, no
/// worker is left. It inherits and kills orphans of its workers, so run it in a process of its
/// own; to embed a bus, use [`Pools`].
///
/// # Errors
///
/// A [`DaemonError`] if the endpoint cannot be opened; no worker was started then.
pub async fn run(config: Config, endpoint: Endpoint) -> Result<(), DaemonError> {
    let mut stop = Stop::listen().map_err(DaemonError::Signals)?;
    raise_descriptor_limit();
    let open = open(endpoint).await?;
    // Told from before there can be orphans.
    let ended = signal(SignalKind::child()).map_err(DaemonError::Signals)?;
    let reaper = Reaper::begin();
    let pools = Pools::start(config).await;
    pools.bury_orphans(reaper, ended);
    let served = serve(&pools, open, &mut stop).await;
    tracing::info!("stopping: finishing what was accepted");
    tokio::select! {
        () = pools.shutdown() => {}
        () = stop.asked() => {
            tracing::warn!("stopping at once");
            pools.abort().await;
        }
    }
    Reaper::end();
    if let Some(standard) = served {
        standard.give_back();
    }
    Ok(())
}

async fn open(endpoint: Endpoint) -> Result<Open, DaemonError> {
    match endpoint {
        Endpoint::Stdio => Standard::take()
            .map(Open::Stdio)
            .map_err(DaemonError::Standard),
        Endpoint::Unix(path) => Ok(Open::Unix(listen::bind_unix(&path)?)),
        Endpoint::Tcp { host, port } => Ok(Open::Tcp(listen::bind_tcp(&host, port).await?)),
    }
}

/// Serves until there is a reason to stop.
async fn serve(pools: &Pools, open: Open, stop: &mut Stop) -> Option<Standard> {
    match open {
        Open::Stdio(standard) => {
            let served = pools.serve_standard(&standard);
            tokio::select! {
                _ = served => {}
                () = stop.asked() => {}
            }
            return Some(standard);
        }
        Open::Unix(socket) => pools.accept_unix(socket),
        Open::Tcp(listener) => match pools.accept_tcp(listener) {
            Ok(address) => tracing::info!(%address, "listening"),
            Err(error) => tracing::error!(%error, "the listener has no address"),
        },
    }
    stop.asked().await;
    None
}

/// Asks for room for many clients. Workers inherit it; the hard limit stays as it is.
fn raise_descriptor_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(DESCRIPTORS, |maximum| maximum.min(DESCRIPTORS));
    if current.is_some_and(|current| current < wanted) {
        let raised = Rlimit {
            current: Some(wanted),
            maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!(%error, "the limit of descriptors stays as it is");
        }
    }
}
