//! What SQLite says, in our words.

use rusqlite::{ErrorCode, ffi};

use crate::store::StoreError;

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let reason = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked,
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::SystemIoFailure) if is_write(&error) => Self::Unwritable { reason },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged { reason },
            _ => Self::Failed(reason),
        }
    }
}

/// Whether it was a write that failed: also a quota that is used up, and a file that may not grow,
/// are told like this.
fn is_write(error: &rusqlite::Error) -> bool {
    let writes = [
        ffi::SQLITE_IOERR_WRITE,
        ffi::SQLITE_IOERR_FSYNC,
        ffi::SQLITE_IOERR_DIR_FSYNC,
        ffi::SQLITE_IOERR_TRUNCATE,
        ffi::SQLITE_IOERR_SHMSIZE,
    ];
    let code = error.sqlite_extended_error_code();
    code.is_some_and(|code| writes.contains(&code))
}
