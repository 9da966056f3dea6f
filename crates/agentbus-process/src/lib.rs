//! Runs programs and never leaves one behind.
//!
//! A program is started by its argument vector, never through a shell, in a process group of its
//! own. When the call that needs it is over, ends early or is dropped, the whole group is killed,
//! so that what the program started ends with it.
//!
//! What is *not* covered: when the bus itself is killed with SIGKILL, nothing of ours runs any
//! more. The program then reads the end of its standard input and gets a broken pipe on its
//! output, which ends most programs, but not one that looks at neither.

mod limits;
mod lines;
mod process;
mod program;
mod stderr;

pub use limits::{LINE_BYTES_MAX, OUTPUT_BYTES_MAX};
pub use lines::{LineError, Lines};
pub use process::{Exit, Process};
pub use program::{Program, SpawnError};
