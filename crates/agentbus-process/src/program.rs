//! What to run.

use std::ffi::{OsStr, OsString};
use std::io;
use std::process::Stdio;

use tokio::process::Command;

use crate::Process;

/// A program and its arguments.
#[derive(Debug, Clone)]
pub struct Program {
    name: OsString,
    arguments: Vec<OsString>,
    set: Vec<(OsString, OsString)>,
    removed: Vec<OsString>,
}

/// Tells why a program could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// There is no such program.
    #[error("there is no program `{0}`; is it installed, and is its directory in PATH?")]
    NotFound(String),
    /// The file is there but may not be run.
    #[error("`{0}` may not be run; make it executable with `chmod +x`")]
    NotExecutable(String),
    /// The system has no room for another process.
    #[error("the system takes no more processes at the moment: {0}")]
    TooMany(io::Error),
    /// Something else.
    #[error("`{program}` cannot be started: {source}")]
    Other {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
}

impl Program {
    /// Names a program; a name without a slash is looked up in `PATH`.
    #[must_use]
    pub fn new(name: impl Into<OsString>) -> Self {
        Self {
            name: name.into(),
            arguments: Vec::new(),
            set: Vec::new(),
            removed: Vec::new(),
        }
    }

    /// Takes an argument vector apart; `None` when it is empty.
    #[must_use]
    pub fn from_argv(argv: &[OsString]) -> Option<Self> {
        let (name, arguments) = argv.split_first()?;
        Some(Self {
            arguments: arguments.to_vec(),
            ..Self::new(name)
        })
    }

    /// Adds an argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets an environment variable; the rest of ours is inherited.
    #[must_use]
    pub fn variable(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.set.push((name.into(), value.into()));
        self
    }

    /// Withholds an environment variable of ours.
    #[must_use]
    pub fn without_variable(mut self, name: impl Into<OsString>) -> Self {
        self.removed.push(name.into());
        self
    }

    /// The program's name for people.
    #[must_use]
    pub fn display(&self) -> String {
        OsStr::to_string_lossy(&self.name).into_owned()
    }

    /// Starts the program. Needs a tokio runtime.
    ///
    /// # Errors
    /// Fails with a sentence that says what to do.
    pub fn start(&self) -> Result<Process, SpawnError> {
        let mut command = Command::new(&self.name);
        command
            .args(&self.arguments)
            .envs(self.set.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, whose number is the program's own.
            .process_group(0);
        for name in &self.removed {
            command.env_remove(name);
        }
        let child = command.spawn().map_err(|error| self.explain(error))?;
        Ok(Process::new(self.display(), child))
    }

    fn explain(&self, source: io::Error) -> SpawnError {
        let program = self.display();
        match source.kind() {
            io::ErrorKind::NotFound => SpawnError::NotFound(program),
            io::ErrorKind::PermissionDenied => SpawnError::NotExecutable(program),
            io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => SpawnError::TooMany(source),
            _ => SpawnError::Other { program, source },
        }
    }
}
