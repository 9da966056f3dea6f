//! What can go wrong between an argv and its output, in sentences that say what to do next.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use rustix::io::Errno;
use thiserror::Error;

/// An argv without a program name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("there is no program to start: give its name as the first argument")]
pub struct EmptyArgv;

/// Why a program did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// Neither the name nor, for a script, its interpreter leads to a file.
    #[error(
        "there is no program {program:?}: check its spelling and PATH, or give its full path; \
         if it is a script, check the interpreter that its first line names"
    )]
    NotFound {
        /// Program name as it was given.
        program: String,
    },
    /// The file is there but this user may not execute it.
    #[error("the program {program:?} may not be executed: make it executable with chmod +x")]
    PermissionDenied {
        /// Program name as it was given.
        program: String,
    },
    /// The directory to start in cannot be entered.
    #[error("cannot start {program:?} in {}: create the directory or name another", directory.display())]
    Directory {
        /// Program name as it was given.
        program: String,
        /// Directory the program was to start in.
        directory: PathBuf,
        /// What the system says about that directory.
        source: io::Error,
    },
    /// The user or the system has no room for another process.
    #[error(
        "no room for another process to start {program:?}: \
         run fewer programs at once, or raise the limit that ulimit -u shows"
    )]
    TooManyProcesses {
        /// Program name as it was given.
        program: String,
    },
    /// This process or the system has no descriptor left for the pipes.
    #[error(
        "no room for the pipes of {program:?}: \
         run fewer programs at once, or raise the limit that ulimit -n shows"
    )]
    TooManyOpenFiles {
        /// Program name as it was given.
        program: String,
    },
    /// Anything else the system had to say.
    #[error("cannot start the program {program:?}: {source}")]
    Other {
        /// Program name as it was given.
        program: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Why [`Program::run`](crate::Program::run) returned no output.
///
/// A program that ran and failed is not one of these: its
/// [`ExitOutcome`](crate::ExitOutcome) says so.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// The program did not start.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The program wrote more than one reply may hold, and was killed.
    #[error(
        "the program {program:?} wrote more than {limit} bytes and was stopped: \
         let it write less, stream its lines, or raise the output limit"
    )]
    OutputTooLarge {
        /// Program name as it was given.
        program: String,
        /// Limit it went over, in bytes.
        limit: usize,
    },
    /// A pipe to or from the program failed.
    #[error("lost the connection to the program {program:?}: {source}")]
    Pipe {
        /// Program name as it was given.
        program: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Why there is no next line.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LineError {
    /// A line is longer than allowed; nothing of it is handed out, and no line follows.
    #[error(
        "the program wrote a line of more than {limit} bytes: \
         let it write shorter lines or raise the line limit"
    )]
    TooLong {
        /// Limit the line went over, in bytes.
        limit: usize,
    },
    /// The pipe failed.
    #[error("cannot read what the program writes: {0}")]
    Read(#[from] io::Error),
}

impl SpawnError {
    /// Tells whether the same program may start later without a change to it.
    ///
    /// ```
    /// use agentbus_process::SpawnError;
    ///
    /// let missing = SpawnError::NotFound { program: "cta".to_owned() };
    /// assert!(!missing.is_retryable());
    /// ```
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::TooManyProcesses { .. } | Self::TooManyOpenFiles { .. }
        )
    }

    /// Gives the system's answer to a fork, chdir or exec its meaning.
    pub(crate) fn classify(program: &OsStr, directory: Option<&Path>, source: io::Error) -> Self {
        let program = program.to_string_lossy().into_owned();
        // The system reports a failed chdir and a failed exec alike; only a look tells which.
        // The dot makes a file in the directory's place fail too.
        if let Some(directory) = directory
            && let Err(error) = rustix::fs::access(directory.join("."), Access::EXEC_OK)
        {
            let (directory, source) = (directory.to_owned(), error.into());
            return Self::Directory {
                program,
                directory,
                source,
            };
        }
        match Errno::from_io_error(&source) {
            Some(Errno::NOENT | Errno::NOTDIR) => Self::NotFound { program },
            Some(Errno::ACCESS | Errno::PERM) => Self::PermissionDenied { program },
            Some(Errno::AGAIN | Errno::NOMEM) => Self::TooManyProcesses { program },
            Some(Errno::MFILE | Errno::NFILE) => Self::TooManyOpenFiles { program },
            _ => Self::Other { program, source },
        }
    }
}
