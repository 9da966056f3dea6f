//! Every limit of a transport, with its reason.

use std::time::Duration;

/// Default of the most messages that wait in one subscription's queue. Large enough to ride out
/// a pause of a scheduler slice at a million messages a second, small enough that a stuck
/// subscriber holds megabytes and not gigabytes.
pub const QUEUE_CAPACITY: usize = 4096;

/// Default of the most messages that a subscriber holds unsettled: enough to hide the way between
/// two processes, few enough that a lost connection abandons little.
pub const PREFETCH: usize = 256;

/// Largest queue that a subscriber may ask for.
pub const QUEUE_CAPACITY_MAX: usize = 1 << 20;

/// Most replies that wait in one inbox. A stream's writer waits beyond it, so this is the
/// distance by which an agent may run ahead of a slow reader.
pub const INBOX_CAPACITY: usize = 256;

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
