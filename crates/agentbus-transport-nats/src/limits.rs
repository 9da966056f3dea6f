//! Every limit of the two transports, with its reason.

use std::time::Duration;

/// Longest time that one attempt to connect may take; a server on another continent answers in a
/// tenth of it.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest pause between two attempts to reach a lost server. Attempts never end: a bus that
/// outlives its broker's restart is worth more than an early error.
pub const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(2);

/// Shortest such pause; it doubles with each attempt.
pub const RECONNECT_DELAY_MIN: Duration = Duration::from_millis(10);

/// Largest message that a server takes unless it is configured otherwise. A connected transport
/// goes by what its server says.
pub const PAYLOAD_BYTES: usize = 1 << 20;

/// Silence after which the connection is probed. Two probes without answer end it.
pub const PING_INTERVAL: Duration = Duration::from_secs(20);

/// Operations that wait to be written to the socket; beyond it publishers wait. It is what one
/// write of 64 KiB takes of small messages, and what is held while the server is away.
pub const OUTGOING: usize = 2048;

/// Messages of one subscription that the client library holds before our own queue has taken
/// them: ten million in a second before a busy subscriber's channel is full between two looks of
/// the caretaker, many times what a connection delivers.
pub const ARRIVING: usize = 262_144;

/// How often the caretaker empties the channels of subscribers that are busy.
pub const CARE_INTERVAL: Duration = Duration::from_millis(25);

/// Longest wait for the server to confirm that it has seen what was sent.
pub const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

/// Time that a close without patience still gives to what is on its way to the server, such as
/// the word to callers that nobody will answer them.
pub const LAST_WORDS: Duration = Duration::from_secs(1);

/// Longest wait until a subscription is known to the server, over reconnects.
pub const READY_TIMEOUT: Duration = Duration::from_secs(15);

/// Longest time that a stopped subscription waits for what the server had sent already.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Most replies that wait in one inbox. A writer elsewhere cannot be held back over core NATS, so
/// this is larger than in memory; a reader who is further behind is told that it lost some.
pub const INBOX_CAPACITY: usize = 65_536;

/// Most inboxes whose reader is known to have left. The oldest is forgotten, which costs one
/// message to learn it again.
pub const GONE_INBOXES: usize = 10_000;

/// Most refusals of the server that are remembered for the operations that they belong to.
pub const REFUSALS: usize = 64;

/// Most publishes to a stream whose confirmation is awaited at one time. Beyond it publishers
/// wait, which is how back-pressure of the stream's disk reaches them.
pub const UNCONFIRMED_PUBLISHES: usize = 4096;

/// Longest time over which a publish to a stream is tried again, always under the same message
/// id, before it fails.
pub const PUBLISH_TIMEOUT: Duration = Duration::from_secs(30);

/// Time for one answer of a stream before the publish is tried again.
pub const PUBLISH_ATTEMPT: Duration = Duration::from_secs(3);

/// Pause before such a second attempt, so that a server without leader is not flooded.
pub const PUBLISH_PAUSE: Duration = Duration::from_millis(100);

/// Default time after which an unsettled delivery of a stream goes to somebody else.
pub const ACK_WAIT: Duration = Duration::from_secs(30);

/// Delay before a message comes again whose handler dropped it without a word, so that a handler
/// which always panics does not spin.
pub const ABANDONED_DELAY: Duration = Duration::from_secs(1);

/// How long a consumer without a durable name outlives its last subscriber. Longer than a
/// broker's restart, shorter than an operator's patience with leftovers.
pub const EPHEMERAL_LINGER: Duration = Duration::from_secs(120);

/// Most deliveries of a stream that one subscription has in its hands. The server holds the rest.
pub const PREFETCH_MAX: usize = 10_000;

/// Most deliveries of one consumer that may be unsettled at one time, over all who share it.
pub const UNSETTLED_MAX: i64 = 65_536;

/// Messages of one subscription whose fate is remembered, in case the server forgets it: as many
/// as can be unsettled.
pub const REMEMBERED: usize = 65_536;

/// Longest wait for the answer of the stream API.
pub const API_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause before a lost consumer is opened again; it doubles up to [`RECONNECT_DELAY_MAX`].
pub const REOPEN_DELAY_MIN: Duration = Duration::from_millis(50);

/// How often a waiting pull shows that it is alive.
pub const PULL_HEARTBEAT: Duration = Duration::from_secs(5);

/// Silence of a waiting pull after which its consumer is opened again: two signs are missed.
pub const PULL_SILENCE: Duration = Duration::from_secs(11);

/// How long one pull waits at the server for messages.
pub const PULL_EXPIRES: Duration = Duration::from_secs(30);

/// Most messages that are taken from a pull's channel at one time, so that the task of one
/// subscription leaves the thread to others.
pub const TAKEN_AT_ONCE: usize = 512;

/// Into how many looks the time of a lease is divided; a lease is seen to have ended at most one
/// look late.
pub const LOOKS_PER_LEASE: u32 = 8;

/// Shortest time between two such looks, for leases of tests and the like.
pub const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// Shortest lease; the server counts in steps of about a millisecond, and each message that waits
/// has to be kept three times in it.
pub const LEASE_MIN: Duration = Duration::from_millis(30);

/// How long a subscription that finds its durable name in use waits for the other user to go: a
/// killed process's pull stays for the moment in which the server sees the connection end.
pub const OTHER_USER_LINGERS: Duration = Duration::from_secs(1);

/// Pause between two looks for that other user.
pub const OTHER_USER_PAUSE: Duration = Duration::from_millis(50);

/// Default age at which a stream forgets its messages.
pub const RETENTION_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Default time in which a stream recognises a message id that it has seen.
pub const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
