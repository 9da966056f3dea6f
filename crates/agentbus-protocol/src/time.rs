//! Points in time as the wire writes them.

use std::fmt;

/// A point in time with nanosecond precision, always UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(jiff::Timestamp);

/// Tells why a text is no RFC 3339 timestamp.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an RFC 3339 time such as 2026-01-31T12:00:00Z")]
pub struct TimestampError(pub String);

impl Timestamp {
    /// The Unix epoch.
    pub const UNIX_EPOCH: Self = Self(jiff::Timestamp::UNIX_EPOCH);

    /// Makes a timestamp from nanoseconds since the Unix epoch, saturating at the years ±9999.
    #[must_use]
    pub fn from_unix_nanos(nanos: i128) -> Self {
        let saturated = if nanos < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        };
        Self(jiff::Timestamp::from_nanosecond(nanos).unwrap_or(saturated))
    }

    /// Makes a timestamp from the system clock's type.
    #[must_use]
    pub fn from_system_time(time: std::time::SystemTime) -> Self {
        let Ok(since) = time.duration_since(std::time::UNIX_EPOCH) else {
            return Self(jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::MIN));
        };
        // The usual case, without the calendar library's checks of what a span can be. The
        // nanoseconds of a second always fit; seconds that do not are beyond its years as well.
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let nanos = i32::try_from(since.subsec_nanos()).unwrap_or_default();
        Self(jiff::Timestamp::new(seconds, nanos).unwrap_or(jiff::Timestamp::MAX))
    }

    /// Milliseconds since the Unix epoch, 0 before it.
    #[must_use]
    pub fn unix_millis(self) -> u64 {
        u64::try_from(self.0.as_millisecond()).unwrap_or(0)
    }

    /// Nanoseconds since the Unix epoch.
    #[must_use]
    pub fn unix_nanos(self) -> i128 {
        self.0.as_nanosecond()
    }

    /// Reads strict RFC 3339: upper-case `T`, a zone that is `Z` or `±hh:mm`, and up to nine
    /// digits of fraction.
    ///
    /// # Errors
    /// Fails on any other spelling and on dates that do not exist.
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        let refused = || TimestampError(text.chars().take(64).collect());
        if !has_rfc3339_shape(text.as_bytes()) {
            return Err(refused());
        }
        text.parse().map(Self).map_err(|_| refused())
    }
}

/// Checks the punctuation, because the calendar library also reads looser spellings.
fn has_rfc3339_shape(text: &[u8]) -> bool {
    const SHAPE: &[u8] = b"dddd-dd-ddTdd:dd:dd";
    if text.len() <= SHAPE.len() {
        return false;
    }
    let (date_time, rest) = text.split_at(SHAPE.len());
    fits(date_time, SHAPE) && has_zone(without_fraction(rest))
}

fn fits(text: &[u8], shape: &[u8]) -> bool {
    text.len() == shape.len()
        && text.iter().zip(shape).all(|(byte, class)| match class {
            b'd' => byte.is_ascii_digit(),
            punctuation => byte == punctuation,
        })
}

/// Strips `.` and one to nine digits; anything else is left for the zone check to refuse.
fn without_fraction(rest: &[u8]) -> &[u8] {
    let Some(fraction) = rest.strip_prefix(b".") else {
        return rest;
    };
    match fraction
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count()
    {
        digits @ 1..=9 => &fraction[digits..],
        _ => rest,
    }
}

fn has_zone(zone: &[u8]) -> bool {
    zone == b"Z" || fits(zone, b"+dd:dd") || fits(zone, b"-dd:dd")
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
