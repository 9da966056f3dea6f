//! Every limit of a transport, with its reason.

use std::time::Duration;

/// Default of the most messages that wait in one subscription's queue. Large enough to ride out
/// a pause of a scheduler slice at a million messages a second, small enough that a stuck
/// subscriber holds megabytes and not gigabytes.
pub const QUEUE_CAPACITY: usize = 4096;

/// Most bytes of payload that wait in one subscription's queue, whatever its capacity: messages may
/// have megabytes, and a stuck subscriber must not take the memory of everybody else.
pub const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long a full queue may hold its publishers up while its subscriber takes nothing at all.
/// Longer than most work on one message takes; one that is silent for longer is taken for stuck, and
/// loses its oldest messages from then on instead of stopping the bus.
pub const STALL_MAX: Duration = Duration::from_secs(60);

/// Default of the most messages that a subscriber holds unsettled: enough to hide the way between
/// two processes, few enough that a lost connection abandons little.
pub const PREFETCH: usize = 256;

/// Largest queue that a subscriber may ask for.
pub const QUEUE_CAPACITY_MAX: usize = 1 << 20;

/// Most replies that wait in one inbox. A stream's writer waits beyond it, so this is the
/// distance by which an agent may run ahead of a slow reader.
pub const INBOX_CAPACITY: usize = 256;

/// Most replies that wait in one inbox whose writers are elsewhere. They cannot be held back, so
/// this is larger than in memory; a reader who is further behind is told that it lost some.
pub const REMOTE_INBOX_CAPACITY: usize = 65_536;

/// Most inboxes elsewhere whose reader is known to have left. The oldest is forgotten, which costs
/// one message to learn it again.
pub const GONE_INBOXES: usize = 10_000;

/// Most subscriptions of one broker.
pub const SUBSCRIPTIONS_MAX: usize = 100_000;

/// Most inboxes open at one time, which is the number of calls in flight.
pub const INBOXES_MAX: usize = 1_000_000;

/// Most subjects whose list of receivers is remembered. Beyond it the memory starts afresh, so
/// that a publisher who invents subjects cannot make it grow.
pub const ROUTES_MAX: usize = 16_384;

/// Most attempts to deliver one message before it is given up.
pub const ATTEMPTS_MAX: u32 = 16;

/// Longest delay that a subscriber may ask for before a redelivery.
pub const NAK_DELAY_MAX: Duration = Duration::from_secs(3600);

/// Default of how long a message may be worked on before it is given to somebody else: longer than
/// most work takes, short enough that a hung worker is noticed while somebody still cares.
pub const LEASE: Duration = Duration::from_secs(30);

/// Longest lease that may be asked for; what takes longer extends it while it works.
pub const LEASE_MAX: Duration = Duration::from_secs(12 * 3600);

/// Longest name of a durable subscription or a group, in bytes: it is kept for ever.
pub const DURABLE_NAME_BYTES_MAX: usize = 255;

/// Longest idempotency key, in bytes; a UUID or a hash is far shorter.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// Longest error text that is put into a dead letter's metadata, in bytes.
pub const DEAD_LETTER_ERROR_BYTES: usize = 4096;
