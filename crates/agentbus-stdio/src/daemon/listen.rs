//! Where clients come from.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags};
use tokio::net::{TcpListener, UnixListener};

use crate::limits::SOCKET_PATH_BYTES_MAX;

/// Where a daemon takes its clients from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// One client: standard input and output.
    Stdio,
    /// A Unix socket at this path.
    Unix(PathBuf),
    /// A TCP port; an empty host is all interfaces.
    Tcp {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
    },
}

/// Why no client can be taken.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process serves the socket.
    #[error("another process listens on {0}; stop it, or choose another path")]
    Taken(PathBuf),
    /// Something that is no socket stands at the path.
    #[error("{0} exists and is no socket; remove it, or choose another path")]
    NotASocket(PathBuf),
    /// The kernel has no room for such a path.
    #[error("{0} is longer than {SOCKET_PATH_BYTES_MAX} bytes, which no socket's path may be")]
    TooLong(PathBuf),
    /// The system refuses.
    #[error("cannot listen on {place}: {source}")]
    Failed {
        /// Where.
        place: String,
        /// Why.
        source: io::Error,
    },
}

impl Listen {
    /// Reads `HOST:PORT`, where the host may be empty, a name, or an address, IPv6 in brackets.
    #[must_use]
    pub fn tcp(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port > 0)?;
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        Some(Self::Tcp { host, port })
    }
}

/// An open place.
#[derive(Debug)]
pub(super) enum Listener {
    Unix(UnixListener, PathBuf),
    Tcp(TcpListener),
}

impl Listener {
    /// Opens the place; `None` for standard input and output, which is open.
    pub(super) async fn open(listen: &Listen) -> Result<Option<Self>, ListenError> {
        match listen {
            Listen::Stdio => Ok(None),
            Listen::Unix(path) => Ok(Some(unix(path)?)),
            Listen::Tcp { host, port } => {
                let host = if host.is_empty() { "0.0.0.0" } else { host };
                let opened = TcpListener::bind((host, *port)).await;
                let failed = |source| ListenError::Failed {
                    place: format!("{host}:{port}"),
                    source,
                };
                Ok(Some(Self::Tcp(opened.map_err(failed)?)))
            }
        }
    }

    /// Takes the next client's descriptor, which does not block.
    pub(super) async fn accept(&self) -> io::Result<Arc<OwnedFd>> {
        let fd: OwnedFd = match self {
            Self::Unix(listener, _) => listener.accept().await?.0.into_std()?.into(),
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                stream.into_std()?.into()
            }
        };
        Ok(Arc::new(fd))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // Somebody may have removed it already.
            let _ = fs::remove_file(path);
        }
    }
}

/// Opens a Unix socket that only this user can reach. A socket that nobody serves is replaced.
fn unix(path: &Path) -> Result<Listener, ListenError> {
    if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        return Err(ListenError::TooLong(path.to_owned()));
    }
    let failed = |source| ListenError::Failed {
        place: path.display().to_string(),
        source,
    };
    if let Ok(present) = fs::symlink_metadata(path) {
        if !present.file_type().is_socket() {
            return Err(ListenError::NotASocket(path.to_owned()));
        }
        match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(failed)?;
            }
            _ => return Err(ListenError::Taken(path.to_owned())),
        }
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(Listener::Unix(listener, path.to_owned()))
}

/// Standard input and output as descriptors that do not block.
pub(super) fn stdio() -> io::Result<(Arc<OwnedFd>, Arc<OwnedFd>)> {
    let input = unblocked(io::stdin().as_fd().try_clone_to_owned()?, OFlags::RDONLY)?;
    let output = unblocked(io::stdout().as_fd().try_clone_to_owned()?, OFlags::WRONLY)?;
    Ok((Arc::new(pollable(input)?), Arc::new(output)))
}

/// Makes a descriptor that does not block. A pipe is opened anew, because the flag belongs to all
/// who share the old one, such as the shell that we were started from.
fn unblocked(fd: OwnedFd, mode: OFlags) -> io::Result<OwnedFd> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
    if kind == FileType::Fifo || kind == FileType::CharacterDevice {
        let own = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
        let flags = mode | OFlags::NONBLOCK | OFlags::CLOEXEC;
        if let Ok(fresh) = rustix::fs::open(own, flags, Mode::empty()) {
            return Ok(fresh);
        }
    }
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
    Ok(fd)
}

/// A file or `/dev/null` cannot be waited for; a thread copies it into a pipe, which can.
fn pollable(fd: OwnedFd) -> io::Result<OwnedFd> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
    let waitable = matches!(kind, FileType::Fifo | FileType::Socket)
        || (kind == FileType::CharacterDevice && rustix::termios::isatty(&fd));
    if waitable {
        return Ok(fd);
    }
    let (reader, mut writer) = io::pipe()?;
    let mut file = fs::File::from(fd);
    std::thread::Builder::new()
        .name("agentbus-stdin".to_owned())
        .spawn(move || io::copy(&mut file, &mut writer))?;
    let reader = OwnedFd::from(reader);
    rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK)?;
    Ok(reader)
}
