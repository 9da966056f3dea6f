//! Every limit of this crate, with its reason.
//!
//! [`Limits`] holds those a configuration may set; the constants are the few that nobody has a
//! reason to change. One table declares names, defaults and explanations, so the parser, the
//! documentation and the values cannot disagree.

use std::time::Duration;

/// Size of the one read buffer that all connections share: 256 KiB.
///
/// Four pipes of the usual capacity: a busy reader empties a pipe in one call.
pub const READ_BUFFER_BYTES: usize = 256 * 1024;

/// Queued bytes of a worker above which the clients that send to it are paused: 1 MiB.
pub const WORKER_HIGH_BYTES: usize = 1024 * 1024;

/// Queued bytes of a worker below which paused clients are read again: 256 KiB.
///
/// A quarter of the high mark, so that a slow worker does not wake its clients for each line.
pub const WORKER_LOW_BYTES: usize = 256 * 1024;

/// Queued bytes of a worker above which requests are refused: 64 MiB.
///
/// Each client adds at most one read after the high mark; this bounds what ten thousand add.
pub const WORKER_FULL_BYTES: usize = 64 * 1024 * 1024;

/// Times `max_output_queue` that may wait for a client that has its time limit running: 16.
///
/// Nothing is discarded before `backpressure_timeout_sec`, and answers on their way cannot be
/// held back without stalling other clients of the worker. Memory has to end somewhere.
pub const CLIENT_BACKLOG_FACTOR: u64 = 16;

/// Capacity asked for each pipe of the first workers: 1 MiB.
///
/// It halves the time of messages of a megabyte. The kernel lets a user have 16 MiB of pipes,
/// so only [`ENLARGED_WORKERS`] get it.
pub const PIPE_BYTES: usize = 1024 * 1024;

/// Workers whose pipes are enlarged: 4.
pub const ENLARGED_WORKERS: u32 = 4;

/// Largest configuration: 4 MiB.
pub const CONFIG_BYTES: usize = 4 * 1024 * 1024;

/// Most pools of a configuration: 4,096.
pub const POOLS: usize = 4096;

/// Most workers of a configuration, all pools together: 16,384.
pub const WORKERS: u64 = 16_384;

/// Answers that may still come for requests whose client has given up, per worker: 4,096.
///
/// They are remembered so that a late answer never reaches a newer request with the same id.
pub const ABANDONED_REQUESTS: usize = 4096;

/// Deadlines kept before those of answered requests are looked for and dropped; a look costs as
/// much as there are, so there is none before the number has doubled.
pub const DEADLINES_SWEPT: usize = 4096;

/// Requests of a worker that wait for a client's answer: 4,096 per worker.
pub const WORKER_REQUESTS: usize = 4096;

/// Clients that one session speaks to: 256.
pub const SESSION_CLIENTS: usize = 256;

/// Longest session name: 4 KiB. Upstream declares none; a name is held once per session.
pub const SESSION_NAME_BYTES: usize = 4096;

/// Lines of a worker's standard error that are kept for a look at them: 200.
pub const LOG_LINES: usize = 200;

/// Calls that one pool works on for callers of a bus: 1,024. Further ones wait in its queue.
pub const POOL_CALLS: usize = 1024;

/// Time for which a connection that closed its sending half may wait for its answers: 60 s.
///
/// A closed TCP peer looks like that until something is sent to it.
pub const HALF_CLOSED: Duration = Duration::from_secs(60);

/// Time between two looks at idle sessions, idle workers and their memory: 1 s.
pub const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Longest time that a configuration may set, in seconds: a year. More is taken for a year.
pub const SPAN_SEC_MAX: u64 = 365 * 24 * 3600;

/// One limit of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct LimitKey {
    /// Name in the configuration.
    pub name: &'static str,
    /// Value where the configuration is silent.
    pub default: u64,
    /// What it bounds, as one sentence.
    pub meaning: &'static str,
}

macro_rules! limits {
    ($($name:ident = $default:expr, $meaning:literal;)*) => {
        /// The limits a configuration may set, in bytes, seconds and counts.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct Limits {
            $(#[doc = $meaning] pub $name: u64,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        /// Every limit of the configuration, in the order of its documentation.
        pub const LIMIT_KEYS: &[LimitKey] = &[
            $(LimitKey { name: stringify!($name), default: $default, meaning: $meaning },)*
        ];

        /// Their names alone, in the same order.
        pub const LIMIT_NAMES: &[&str] = &[$(stringify!($name),)*];

        impl Limits {
            /// Returns the place of a limit by its name in the configuration.
            pub(crate) fn slot(&mut self, name: &str) -> Option<&mut u64> {
                match name {
                    $(stringify!($name) => Some(&mut self.$name),)*
                    _ => None,
                }
            }
        }
    };
}

limits! {
    max_input_buffer = 10 * 1024 * 1024,
        "Longest line with its newline, in bytes, from clients and workers alike.";
    max_output_queue = 40 * 1024 * 1024,
        "Bytes that wait for a client before it is no longer read from and its time runs.";
    max_restarts = 5,
        "Restarts of a worker within the window; one more gives it up, 0 never restarts.";
    restart_window_sec = 60,
        "Length of the sliding window in which restarts are counted.";
    drain_timeout_sec = 30,
        "Time that a stop gives to work in flight and to workers, before they are killed.";
    backpressure_timeout_sec = 60,
        "Time a client's queue may stay over its limit before the client is cut off.";
    restart_delay_ms = 1000,
        "Wait before the first restart within the window; it doubles with each further one.";
    restart_delay_max_sec = 60,
        "Longest wait before a restart.";
    max_sessions = 65_536,
        "Sessions the bus remembers; at the limit a new one is refused until another expires.";
    session_idle_sec = 3600,
        "Time without a message after which a session is forgotten; 0 keeps it.";
    max_pending = 4096,
        "Unanswered requests of one client; further ones are refused.";
    request_timeout_sec = 0,
        "Time after which a request is answered with an error; 0 waits for ever.";
    max_clients = 16_384,
        "Connections at a time; a further one is told so and closed.";
}

impl Limits {
    /// Returns the most bytes that ever wait for one client.
    #[must_use]
    pub fn client_backlog(&self) -> u64 {
        self.max_output_queue
            .saturating_mul(CLIENT_BACKLOG_FACTOR)
            .max(self.max_input_buffer)
    }
}
