//! Listeners: Unix sockets and TCP ports.
//!
//! A socket file that another bus serves is never taken over, and one that nobody serves any more
//! is removed. Anything that is not a socket is left alone.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::client::{Connection, serve};
use crate::core::ClientKind;

/// Pause after a connection could not be accepted, for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that may wait to be accepted; the system lowers it to its own limit.
const BACKLOG: i32 = 4096;

/// Longest path of a socket that the system takes.
const SOCKET_PATH_BYTES: usize = 107;

/// Why the bus does not listen.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Another process serves the socket.
    #[error("another process listens on {}: stop it, or use another path", path.display())]
    InUse {
        /// Path of the socket.
        path: PathBuf,
    },
    /// Something that is no socket is in the way.
    #[error("{} is there and is no socket: move it away, or use another path", path.display())]
    NotASocket {
        /// Path of the file.
        path: PathBuf,
    },
    /// The system takes no socket path of that length.
    #[error("the path {} is longer than {SOCKET_PATH_BYTES} bytes: use a shorter one", path.display())]
    PathTooLong {
        /// Path of the socket.
        path: PathBuf,
    },
    /// The host name leads nowhere.
    #[error("cannot find the host {host:?}: check its spelling, or give an address: {source}")]
    UnknownHost {
        /// Name as it was given.
        host: String,
        /// What the system said.
        source: io::Error,
    },
    /// Anything else the system had to say.
    #[error("cannot listen on {place}: {source}")]
    Bind {
        /// Path or address.
        place: String,
        /// What the system said.
        source: io::Error,
    },
}

/// A Unix socket of ours, removed with this.
#[derive(Debug)]
pub(crate) struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode, to never remove what another process has put there since.
    identity: Option<(u64, u64)>,
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Opens a Unix socket that only this user can reach, after removing a stale one.
pub(crate) fn bind_unix(path: &Path) -> Result<UnixSocket, ListenError> {
    let failed = |source| ListenError::Bind {
        place: path.display().to_string(),
        source,
    };
    if path.as_os_str().len() > SOCKET_PATH_BYTES {
        let path = path.to_owned();
        return Err(ListenError::PathTooLong { path });
    }
    remove_stale(path)?;
    let listener = private_listener(path).map_err(failed)?;
    Ok(UnixSocket {
        listener,
        path: path.to_owned(),
        identity: identity(path),
    })
}

/// Takes away the access of others before the first connection can be made.
fn private_listener(path: &Path) -> io::Result<UnixListener> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    rustix::net::listen(&socket, BACKLOG)?;
    UnixListener::from_std(socket.into())
}

fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        let path = path.to_owned();
        return Err(ListenError::NotASocket { path });
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|source| ListenError::Bind {
                place: path.display().to_string(),
                source,
            })
        }
        // It was removed since we looked.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Somebody accepts, or may not be asked: either way it is not ours to take.
        _ => Err(ListenError::InUse {
            path: path.to_owned(),
        }),
    }
}

/// Opens a TCP port on the first address of the host that can be had. An empty host means all.
pub(crate) async fn bind_tcp(host: &str, port: u16) -> Result<TcpListener, ListenError> {
    let place = format!("{host}:{port}");
    let name = match host {
        "" => "0.0.0.0",
        host => host.trim_start_matches('[').trim_end_matches(']'),
    };
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((name, port))
        .await
        .map_err(|source| ListenError::UnknownHost {
            host: name.to_owned(),
            source,
        })?
        .collect();
    match TcpListener::bind(addresses.as_slice()).await {
        Ok(listener) => Ok(listener),
        Err(source) => Err(ListenError::Bind { place, source }),
    }
}

/// Serves the connections of a Unix socket until `closed`.
pub(crate) async fn accept_unix(
    shared: Arc<Shared>,
    socket: UnixSocket,
    closed: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            accepted = socket.listener.accept() => accepted,
            () = closed.cancelled() => return,
        };
        let descriptor = accepted
            .and_then(|(stream, _)| stream.into_std())
            .map(OwnedFd::from);
        admit(&shared, descriptor).await;
    }
}

/// Serves the connections of a TCP port until `closed`.
pub(crate) async fn accept_tcp(
    shared: Arc<Shared>,
    listener: TcpListener,
    closed: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closed.cancelled() => return,
        };
        let descriptor = accepted.and_then(|(stream, _)| {
            // Lines are gathered before they are written; waiting for more only costs time.
            stream.set_nodelay(true)?;
            stream.into_std().map(OwnedFd::from)
        });
        admit(&shared, descriptor).await;
    }
}

async fn admit(shared: &Arc<Shared>, descriptor: io::Result<OwnedFd>) {
    match descriptor {
        Ok(descriptor) => {
            let descriptor = Arc::new(descriptor);
            let connection = Connection {
                reader: Arc::clone(&descriptor),
                writer: descriptor,
                kind: ClientKind::Wire,
                framing: shared.framing,
            };
            drop(spawn(shared, connection));
        }
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

/// Serves a connection in a task of its own, which ends with the bus.
pub(crate) fn spawn(shared: &Arc<Shared>, connection: Connection) -> JoinHandle<()> {
    let (over, task) = (shared.over.clone(), Arc::clone(shared));
    shared.tasks.spawn(async move {
        tokio::select! {
            biased;
            () = over.cancelled() => {}
            () = serve(task, connection) => {}
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_for_its_user_alone_and_goes_with_the_bus() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let socket = bind_unix(&path).unwrap();
        let mode = std::fs::symlink_metadata(&path)
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(bind_unix(&path), Err(ListenError::InUse { .. })));
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_another_put_there_since_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let socket = bind_unix(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "theirs").unwrap();
        drop(socket);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "theirs");
    }
}
