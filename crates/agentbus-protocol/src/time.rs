//! Points in time as the wire writes them.

use std::fmt;

use jiff::civil::{Date, Time};
use jiff::fmt::StdIoWrite;
use jiff::fmt::temporal::DateTimePrinter;
use jiff::tz::Offset;

/// Room for the longest text: a sign and six digits of a year before 0, and nine of a fraction.
const TEXT_BYTES_MAX: usize = "-009999-01-01T00:00:00.123456789Z".len();

/// How a time begins; `d` is a digit.
const SHAPE: &[u8] = b"dddd-dd-ddTdd:dd:dd";

/// Where its fraction or its zone begins.
const SECOND_END: usize = SHAPE.len();

static PRINTER: DateTimePrinter = DateTimePrinter::new();

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
        // The usual case, without the calendar library's checks of what a span can be.
        Self::from_unix_parts(since.as_secs(), since.subsec_nanos())
    }

    /// Makes a timestamp from seconds since the Unix epoch and the nanoseconds of the next one.
    #[must_use]
    pub fn from_unix_parts(seconds: u64, nanos: u32) -> Self {
        // The nanoseconds of a second always fit; seconds that do not are beyond all years as well.
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        let nanos = i32::try_from(nanos).unwrap_or_default();
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

    /// Calls `read` with the wire text, without allocating it.
    pub fn with_str<R>(self, read: impl FnOnce(&str) -> R) -> R {
        let mut text = [0; TEXT_BYTES_MAX];
        let mut rest = text.as_mut_slice();
        // The longest text fits.
        let _ = PRINTER.print_timestamp(&self.0, StdIoWrite(&mut rest));
        let written = TEXT_BYTES_MAX - rest.len();
        read(std::str::from_utf8(&text[..written]).unwrap_or_default())
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
        // The library decides about what is rare: leap seconds, zones, dates that do not exist.
        match in_utc(text.as_bytes()) {
            Some(time) => Ok(Self(time)),
            None => text.parse().map(Self).map_err(|_| refused()),
        }
    }
}

/// Reads `yyyy-mm-ddThh:mm:ss[.fraction]Z`, of which the shape was checked.
fn in_utc(text: &[u8]) -> Option<jiff::Timestamp> {
    let number = |digits: &[u8]| {
        let digits = digits.iter().map(|digit| i32::from(digit - b'0'));
        digits.fold(0, |number, digit| number * 10 + digit)
    };
    let two = |at: usize| i8::try_from(number(&text[at..at + 2])).ok();
    let fraction = text.strip_suffix(b"Z")?.get(SECOND_END..)?;
    let digits = fraction.strip_prefix(b".").unwrap_or_default();
    let scale = 9_u32.checked_sub(u32::try_from(digits.len()).ok()?)?;
    let nanos = number(digits) * 10_i32.pow(scale);
    let date = Date::new(i16::try_from(number(&text[..4])).ok()?, two(5)?, two(8)?).ok()?;
    let time = Time::new(two(11)?, two(14)?, two(17)?, nanos).ok()?;
    Offset::UTC.to_timestamp(date.to_datetime(time)).ok()
}

/// Checks the punctuation, because the calendar library also reads looser spellings.
fn has_rfc3339_shape(text: &[u8]) -> bool {
    if text.len() <= SECOND_END {
        return false;
    }
    let (date_time, rest) = text.split_at(SECOND_END);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_longest_text_fits() {
        for nanos in [i128::MIN, i128::MAX, 0, -1, 1, 1_700_000_000_123_456_789] {
            let time = Timestamp::from_unix_nanos(nanos);
            time.with_str(|text| assert_eq!(text, time.to_string()));
        }
    }

    #[test]
    fn what_is_rare_is_read_as_the_calendar_has_it() {
        for (text, same) in [
            ("2016-12-31T23:59:60Z", Some("2016-12-31T23:59:59Z")),
            ("2026-01-31T12:00:00+02:00", Some("2026-01-31T10:00:00Z")),
            (
                "2024-02-29T00:00:00.000000001Z",
                Some("2024-02-29T00:00:00.000000001Z"),
            ),
            ("2026-02-29T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-01-31T24:00:00Z", None),
            ("2026-01-31T12:00:00.0000000001Z", None),
            ("2026-01-31T12:00:00.Z", None),
            ("2026-01-31t12:00:00Z", None),
        ] {
            let read = Timestamp::parse(text).ok().map(|time| time.to_string());
            assert_eq!(read.as_deref(), same, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_time_is_read_back(nanos in 0..253_402_300_800_000_000_000_i128) {
            let time = Timestamp::from_unix_nanos(nanos);
            prop_assert_eq!(Timestamp::parse(&time.to_string()).unwrap(), time);
        }

        #[test]
        fn in_utc_is_what_the_library_reads(text in "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{1,9})?Z") {
            if let Some(time) = in_utc(text.as_bytes()) {
                prop_assert_eq!(Ok(time), text.parse().map_err(|_| ()));
            }
        }
    }
}
