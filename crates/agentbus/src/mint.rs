//! Where ids and times come from.

use std::cell::{Cell, RefCell};
use std::time::{Duration, SystemTime};

use agentbus_protocol::{EventId, Stamp, Timestamp, TraceParent};
use rand::RngExt;
use tokio::time::Instant;

/// For so long after both were read, the clock on the wall is taken to go as the other one does.
const IN_STEP: Duration = Duration::from_millis(10);

/// Nanoseconds of a second.
const NANOS: u32 = 1_000_000_000;

thread_local! {
    /// What both clocks said when this thread looked at both last.
    static READ: Cell<Option<Reading>> = const { Cell::new(None) };
}

/// What two clocks say at one moment.
#[derive(Debug, Clone, Copy)]
struct Reading {
    moment: Instant,
    /// On the wall: seconds since 1970, and nanoseconds.
    wall: (u64, u32),
}

/// Mints identity and time for a new envelope.
///
/// The random part comes from the thread's generator, a ChaCha cipher seeded by the operating
/// system, so that an id cannot be guessed from earlier ones: whoever knows a request's id may
/// cancel it.
#[must_use]
pub fn stamp() -> Stamp {
    stamp_of(Timestamp::from_system_time(SystemTime::now()))
}

/// The same for this moment, which is returned as well. Where a busy thread needs both, it looks at
/// one clock instead of two.
pub(crate) fn stamp_and_moment() -> (Stamp, Instant) {
    let moment = Instant::now();
    let known = READ.get().and_then(|read| read.at(moment));
    let (seconds, nanos) = known.unwrap_or_else(|| Reading::take(moment).wall);
    let occurred_at = Timestamp::from_unix_parts(seconds, nanos);
    (stamp_of(occurred_at), moment)
}

impl Reading {
    /// Looks at the clock on the wall.
    fn take(moment: Instant) -> Self {
        // Before 1970 no clock is to be believed.
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let since = since.unwrap_or_default();
        let wall = (since.as_secs(), since.subsec_nanos());
        let reading = Self { moment, wall };
        READ.set(Some(reading));
        reading
    }

    /// What the clock on the wall says at another moment, if that is soon after.
    fn at(&self, moment: Instant) -> Option<(u64, u32)> {
        let since = moment.checked_duration_since(self.moment)?;
        if since >= IN_STEP {
            return None;
        }
        let (seconds, nanos) = (self.wall.0, self.wall.1 + since.subsec_nanos());
        Some(match nanos < NANOS {
            true => (seconds, nanos),
            false => (seconds + 1, nanos - NANOS),
        })
    }
}

fn stamp_of(occurred_at: Timestamp) -> Stamp {
    let random = random().to_le_bytes();
    let (random, _) = random.split_first_chunk().unwrap_or((&[0; 10], &[]));
    Stamp {
        event_id: EventId::v7(occurred_at.unix_millis(), random),
        occurred_at,
    }
}

/// A random number of the thread's generator. It makes many at once: each time it is asked, it looks
/// whether it is there and whether its seed is old.
fn random() -> u128 {
    const MADE: usize = 32;
    thread_local! {
        static NEXT: RefCell<(usize, [u128; MADE])> = const { RefCell::new((0, [0; MADE])) };
    }
    NEXT.with_borrow_mut(|(left, made)| {
        if *left == 0 {
            rand::rng().fill(made);
            *left = MADE;
        }
        *left -= 1;
        std::mem::take(&mut made[*left])
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn soon_after_a_reading_the_wall_is_known_without_a_look() {
        let moment = Instant::now();
        let wall = (7, NANOS - 1_000_000);
        let reading = Reading { moment, wall };
        assert_eq!(reading.at(moment), Some(wall));
        assert_eq!(reading.at(moment + 3 * MILLI), Some((8, 2_000_000)));
        assert_eq!(reading.at(moment + IN_STEP), None);
        let later = Reading {
            moment: moment + MILLI,
            wall,
        };
        assert_eq!(later.at(moment), None, "a clock of another runtime");
    }

    #[test]
    fn no_two_stamps_have_the_same_id() {
        let minted = || {
            let many = (0..1000).map(|_| stamp().event_id);
            many.collect::<Vec<_>>()
        };
        let other = std::thread::spawn(minted).join().unwrap();
        let ids: std::collections::HashSet<_> = minted().into_iter().chain(other).collect();
        assert_eq!(ids.len(), 2000);
    }

    #[test]
    fn stamps_tell_the_time_on_the_wall() {
        let wall = || Timestamp::from_system_time(SystemTime::now()).unix_millis();
        let slack = 2 * IN_STEP.as_millis() as u64;
        for _ in 0..5 {
            let before = wall();
            let (stamp, moment) = stamp_and_moment();
            let told = stamp.occurred_at.unix_millis();
            assert!(told + slack >= before && told <= wall() + slack, "{told}");
            assert!(moment <= Instant::now());
            std::thread::sleep(IN_STEP / 2);
        }
    }
}
