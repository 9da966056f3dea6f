//! Every limit of a program's run, with its reason.

use std::time::Duration;

/// Most bytes that a program may print as one reply: what the bus carries in one payload.
pub const OUTPUT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Longest line that a program may print, in bytes; it becomes one payload too.
pub const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Lines of standard error that are kept for the error message.
pub(crate) const STDERR_LINES: usize = 32;

/// Bytes of each of them.
pub(crate) const STDERR_LINE_BYTES: usize = 4096;

/// How long pipes may stay open after the program's end, for what a grandchild still writes.
pub(crate) const PIPE_GRACE: Duration = Duration::from_millis(200);
