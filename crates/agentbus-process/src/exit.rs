//! How a program ended.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// The way a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It returned this code; 0 is success.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
    /// Something else in this process collected its status, so nobody knows.
    Unknown,
}

/// How a program ended, and the last it said about it.
///
/// ```
/// use agentbus_process::{Exit, ExitOutcome};
///
/// let outcome = ExitOutcome { exit: Exit::Code(3), stderr_tail: vec!["no model".into()] };
/// assert!(!outcome.success());
/// assert_eq!(outcome.to_string(), "exit code 3: no model");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitOutcome {
    /// The way it ended.
    pub exit: Exit,
    /// Last lines of its standard error, oldest first.
    pub stderr_tail: Vec<String>,
}

impl ExitOutcome {
    /// Tells whether the program returned 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.exit == Exit::Code(0)
    }

    /// Returns the last line of standard error that is not blank.
    #[must_use]
    pub fn last_stderr_line(&self) -> Option<&str> {
        self.stderr_tail
            .iter()
            .rev()
            .map(|line| line.trim())
            .find(|line| !line.is_empty())
    }
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Unknown,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::Unknown => f.write_str("unknown exit"),
        }
    }
}

impl fmt::Display for ExitOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.exit.fmt(f)?;
        match self.last_stderr_line() {
            Some(line) => write!(f, ": {line}"),
            None => Ok(()),
        }
    }
}
