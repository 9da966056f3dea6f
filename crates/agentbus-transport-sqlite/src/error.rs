//! SQLite's errors in our words.

use std::path::Path;

use agentbus_transport::TransportError;
use rusqlite::ErrorCode;

use crate::transport::NAME;

pub(crate) fn carrier(reason: String) -> TransportError {
    TransportError::Carrier {
        transport: NAME,
        reason,
    }
}

/// Explains why the log could not be read or written.
pub(crate) fn explain(path: &Path, error: &rusqlite::Error) -> TransportError {
    let place = path.display().to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => carrier(format!(
            "cannot write {place}: the disk is full; free some space and publish again, what was acknowledged is safe"
        )),
        Some(ErrorCode::DatabaseCorrupt) => damaged(path, &error.to_string()),
        Some(ErrorCode::NotADatabase) => TransportError::Damaged {
            place,
            reason: "it is no SQLite file, or its first page is gone; name another file, or put a copy in its place".to_owned(),
        },
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            carrier(format!(
                "cannot open {place}: {error}; the log needs a directory that exists and that this user may write to"
            ))
        }
        _ => carrier(format!("{place}: {error}")),
    }
}

pub(crate) fn damaged(path: &Path, found: &str) -> TransportError {
    TransportError::Damaged {
        place: path.display().to_string(),
        reason: format!(
            "{found}; stop every process that uses it, keep a copy, and recover what can be read with `sqlite3 FILE .recover`"
        ),
    }
}
