//! Every limit of the transport, with its reason.

use std::time::Duration;

/// Longest time that one attempt to connect may take; a server on another continent answers in a
/// tenth of it.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Shortest pause between two attempts to reach a lost server; it doubles with each attempt.
pub const RECONNECT_DELAY_MIN: Duration = Duration::from_millis(10);

/// Longest such pause. Attempts never end: a bus that outlives its broker's restart is worth more
/// than an early error.
pub const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(1);

/// Longest wait for the answer to one command. Scripts are short; a server that takes longer is
/// loading its data or stands still.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time over which a publish is tried again, always under the number of its batch, before
/// it fails. Longer than a restart that loads a large data set.
pub const PUBLISH_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time over which a verdict or a membership is tried again.
pub const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest wait until a subscription is known to the server, over reconnects.
pub const READY_TIMEOUT: Duration = Duration::from_secs(15);

/// Longest time that a stopped subscription waits for what the server had sent already.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Publishes that wait to be sent; beyond it publishers wait. It is what is held while the server
/// is away.
pub const OUTGOING: usize = 4096;

/// Most messages of one batch. The server does nothing else while it takes one, so this bounds the
/// pause that others see to about a millisecond.
pub const BATCH: usize = 256;

/// Batches on their way at a time: one that the server takes, and one that is made ready
/// meanwhile. The server remembers the answers to as many, so `publish.lua` knows the number, too.
pub const BATCHES: usize = 2;

/// Most bytes of one batch, for the same reason; a larger message travels alone.
pub const BATCH_BYTES: usize = 1 << 20;

/// How often the routes may change under one batch before it fails. Each change is somebody who
/// subscribes or leaves; a publisher meets one now and then, never this many in a row.
pub const STALE_ROUTES: usize = 1000;

/// Entries that the log keeps by default. Durable names have copies of their own and do not
/// depend on it; it bounds how far a replay reaches.
pub const LOG_ENTRIES: u64 = 100_000;

/// Most messages that wait in one queue of the server. It all lies in the server's memory, so a
/// name that nobody uses must not grow for ever; beyond it publishes are refused.
pub const QUEUE_ENTRIES: u64 = 1_000_000;

/// Time in which a repeated idempotency key is recognised.
pub const KEY_WINDOW: Duration = Duration::from_secs(24 * 3600);

/// Entries of the log that are copied in one step, which holds up the server for less than a
/// millisecond.
pub const COPY_ENTRIES: usize = 500;

/// Durable names of a list for which the server answers in one step, for the same reason.
pub const LISTED_NAMES: usize = 100;

/// How often a client shows that it is alive.
pub const HEARTBEAT: Duration = Duration::from_secs(3);

/// Silence after which a client counts as gone: three beats, so that one lost beat is no death.
pub const CLIENT_LIFE: Duration = Duration::from_secs(10);

/// Most dead clients that one beat clears up after, so that no beat takes long.
pub const DEAD_CLIENTS: usize = 16;

/// Longest time between two looks for deliveries whose lease has ended.
pub const CLAIM_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// Shortest such time, for leases of tests and the like.
pub const CLAIM_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// Most pending deliveries that one such look reads.
pub const CLAIM_SCAN: usize = 1000;

/// Delay before a message comes again whose handler dropped it without a word, so that a handler
/// which always panics does not spin.
pub const ABANDONED_DELAY: Duration = Duration::from_millis(100);

/// Most deliveries that one member has in its hands. The server holds the rest.
pub const PREFETCH_MAX: usize = 10_000;

/// Entries that are read at one time while a queue is being closed.
pub const DRAIN: usize = 256;

/// Pause between two attempts to interrupt a waiting read; the first is in vain when the read has
/// not reached the server yet.
pub const INTERRUPT_PAUSE: Duration = Duration::from_millis(10);

/// Most such attempts. A connection that takes longer is given up, and what it was given is found
/// in the server's list.
pub const INTERRUPTS: usize = 50;

/// Longest name of a namespace, in bytes: it stands before every key and channel.
pub const NAMESPACE_BYTES_MAX: usize = 64;
