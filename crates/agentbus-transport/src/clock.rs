//! Times on the wire, between processes whose own clocks have nothing in common.

use std::time::{Duration, Instant, SystemTime};

use agentbus_protocol::Timestamp;

/// As far ahead as a time from elsewhere counts that this process's clock cannot hold.
const BEYOND: Duration = Duration::from_secs(24 * 3600);

/// As good as never, and still a point in time that the clock can hold.
const FAR_AWAY: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// The moment after `span`, however long that is.
#[must_use]
pub fn moment_in(span: Duration) -> tokio::time::Instant {
    after(tokio::time::Instant::now(), span)
}

/// The moment `span` after another one, however long that is.
#[must_use]
pub fn after(moment: tokio::time::Instant, span: Duration) -> tokio::time::Instant {
    moment + span.min(FAR_AWAY)
}

/// The wall-clock time in milliseconds since 1970.
#[must_use]
pub fn unix_millis() -> u64 {
    Timestamp::from_system_time(SystemTime::now()).unix_millis()
}

/// The wall-clock time after `span`.
#[must_use]
pub fn unix_millis_in(span: Duration) -> u64 {
    unix_millis().saturating_add(millis(span))
}

/// The moment of a wall-clock time on this process's own clock; one that has passed is now.
#[must_use]
pub fn instant_at(unix_ms: u64) -> Instant {
    let left = unix_ms.saturating_sub(unix_millis());
    let now = Instant::now();
    // A time beyond what the clock can hold is as good as none; a day keeps it simple.
    now.checked_add(Duration::from_millis(left))
        .unwrap_or_else(|| now + BEYOND)
}

/// A span in whole milliseconds.
#[must_use]
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_travels_there_and_back() {
        let span = Duration::from_secs(60);
        let before = Instant::now();
        let there = instant_at(unix_millis_in(span));
        // Each way rounds to a millisecond.
        assert!(
            there >= before + span - Duration::from_millis(2),
            "{there:?}"
        );
        assert!(
            there <= Instant::now() + span + Duration::from_millis(2),
            "{there:?}"
        );
    }

    #[test]
    fn no_span_and_no_time_is_too_far() {
        assert_eq!(unix_millis_in(Duration::MAX), u64::MAX);
        assert!(instant_at(u64::MAX) > Instant::now());
        assert!(instant_at(0) <= Instant::now());
        assert!(moment_in(Duration::MAX).into_std() > Instant::now());
    }
}
