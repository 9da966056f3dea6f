//! Points in time, in the one text form that the store and all interfaces share.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// A point in time in microseconds, written as `2026-11-21T00:17:22.882403+00:00`.
///
/// The text form leaves a fraction of zero out. Its order as text is its order in time, which is
/// what lets the store compare without parsing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(i64);

impl Stamp {
    /// The point so many microseconds after 1970.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Reads any ISO date-time. One without an offset is taken as UTC, and an offset that is
    /// written twice, which a release of AgentChatBus did, counts once.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix("+00:00+00:00").unwrap_or(text);
        let text = text.strip_suffix("+00:00").unwrap_or(text);
        let parse = |text: &str| text.parse::<jiff::Timestamp>().ok();
        let found = parse(text).or_else(|| parse(&format!("{text}Z")))?;
        Some(Self(found.as_microsecond()))
    }

    /// The point so much later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(micros(duration)))
    }

    /// The point so much earlier.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(micros(duration)))
    }

    /// Time that has passed since an earlier point; zero if it is a later one.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let micros = self.0.saturating_sub(earlier.0);
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }

    /// The form for people: `2026-11-21 00:17 UTC`.
    #[must_use]
    pub fn to_minute(self) -> String {
        let text = self.to_string();
        let (day, time) = text.split_once('T').unwrap_or((&text, ""));
        format!("{day} {} UTC", time.get(..5).unwrap_or_default())
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = jiff::Timestamp::from_microsecond(self.0).unwrap_or_default();
        let text = if self.0 % 1_000_000 == 0 {
            format!("{time:.0}")
        } else {
            format!("{time:.6}")
        };
        write!(f, "{}+00:00", text.trim_end_matches('Z'))
    }
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Stamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not an ISO date-time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        assert_eq!(Stamp::parse(text).unwrap().to_string(), expect);
    }

    #[test]
    fn every_form_is_read_and_one_is_written() {
        let expect = "2026-11-21T00:17:22.882403+00:00";
        check(expect, expect);
        check("2026-11-21T00:17:22.882403Z", expect);
        check("2026-11-21T00:17:22.882403", expect);
        check("2026-11-21T02:17:22.882403+02:00", expect);
        check("2026-11-21T00:17:22.882403+00:00+00:00", expect);
        check("2026-11-21 00:17:22Z", "2026-11-21T00:17:22+00:00");
    }

    #[test]
    fn what_is_no_date_is_refused() {
        assert_eq!(Stamp::parse("xx"), None);
        assert_eq!(Stamp::parse(""), None);
    }

    #[test]
    fn the_order_of_the_text_is_the_order_in_time() {
        let texts: Vec<_> = [0, 1, 999_999, 1_000_000, 1_000_001]
            .map(|micros| Stamp::from_micros(micros).to_string())
            .into();
        assert!(texts.is_sorted(), "{texts:?}");
    }

    #[test]
    fn people_read_minutes() {
        let stamp = Stamp::parse("2026-11-21T00:17:22Z").unwrap();
        assert_eq!(stamp.to_minute(), "2026-11-21 00:17 UTC");
    }
}
