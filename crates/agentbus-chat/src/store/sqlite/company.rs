//! How long a commit stays open for others.
//!
//! Whoever was just answered mostly comes again at once. A commit that closed with the first of
//! them would leave the rest to the next one, and each would wait for two flushes of the disk. So a
//! commit stays open until as many have come as had jobs around the last one, and idles for at most
//! half as long as a flush takes. Where they do not come, because nobody waits for an answer before
//! the next post, it is tried ever more rarely.

use std::time::{Duration, Instant};

use crate::limits;

/// Commits that close at once after the wait has been in vain, at most.
const REST_MAX: u32 = 64;

/// Those who have jobs for the writer, as far as it can know.
#[derive(Debug)]
pub(super) struct Company {
    /// Jobs that the last commit answered, and those that came while it was made.
    known: usize,
    /// When the last commit was made.
    made: Instant,
    /// What a flush takes of late.
    flush: Duration,
    /// Commits that close at once.
    resting: u32,
    /// How many they will be after the next wait in vain.
    rest: u32,
}

/// What a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Expected {
    /// Jobs in all that are answered by the commit.
    pub(super) jobs: usize,
    /// How long it may idle.
    pub(super) patience: Duration,
}

impl Company {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            known: 0,
            made: now,
            flush: Duration::ZERO,
            resting: 0,
            rest: 1,
        }
    }

    /// What a commit that begins now waits for. After a pause that is nothing: nobody is known to
    /// be about to come.
    pub(super) fn expected(&mut self, now: Instant) -> Expected {
        let patience = (self.flush / 2).min(limits::COMPANY_WAIT_MAX);
        if now.duration_since(self.made) > patience {
            return Expected::default();
        }
        if self.resting > 0 {
            self.resting -= 1;
            return Expected::default();
        }
        let jobs = self.known.min(limits::WRITE_BATCH_MAX);
        Expected { jobs, patience }
    }

    /// Notes whether all came that a commit waited for.
    pub(super) fn came(&mut self, all: bool) {
        if all {
            self.rest = 1;
            return;
        }
        self.resting = self.rest;
        self.rest = (self.rest * 2).min(REST_MAX);
    }

    /// Notes a commit of so many jobs, how long its flush took, and how many wait now.
    pub(super) fn committed(&mut self, jobs: usize, waiting: usize, took: Duration, now: Instant) {
        // A disk that stands still once is not slow, so a mean of the last few, without its tops.
        let took = took.min(limits::COMPANY_WAIT_MAX * 2);
        self.flush = match self.flush.is_zero() {
            true => took,
            false => (self.flush * 7 + took) / 8,
        };
        self.known = jobs + waiting;
        self.made = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLUSH: Duration = Duration::from_millis(3);
    const STEP: Duration = Duration::from_micros(50);

    /// A writer and its clients on a clock of their own.
    struct Model {
        now: Instant,
        company: Company,
        /// When jobs come, the next one first.
        coming: std::collections::VecDeque<Instant>,
        waited: Duration,
    }

    impl Model {
        fn new(coming: impl IntoIterator<Item = Duration>) -> Self {
            let now = Instant::now();
            Self {
                now,
                company: Company::new(now),
                coming: coming.into_iter().map(|after| now + after).collect(),
                waited: Duration::ZERO,
            }
        }

        fn take(&mut self) -> usize {
            let there = self.coming.iter().take_while(|at| **at <= self.now).count();
            self.coming.drain(..there);
            there
        }

        /// One commit, as the writer makes it; returns how many jobs it had.
        fn commit(&mut self) -> usize {
            self.now = self.now.max(self.coming[0]);
            let begun = self.now;
            let mut jobs = self.take();
            let Expected {
                jobs: all,
                patience,
            } = self.company.expected(self.now);
            if jobs < all {
                while jobs < all && self.now < begun + patience {
                    self.now += STEP;
                    jobs += self.take();
                }
                self.company.came(jobs >= all);
                self.waited += self.now - begun;
            }
            self.now += FLUSH;
            let waiting = self.coming.iter().take_while(|at| **at <= self.now);
            let waiting = waiting.count();
            self.company.committed(jobs, waiting, FLUSH, self.now);
            jobs
        }

        /// Those who were answered come again, one after the other.
        fn return_of(&mut self, jobs: usize) {
            for nth in 1..=jobs {
                let at = self.now + STEP * u32::try_from(nth).unwrap();
                self.coming.push_back(at);
            }
            self.coming.make_contiguous().sort();
        }
    }

    #[test]
    fn posters_who_wait_for_their_answers_share_every_flush() {
        for clients in [1, 2, 16, 24] {
            let mut model = Model::new(vec![Duration::ZERO; clients]);
            // Some came late at first.
            for at in model.coming.iter_mut().skip(clients / 2) {
                *at += FLUSH / 2;
            }
            for round in 0..100 {
                let jobs = model.commit();
                assert!(
                    round < 70 || jobs == clients,
                    "{jobs} of {clients}, {round}"
                );
                model.return_of(jobs);
            }
        }
    }

    #[test]
    fn posters_who_wait_for_nothing_are_hardly_ever_waited_for() {
        let mut model = Model::new((1..4000).map(Duration::from_millis));
        let begun = model.now;
        while model.coming.len() > 10 {
            model.commit();
        }
        let share = model.waited.as_secs_f64() / (model.now - begun).as_secs_f64();
        assert!(share < 0.03, "{share}");
    }

    #[test]
    fn a_poster_who_is_alone_never_waits() {
        let mut model = Model::new([Duration::ZERO]);
        for _ in 0..100 {
            let jobs = model.commit();
            model.return_of(jobs);
        }
        assert_eq!(model.waited, Duration::ZERO);
    }
}
