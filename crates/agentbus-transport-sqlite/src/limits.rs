//! Every limit of the SQLite transport, with its reason.

use std::time::Duration;

/// Most memory that publishes on their way to the disk may hold, in units of 1 KiB. Beyond it
/// publishers wait: the disk is the slowest part, and what it has not taken is held here.
pub const QUEUED_KIB_MAX: u32 = 64 * 1024;

/// Most operations in one commit. A larger group would not be cheaper for each, but later for all.
pub const GROUP_MAX: usize = 4096;

/// Longest time that a commit waits for those who came together the last time. It is also never
/// more than a quarter of the last commit, so that it pays even when nobody comes.
pub const GATHER_MAX: Duration = Duration::from_millis(2);

/// How long the writer looks for more after a commit before it sleeps. Who was answered just now
/// writes again within this time if at all, and to wake a thread takes about as long.
pub const LINGER: Duration = Duration::from_micros(60);

/// Connections that read at the same time. Reads are short; more would only compete for the disk.
pub const READERS_MAX: usize = 4;

/// Most messages that one read hands over.
pub const FETCH_MAX: usize = 256;

/// Most rows that one read looks at, matching or not, so that a rare subject cannot hold a
/// connection for the length of the log.
pub const SCAN_MAX: usize = 8192;

/// Most of the newest messages that are kept in memory for subscriptions that keep up.
pub const TAIL_MAX: usize = 8192;

/// Most bytes of them.
pub const TAIL_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most messages that one durable subscription has received and not settled, those that wait for
/// another attempt included. They are in memory.
pub const UNSETTLED_MAX: usize = 8192;

/// Largest prefetch that a subscription may ask for.
pub const PREFETCH_MAX: usize = 4096;

/// Most subscriptions that read the log, durable or not. Each is a task and is looked at for each
/// publish.
pub const CONSUMERS_MAX: usize = 10_000;

/// Most subjects whose number of log readers is remembered; beyond it the memory starts afresh.
pub const ROUTES_MAX: usize = 16_384;

/// How long an idempotency key is remembered.
pub const IDEMPOTENCY_WINDOW: Duration = Duration::from_secs(24 * 3600);

/// Default age from which on a settled message is forgotten.
pub const RETAIN_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Default number of messages beyond which settled ones are forgotten.
pub const RETAIN_MESSAGES: u64 = 10_000_000;

/// Default size of the log. It is a hard limit: when nothing may be forgotten, publishes fail.
pub const RETAIN_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// Smallest log that can be asked for; an empty one has some pages already.
pub const RETAIN_BYTES_MIN: u64 = 1024 * 1024;

/// Most messages that one commit forgets, so that tidying up never holds up publishers for long.
pub const FORGET_MAX: u64 = 4096;

/// Longest sleep of the writer when nothing happens; then it looks for what is too old.
pub const IDLE_MAX: Duration = Duration::from_secs(3600);

/// First and longest wait after the disk refused a write that a subscription needs.
pub const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// See [`BACKOFF_MIN`].
pub const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// How long a connection waits for another one of this process, which only happens while the log
/// is opened or checkpointed.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest file that is checked page by page when it is opened; a larger one would delay the start
/// by seconds, and each record carries a checksum anyway.
pub const CHECKED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Size to which the write-ahead file is cut back after a burst.
pub const WAL_BYTES: i64 = 64 * 1024 * 1024;
