//! Starts a program by argv in its own process group and never leaves one behind.
//!
//! A [`Program`] says what to run; [`Program::run`] feeds it once and returns its output,
//! [`Program::spawn`] hands out a living [`Process`] with its pipes, [`Program::attended`] runs it
//! in our own terminal.
//!
//! It promises:
//!
//! - argv only, never a shell;
//! - dropping a [`Process`], or a future that owns one, kills its whole process group at once;
//! - a program's exit ends what it started: stragglers of the group are killed after
//!   [`Limits::pipe_grace`], so no wait hangs on a pipe that a grandchild keeps open;
//! - no zombie, descriptor, thread or task is left over per program;
//! - on Linux the group dies with this process, even when that is killed by SIGKILL.
//!
//! It does not restart anything, speak any protocol, or confine what a program may do.
//!
//! The surprising invariant: **every fork happens on one thread that never ends.** See
//! `spawner.rs` for why a short-lived thread would kill its programs.
//!
//! # What escapes
//!
//! A grandchild that leaves the process group (`setsid`, an interactive shell's job control)
//! is out of reach: nothing here kills it. It cannot hang a call either.
//!
//! When this process is killed by SIGKILL, on Linux, two mechanisms reach the group, and
//! `parent_death.rs` explains both. A gap remains: a grandchild that closed the inherited
//! descriptors survives if its parent, the direct child, had closed them too, or if the direct
//! child is gone before the kernel has closed ours. A set-user-id program is not ours to kill.
//! Elsewhere than on Linux nothing kills the group after a SIGKILL of this process, and on
//! Linux processors other than x86-64, AArch64 and RISC-V only the direct child is killed.
#![cfg(unix)]

mod attended;
mod error;
mod exit;
#[cfg(target_os = "linux")]
mod footprint;
mod group;
pub mod limits;
mod lines;
mod parent_death;
mod pipe;
mod process;
mod program;
mod run;
mod spawner;
mod stderr;

pub use error::{EmptyArgv, LineError, RunError, SpawnError};
pub use exit::{Exit, ExitOutcome};
#[cfg(target_os = "linux")]
pub use footprint::unmap_program;
pub use limits::Limits;
pub use lines::Lines;
pub use pipe::{Stdout, StdoutMark};
pub use process::{Process, Stdin};
pub use program::Program;
pub use run::Output;
