//! Where ids and times come from.

use std::time::SystemTime;

use agentbus_protocol::{EventId, Stamp, Timestamp, TraceParent};
use rand::RngExt;

/// Mints identity and time for a new envelope.
///
/// The random part comes from the thread's generator, a ChaCha cipher seeded by the operating
/// system, so that an id cannot be guessed from earlier ones: whoever knows a request's id may
/// cancel it.
#[must_use]
pub fn stamp() -> Stamp {
    let occurred_at = Timestamp::from_system_time(SystemTime::now());
    // Taken as one number: the generator would make a whole word for each single byte.
    let random = rand::rng().random::<u128>().to_le_bytes();
    let (random, _) = random.split_first_chunk().unwrap_or((&[0; 10], &[]));
    Stamp {
        event_id: EventId::v7(occurred_at.unix_millis(), random),
        occurred_at,
    }
}

/// Starts a new trace.
#[must_use]
pub fn trace() -> TraceParent {
    let mut rng = rand::rng();
    TraceParent::new(rng.random(), rng.random())
}

/// Makes the id of a span inside a trace.
#[must_use]
pub fn span_id() -> u64 {
    rand::rng().random()
}
