//! Every limit of the bus, with its reason. What is called a default here can be set where it is
//! used; the others are fixed.

use std::time::Duration;

/// Default of how long `invoke` and `request` wait for the reply.
pub const INVOKE_TIMEOUT: Duration = Duration::from_secs(30);

/// Default of the longest silence between two frames of a stream. There is no overall limit by
/// default: an agent may well speak for an hour, but it should not fall silent unnoticed.
pub const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// Default of how many requests one handler works on at the same time.
pub const HANDLER_CONCURRENCY: usize = 256;

/// How many messages a worker takes from its queue at once: enough to share the price of the
/// lock, few enough that a batch is not held back behind a slow handler for long.
pub const RECEIVE_BATCH: usize = 64;

/// How many cancellations are remembered whose request has not been started yet.
pub const EARLY_CANCELS: usize = 1024;

/// How long such a cancellation is remembered: longer than a request usually waits in a queue.
pub const EARLY_CANCEL_TTL: Duration = Duration::from_secs(60);

/// Default of how long [`close`](crate::Bus::close) lets running handlers finish.
pub const CLOSE_DRAIN: Duration = Duration::from_secs(10);

/// Most attempts that a retry may make; more would only hold the request longer.
pub const RETRY_ATTEMPTS_MAX: u32 = 100;

pub use agentbus_transport::limits::DEAD_LETTER_ERROR_BYTES;

/// Most dead letters that one collection keeps; the oldest is forgotten beyond it.
pub const DEAD_LETTERS_MAX: usize = 10_000;

/// Most bytes that the letters of one collection occupy: as many large ones would take a machine's
/// memory. The oldest are forgotten beyond it.
pub const DEAD_LETTERS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How often one dead letter may fail again before it is left alone.
pub const REDRIVES_MAX: u32 = 3;

/// How many events a bridge hands over before it waits for the destination to accept them.
pub const BRIDGE_WINDOW: usize = 64;

/// How long a bridge waits before it tries a destination again for the first time; each further
/// wait is twice as long, up to [`BRIDGE_PAUSE_MAX`].
pub const BRIDGE_PAUSE_MIN: Duration = Duration::from_millis(100);

/// The longest wait of a bridge between two attempts, so that it goes on soon after its
/// destination has come back.
pub const BRIDGE_PAUSE_MAX: Duration = Duration::from_secs(10);

/// Topics that a meter counts by themselves; the rest share one, since whoever publishes invents
/// them.
pub const METER_TOPICS_MAX: usize = 1_000;

/// Problems of one payload that are told; who has mended these may ask again.
pub const SCHEMA_PROBLEMS_MAX: usize = 5;

/// How many carriers an event may have passed before bridges copy it no further.
pub const BRIDGE_ROUTE_MAX: usize = 16;
