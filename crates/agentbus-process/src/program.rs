//! Says what to run: argv, environment, directory and limits.
//!
//! It promises that argv reaches the program as given; no shell ever reads it. It does not
//! look at the file system: a missing program shows when it is started.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::error::{EmptyArgv, SpawnError};
use crate::limits::Limits;
use crate::process::Process;

/// Environment variables that never reach a program: they are credentials of this process, or URLs
/// that may hold some.
pub(crate) const WITHHELD: &[&str] = &[
    "AGENTBUS_CHAT_STORE",
    "AGENTBUS_TOKEN",
    "AGENTBUS_TRANSPORT",
    "AGENTCHATBUS_ADMIN_TOKEN",
    "PGPASSWORD",
];

/// Gets each line of a program's standard error.
pub(crate) type OnStderr = Arc<dyn Fn(&str) + Send + Sync>;

/// A program to run, as often as wanted.
///
/// It inherits the environment of this process except the credentials of the bus, which it never
/// gets, and the names passed to [`withhold`](Self::withhold).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agentbus_process::Program;
///
/// let output = Program::new("tr").args(["a-z", "A-Z"]).run("hello".into()).await?;
/// assert_eq!(output.stdout, "HELLO");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Program {
    name: OsString,
    args: Vec<OsString>,
    additions: BTreeMap<OsString, OsString>,
    withheld: BTreeSet<OsString>,
    directory: Option<PathBuf>,
    limits: Limits,
    on_stderr: Option<OnStderr>,
}

impl Program {
    /// Names a program, by path or as found on PATH.
    pub fn new(name: impl Into<OsString>) -> Self {
        Self {
            name: name.into(),
            args: Vec::new(),
            additions: BTreeMap::new(),
            withheld: WITHHELD.iter().map(OsString::from).collect(),
            directory: None,
            limits: Limits::default(),
            on_stderr: None,
        }
    }

    /// Takes a whole argv, such as what a user wrote after `--`.
    ///
    /// # Errors
    ///
    /// [`EmptyArgv`] if it names no program.
    ///
    /// ```
    /// use agentbus_process::Program;
    ///
    /// assert!(Program::from_argv(vec!["cat".into(), "-n".into()]).is_ok());
    /// assert!(Program::from_argv(vec![]).is_err());
    /// ```
    pub fn from_argv(argv: Vec<OsString>) -> Result<Self, EmptyArgv> {
        let mut argv = argv.into_iter();
        let name = argv
            .next()
            .filter(|name| !name.is_empty())
            .ok_or(EmptyArgv)?;
        Ok(Self::new(name).args(argv))
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable; a withheld name stays withheld.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.additions.insert(name.into(), value.into());
        self
    }

    /// Keeps an environment variable from the program, whoever sets it.
    #[must_use]
    pub fn withhold(mut self, name: impl Into<OsString>) -> Self {
        self.withheld.insert(name.into());
        self
    }

    /// Sets the directory to start in, otherwise that of this process.
    #[must_use]
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Sets the limits, otherwise [`Limits::default`].
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Calls `report` with each line of standard error, besides tracing it.
    ///
    /// It runs on the task that watches the program, so it must not block.
    #[must_use]
    pub fn on_stderr(mut self, report: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.on_stderr = Some(Arc::new(report));
        self
    }

    /// Returns the name as it was given.
    #[must_use]
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// Starts it, with pipes to all three standard streams.
    ///
    /// Needs a tokio runtime with I/O and time enabled. Cancel safe: a program whose start is
    /// abandoned is killed.
    ///
    /// # Errors
    ///
    /// A [`SpawnError`] that says what to do about it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agentbus_process::Program;
    ///
    /// let mut process = Program::new("printf").arg("one\ntwo\n").spawn().await?;
    /// let mut lines = process.take_stdout().ok_or("taken")?.lines();
    /// assert_eq!(lines.next().await?.as_deref(), Some(&b"one"[..]));
    /// assert_eq!(lines.next().await?.as_deref(), Some(&b"two"[..]));
    /// assert!(process.wait().await.success());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn spawn(&self) -> Result<Process, SpawnError> {
        Process::start(
            self.command(),
            self.display_name(),
            self.limits,
            self.on_stderr.clone(),
        )
        .await
        .map_err(|error| self.failed(error))
    }

    pub(crate) fn failed(&self, error: std::io::Error) -> SpawnError {
        SpawnError::classify(&self.name, self.directory.as_deref(), error)
    }

    pub(crate) fn display_name(&self) -> String {
        self.name.to_string_lossy().into_owned()
    }

    pub(crate) fn output_bytes(&self) -> usize {
        self.limits.output_bytes
    }

    fn command(&self) -> Command {
        let mut command = self.bare_command();
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        command
    }

    /// The command without its streams.
    pub(crate) fn bare_command(&self) -> Command {
        let mut command = Command::new(&self.name);
        command.args(&self.args).envs(&self.additions);
        // After the additions, so that withheld wins.
        for name in &self.withheld {
            command.env_remove(name);
        }
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command
    }
}

impl fmt::Debug for Program {
    // Arguments and environment may hold secrets, and Debug output ends up in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("name", &self.name)
            .field("directory", &self.directory)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
