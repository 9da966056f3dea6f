//! What the bus counts.

/// Counters of the bus or of one worker since the start of the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Counters {
    /// Lines from clients; for a worker, lines sent to it.
    pub messages_in: u64,
    /// Lines from workers that reached somebody.
    pub messages_out: u64,
    /// Bytes of the lines of `messages_in`.
    pub bytes_in: u64,
    /// Bytes of the lines of `messages_out`.
    pub bytes_out: u64,
    /// Requests the bus answered with an error of its own.
    pub errors: u64,
    /// Lines nobody could be found for.
    pub dropped: u64,
    /// Starts of workers after their first.
    pub restarts: u64,
    /// Clients that connected.
    pub connects: u64,
    /// Clients that left.
    pub disconnects: u64,
}

/// Times from request to answer, counted by powers of two of a microsecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Latency {
    /// Answers that took less than two to the power of the index, in microseconds.
    pub buckets: [u64; 32],
}

impl Latency {
    pub(crate) fn record(&mut self, micros: u64) {
        let index = (64 - micros.leading_zeros()) as usize;
        self.buckets[index.min(31)] += 1;
    }

    /// Returns an upper bound, in microseconds, of the time that `share` of the answers took.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let total: u64 = self.buckets.iter().sum();
        if total == 0 {
            return None;
        }
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen as f64 >= share * total as f64 {
                return Some(1 << index);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_an_upper_bound() {
        let mut latency = Latency::default();
        assert_eq!(latency.quantile(0.5), None);
        for micros in [0, 1, 3, 100, u64::MAX] {
            latency.record(micros);
        }
        assert_eq!(latency.quantile(0.5), Some(4));
        assert_eq!(latency.quantile(0.8), Some(128));
    }
}
