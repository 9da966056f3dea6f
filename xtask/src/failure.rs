//! The one error of the tooling: a sentence for the person at the terminal.
//!
//! Nothing here is matched on by a caller, so there are no variants; a check with several findings
//! joins them into one failure, a line each.

use std::fmt;
use std::path::Path;

/// Why a command did not succeed, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure(String);

impl Failure {
    /// Wraps a sentence that says what is wrong and what to do next.
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }

    /// Says that a file or folder could not be read.
    pub(crate) fn read(path: &Path, error: &std::io::Error) -> Self {
        Self(format!("cannot read {}: {error}", path.display()))
    }

    /// Succeeds when nothing was found; otherwise lists the findings under a title.
    pub(crate) fn unless_empty(title: &str, findings: &[String]) -> Result<(), Self> {
        if findings.is_empty() {
            return Ok(());
        }
        Err(Self(format!("{title}:\n  {}", findings.join("\n  "))))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}
