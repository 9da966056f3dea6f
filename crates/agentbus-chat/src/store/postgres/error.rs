//! What PostgreSQL says, in our words.

use std::error::Error;

use postgres::error::SqlState;

use crate::store::StoreError;

impl From<postgres::Error> for StoreError {
    fn from(error: postgres::Error) -> Self {
        let Some(said) = error.as_db_error() else {
            return if error.is_closed() || io_cause(&error).is_some() {
                Self::Unreachable(told(&error))
            } else {
                Self::Failed(told(&error))
            };
        };
        let (code, reason) = (said.code(), said.message().to_owned());
        if *code == SqlState::DISK_FULL {
            Self::Full
        } else if *code == SqlState::CHARACTER_NOT_IN_REPERTOIRE
            || *code == SqlState::UNTRANSLATABLE_CHARACTER
        {
            Self::Unstorable
        } else if *code == SqlState::LOCK_NOT_AVAILABLE || *code == SqlState::T_R_DEADLOCK_DETECTED
        {
            Self::Busy
        } else if ["08", "28", "3D", "53", "57"].contains(&class(code)) {
            Self::Unreachable(reason)
        } else if class(code) == "XX" {
            Self::Damaged { reason }
        } else {
            Self::Failed(reason)
        }
    }
}

/// The first two characters of a code say what kind of trouble it is.
fn class(code: &SqlState) -> &str {
    code.code().get(..2).unwrap_or_default()
}

/// The failed read or write behind an error.
pub(super) fn io_cause(error: &postgres::Error) -> Option<&std::io::Error> {
    let mut cause = error.source();
    while let Some(this) = cause {
        if let Some(io) = this.downcast_ref() {
            return Some(io);
        }
        cause = this.source();
    }
    None
}

/// An error with its causes, which it does not tell by itself.
pub(super) fn told(error: &postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(this) = cause {
        text = format!("{text}: {this}");
        cause = this.source();
    }
    text
}
