//! Runs a program in the terminal of this process, for a person to talk to.
//!
//! It stays in our process group, because a terminal talks to one group only and its Ctrl-C must
//! reach both. So it is not tied to our life as other programs are: the terminal's end is its own.

use std::process::Stdio;

use crate::error::SpawnError;
use crate::exit::Exit;
use crate::program::Program;

impl Program {
    /// Starts it with the standard streams of this process and waits for its end.
    ///
    /// Cancel safe: dropping the future kills the program, though not what it started.
    ///
    /// # Errors
    ///
    /// A [`SpawnError`] that says what to do about it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), agentbus_process::SpawnError> {
    /// use agentbus_process::{Exit, Program};
    ///
    /// let exit = Program::new("sh").args(["-c", "exit 3"]).attended().await?;
    /// assert_eq!(exit, Exit::Code(3));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn attended(&self) -> Result<Exit, SpawnError> {
        let mut command = tokio::process::Command::from(self.bare_command());
        command
            .stdin(Stdio::inherit())
            .stdout(Stdio::inherit())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        let ended = command.status().await;
        Ok(Exit::from(ended.map_err(|error| self.failed(error))?))
    }
}
