//! What a measurement counts, in a memory that does not grow with it.

use std::time::{Duration, Instant};

use agentbus::Error;
use serde_json::{Value, json};

/// Times of up to half a century; within a power of two there are 32 places, so that a time is
/// known to about 3 %.
const PLACES: usize = 1920;

/// What was counted of one kind of message.
pub(super) struct Figures {
    what: &'static str,
    began: Instant,
    /// When the last one was through.
    last: Instant,
    times: Vec<u64>,
    count: u64,
    pub(super) errors: u64,
    /// What was said of the first error.
    first_error: Option<String>,
}

impl Figures {
    pub(super) fn begin(what: &'static str) -> Self {
        let now = Instant::now();
        Self {
            what,
            began: now,
            last: now,
            times: vec![0; PLACES],
            count: 0,
            errors: 0,
            first_error: None,
        }
    }

    /// Counts one that began at this moment and is through.
    pub(super) fn through(&mut self, since: Instant) {
        self.last = Instant::now();
        self.count += 1;
        if let Some(place) = self.times.get_mut(place(self.last - since)) {
            *place += 1;
        }
    }

    /// Counts one that failed. Where none was through before it, none will be: that ends the part.
    pub(super) fn refused(&mut self, error: Error) -> Result<(), Error> {
        if self.count == 0 {
            return Err(error);
        }
        self.failed(1, || error.to_string());
        Ok(())
    }

    /// Counts those that were waited for in vain.
    pub(super) fn lost(&mut self, number: usize) {
        if number > 0 {
            let number = u64::try_from(number).unwrap_or(u64::MAX);
            self.failed(number, || "sent, and nothing came back".to_owned());
        }
    }

    fn failed(&mut self, number: u64, why: impl FnOnce() -> String) {
        self.errors += number;
        self.first_error.get_or_insert_with(why);
    }

    fn per_second(&self) -> f64 {
        let seconds = (self.last - self.began).as_secs_f64();
        match self.count {
            0 => 0.0,
            // Not divided by nothing.
            count => count as f64 / seconds.max(1e-9),
        }
    }

    /// The time in µs within which so many in a hundred were through.
    fn percentile(&self, percent: u64) -> Option<f64> {
        let wanted = (self.count * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let at = self.times.iter().position(|number| {
            seen += number;
            seen >= wanted
        });
        at.map(|place| time(place) as f64 / 1e3)
    }

    pub(super) fn json(&self) -> Value {
        let rounded = |number: f64| (number * 10.0).round() / 10.0;
        json!({
            "what": self.what,
            "count": self.count,
            "per_second": rounded(self.per_second()),
            "p50_us": self.percentile(50).map(rounded),
            "p99_us": self.percentile(99).map(rounded),
            "errors": self.errors,
            "first_error": self.first_error,
        })
    }

    pub(super) fn sentence(&self) -> String {
        let Self { what, count, .. } = self;
        let times = match (self.percentile(50), self.percentile(99)) {
            (Some(half), Some(most)) => format!(", p50 {half:.1} µs, p99 {most:.1} µs"),
            _ => String::new(),
        };
        let errors = match (self.errors, &self.first_error) {
            (0, _) | (_, None) => "no errors".to_owned(),
            (1, Some(first)) => format!("1 error: {first}"),
            (errors, Some(first)) => format!("{errors} errors, the first: {first}"),
        };
        let rate = self.per_second();
        format!("{what:7} {count}, {rate:.0} a second{times}, {errors}")
    }
}

/// Where a time is counted.
fn place(time: Duration) -> usize {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    // The six highest digits decide; below 64 these are all.
    let shift = (u64::BITS - nanos.leading_zeros()).saturating_sub(6) as usize;
    shift * 32 + (nanos >> shift) as usize
}

/// The middle of the times that are counted in a place, in ns.
fn time(place: usize) -> u64 {
    let shift = (place / 32).saturating_sub(1);
    let highest = (place - shift * 32) as u64;
    (highest << shift) + ((1_u64 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_a_place_that_is_near_it() {
        for nanos in [
            0,
            1,
            31,
            32,
            63,
            64,
            65,
            127,
            128,
            1_000,
            123_456_789,
            u64::MAX,
        ] {
            let place = place(Duration::from_nanos(nanos));
            assert!(place < PLACES, "{nanos}");
            let (told, near) = (time(place), nanos / 32);
            assert!(told.abs_diff(nanos) <= near, "{nanos} is told as {told}");
        }
    }

    #[test]
    fn percentiles_are_those_of_what_was_counted() {
        let mut figures = Figures::begin("calls");
        assert_eq!((figures.percentile(50), figures.per_second()), (None, 0.0));
        for micros in 1..=100_u64 {
            figures.times[place(Duration::from_micros(micros))] += 1;
            figures.count += 1;
        }
        let near = |percent, wanted: f64| {
            let told = figures.percentile(percent).unwrap();
            assert!((told - wanted).abs() < wanted / 25.0, "{told}");
        };
        near(50, 50.0);
        near(99, 99.0);
    }

    #[test]
    fn the_first_error_is_told_and_one_before_everything_ends_it() {
        let closed = || Error::Setup("closed".to_owned());
        let mut figures = Figures::begin("events");
        assert_eq!(figures.refused(closed()), Err(closed()));
        figures.through(Instant::now());
        figures.lost(0);
        assert!(figures.sentence().ends_with("no errors"));
        figures.refused(closed()).unwrap();
        figures.lost(2);
        assert_eq!(figures.json()["errors"], 3);
        assert!(figures.sentence().ends_with("3 errors, the first: closed"));
    }
}
