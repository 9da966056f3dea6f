//! The data directory: its lock and its token.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::ServerError;
use crate::auth::{Secret, TOKEN_CHARS};

const TOKEN_FILE: &str = "token";
const LOCK_FILE: &str = "lock";

/// A directory that belongs to one bus at a time, and to no other user.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Held for as long as the bus lives; the system releases it with the process.
    _lock: File,
}

impl DataDir {
    /// Refuses a path where something else than a directory is, before anything is made in it.
    ///
    /// # Errors
    /// Fails when there is something, and it is no directory.
    pub fn check(path: &Path) -> Result<(), ServerError> {
        if path.exists() && !path.is_dir() {
            return Err(ServerError::NoDirectory {
                path: path.to_owned(),
            });
        }
        Ok(())
    }

    /// Opens the directory, makes it (mode 0700) if need be, and locks it.
    ///
    /// # Errors
    /// Fails when another bus holds the lock, when other users can look inside, when it is no
    /// directory, or when the system refuses.
    pub fn open(path: &Path) -> Result<Self, ServerError> {
        let failed = |source| ServerError::DataDir {
            path: path.to_owned(),
            source,
        };
        Self::check(path)?;
        if !path.exists() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(failed)?;
        }
        refuse_if_open(path)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join(LOCK_FILE))
            .map_err(failed)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(ServerError::Locked {
                path: path.to_owned(),
            }),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// The file that holds the token.
    #[must_use]
    pub fn token_path(&self) -> PathBuf {
        self.path.join(TOKEN_FILE)
    }

    /// Whether a text can be the token of a bus: nobody guesses a long one, and a header carries it.
    #[must_use]
    pub fn is_token(text: &str) -> bool {
        text.len() >= TOKEN_CHARS && text.bytes().all(|byte| byte.is_ascii_graphic())
    }

    /// Reads the token, or makes one (mode 0600) at first start.
    pub(crate) fn token(&self) -> Result<Secret, ServerError> {
        let path = self.token_path();
        let failed = |source| ServerError::DataDir {
            path: path.clone(),
            source,
        };
        match File::open(&path) {
            Ok(mut file) => {
                refuse_if_open(&path)?;
                let mut text = String::new();
                file.read_to_string(&mut text).map_err(failed)?;
                let token = text.trim();
                if Self::is_token(token) {
                    Ok(Secret::known(token))
                } else {
                    Err(ServerError::BadToken { path })
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let token = Secret::random();
                write_new(&path, token.expose()).map_err(failed)?;
                Ok(token)
            }
            Err(error) => Err(failed(error)),
        }
    }
}

/// Writes a file that no one else can read, whole or not at all.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let draft = path.with_extension("new");
    let _ = fs::remove_file(&draft);
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&draft)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::rename(draft, path)
}

fn refuse_if_open(path: &Path) -> Result<(), ServerError> {
    let failed = |source| ServerError::DataDir {
        path: path.to_owned(),
        source,
    };
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(ServerError::TooOpen {
            path: path.to_owned(),
        });
    }
    Ok(())
}
