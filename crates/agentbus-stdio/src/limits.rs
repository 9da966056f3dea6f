//! Every limit of the process bus that no configuration key sets, with its reason.

use std::time::Duration;

/// Bytes read from a descriptor at once. Large enough that a burst of small lines costs one system
/// call, and one buffer of this size serves all connections of a thread.
pub const READ_BYTES: usize = 256 * 1024;

/// Bytes that may wait for a worker before its clients are no longer read.
pub const WORKER_QUEUE_HIGH: usize = 1024 * 1024;

/// Bytes below which clients are read again; far enough from the other mark not to take turns.
pub const WORKER_QUEUE_LOW: usize = 256 * 1024;

/// How many times its `max_output_queue` may wait for a client that does not read. Workers are not
/// stopped for one client, so this is what bounds the memory; beyond it the client is cut off.
pub const CLIENT_QUEUE_OVERDRAFT: usize = 16;

/// Room kept by a buffer that has run empty.
pub const IDLE_BUFFER_BYTES: usize = 64 * 1024;

/// Longest wait between two starts of a worker.
pub const RESTART_DELAY_MAX: Duration = Duration::from_secs(60);

/// How long a worker that is told to end by a closed input may take before it gets SIGTERM.
pub const TERMINATE_AFTER: Duration = Duration::from_millis(100);

/// How often idle sessions and overdue requests are looked for.
pub const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Largest configuration, in bytes.
pub const CONFIG_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Longest path of a Unix socket, in bytes; the kernel's `sun_path` without its terminator.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;
