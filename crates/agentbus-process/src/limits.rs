//! Every limit of this crate, with its reason.
//!
//! [`Limits`] holds those that a caller may set per program; the constants are their
//! defaults, and the few that nobody has a reason to change.

use std::time::Duration;

/// Bounds one line of a program's standard output: 4 MiB.
///
/// A line is one message, so this is the largest message a program can send. A longer line is
/// an error: half a JSON document is worse than none.
pub const LINE_BYTES: usize = 4 * 1024 * 1024;

/// Bounds the whole standard output that [`Program::run`](crate::Program::run) collects: 4 MiB.
///
/// It is one reply, held in memory for every call in flight.
pub const OUTPUT_BYTES: usize = 4 * 1024 * 1024;

/// Bounds the lines of standard error that are kept: 64.
///
/// Enough for a stack trace, which is what explains an exit.
pub const STDERR_LINES: usize = 64;

/// Bounds one kept line of standard error: 4 KiB, the rest of the line is dropped.
///
/// Diagnostics are for a reader; with [`STDERR_LINES`] a program costs at most 256 KiB here.
pub const STDERR_LINE_BYTES: usize = 4 * 1024;

/// Bounds how long pipes may stay open after the program has exited: 250 ms.
///
/// Long enough for a filter at the end of a pipeline to flush, short enough that nobody takes
/// a forgotten background job for a hanging call.
pub const PIPE_GRACE: Duration = Duration::from_millis(250);

/// Bounds what is still read once the group has been killed: 1 MiB.
///
/// The most an unprivileged process can make a pipe hold, so nothing the group wrote is lost;
/// a process that escaped from the group and writes for ever is cut off.
pub const AFTER_KILL_BYTES: usize = 1024 * 1024;

/// Bounds the programs that wait for the spawner thread: 64.
///
/// A fork takes about a millisecond; callers beyond this wait in line, and none is refused.
pub const SPAWN_QUEUE: usize = 64;

/// Size of one read from a pipe: 16 KiB.
///
/// A quarter of a pipe's usual capacity: few system calls, little idle memory per program.
pub const READ_BYTES: usize = 16 * 1024;

/// Lowest number of the descriptor that ties a program to this process: 200.
///
/// Shell scripts use single digits and 10 to 20, and Node.js marks the low numbers
/// close-on-exec; above them the descriptor reaches grandchildren undisturbed.
pub const LEASH_DESCRIPTOR: i32 = 200;

/// Limits a caller may set for one program.
///
/// ```
/// use agentbus_process::{Limits, Program};
///
/// let terse = Limits { output_bytes: 1024, ..Limits::default() };
/// let program = Program::new("cat").limits(terse);
/// # drop(program);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest line of standard output. See [`LINE_BYTES`].
    pub line_bytes: usize,
    /// Most standard output that a run collects. See [`OUTPUT_BYTES`].
    pub output_bytes: usize,
    /// Most lines of standard error that are kept. See [`STDERR_LINES`].
    pub stderr_lines: usize,
    /// Most bytes of one line of standard error. See [`STDERR_LINE_BYTES`].
    pub stderr_line_bytes: usize,
    /// Time from the program's exit to the kill of what it left behind. See [`PIPE_GRACE`].
    pub pipe_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line_bytes: LINE_BYTES,
            output_bytes: OUTPUT_BYTES,
            stderr_lines: STDERR_LINES,
            stderr_line_bytes: STDERR_LINE_BYTES,
            pipe_grace: PIPE_GRACE,
        }
    }
}
