//! One process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use agentbus_transport::TransportError;

use crate::error::carrier;

/// The lock of a log, held until dropped; the system releases it with the process.
///
/// It is a file beside the log and not the log itself: to close any descriptor of a file drops all
/// locks that SQLite holds on it in this process.
#[derive(Debug)]
pub(crate) struct Lock(#[allow(dead_code, reason = "held, not used")] File);

impl Lock {
    pub(crate) fn take(log: &Path) -> Result<Self, TransportError> {
        let path = beside(log);
        let opened = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path);
        let mut file = opened.map_err(|error| {
            carrier(format!(
                "cannot write {}: {error}; the log needs a directory that exists and that this user may write to",
                path.display()
            ))
        })?;
        match file.try_lock() {
            Ok(()) => {
                note_holder(&mut file);
                Ok(Self(file))
            }
            Err(TryLockError::WouldBlock) => Err(TransportError::InUse {
                place: log.display().to_string(),
                holder: holder(&mut file),
            }),
            Err(TryLockError::Error(error)) => Err(carrier(format!(
                "cannot lock {}: {error}; the log needs a file system with locks",
                path.display()
            ))),
        }
    }
}

fn beside(log: &Path) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push("-lock");
    name.into()
}

/// Leaves our number for the one who comes second. Without it the refusal only says less.
fn note_holder(file: &mut File) {
    let number = std::process::id().to_string();
    let _ = file
        .set_len(0)
        .and_then(|()| file.write_all(number.as_bytes()));
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(number)) if number == std::process::id() => "this very process".to_owned(),
        (Ok(_), Ok(number)) => format!("process {number}"),
        _ => "another process".to_owned(),
    }
}
