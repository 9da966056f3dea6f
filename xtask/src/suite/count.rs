//! How many passed and failed, read from what test runners print.

use std::fmt;

/// A running count over the lines of a test runner, or the result of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) passed: usize,
    pub(super) failed: usize,
    /// Those among the passed that failed at first.
    pub(super) flaky: usize,
    /// Test programs that were announced.
    started: usize,
    /// Summaries that were seen.
    summaries: usize,
}

impl Count {
    /// Counts a check as one.
    pub(super) fn of_check(success: bool) -> Self {
        let failed = usize::from(!success);
        Self {
            passed: 1 - failed,
            failed,
            ..Self::default()
        }
    }

    /// Adds another count.
    pub(super) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.flaky += other.flaky;
        self.started += other.started;
        self.summaries += other.summaries;
    }

    /// Reads one line of a test runner.
    pub(super) fn read_line(&mut self, line: &str) {
        let line = without_colour(line);
        if is_start(&line) {
            self.started += 1;
        } else if let Some(summary) = summary(&line) {
            self.add(parse_summary(summary));
        }
    }

    /// Takes all that failed for passed, since they passed when they were run again.
    pub(super) fn forgiven(mut self) -> Self {
        self.flaky += self.failed;
        self.passed += self.failed;
        self.failed = 0;
        self
    }

    /// Settles the count once the runner has ended.
    ///
    /// A failed run has at least one failure; test programs that began and never reported count as
    /// one each. A successful run must have reported at all.
    pub(super) fn settle(mut self, success: bool) -> Self {
        let silent = self.started.saturating_sub(self.summaries);
        self.failed += match (success, self.summaries) {
            (true, 0) => 1,
            (true, _) => 0,
            (false, _) => silent.max(usize::from(self.failed == 0)),
        };
        self
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// Recognises the line with which cargo announces a test program.
fn is_start(line: &str) -> bool {
    let line = line.trim_start();
    ["Running unittests ", "Running tests/", "Doc-tests "]
        .iter()
        .any(|start| line.starts_with(start))
}

/// Finds the part of a line that lists the results, for cargo's own harness and for nextest.
///
/// The output of a failed test may quote such a line, but both runners indent what they quote.
fn summary(line: &str) -> Option<&str> {
    if let Some(result) = line.strip_prefix("test result: ") {
        return result.split_once(". ").map(|(_, counts)| counts);
    }
    let rest = line.trim_start().strip_prefix("Summary [")?;
    rest.split_once(" run: ").map(|(_, counts)| counts)
}

/// Adds up `3 passed; 1 failed; 0 ignored` or `3 passed (1 slow), 1 failed, 1 timed out`.
fn parse_summary(counts: &str) -> Count {
    let mut count = Count {
        flaky: flaky(counts),
        summaries: 1,
        ..Count::default()
    };
    for part in without_asides(counts).split([';', ',']) {
        let (number, word) = part.trim().split_once(' ').unwrap_or_default();
        let number: usize = number.parse().unwrap_or(0);
        match word.trim() {
            "passed" => count.passed += number,
            "failed" | "timed out" | "exec failed" => count.failed += number,
            _ => {}
        }
    }
    count
}

/// How many of those that passed failed at first, which nextest says in parentheses.
fn flaky(counts: &str) -> usize {
    let mut parts = counts.split(['(', ')', ',']);
    let number = parts.find_map(|part| part.trim().strip_suffix(" flaky")?.parse().ok());
    number.unwrap_or(0)
}

/// Drops what stands in parentheses.
fn without_asides(text: &str) -> String {
    let mut depth = 0_usize;
    let keep = |letter: &char| {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => return depth == 0,
        }
        false
    };
    text.chars().filter(keep).collect()
}

/// Drops terminal colours: an escape, a bracket, and all up to the letter that ends it.
pub(super) fn without_colour(line: &str) -> String {
    let mut pieces = line.split("\u{1b}[");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let end = piece.find(|letter: char| letter.is_ascii_alphabetic());
        plain.push_str(end.map_or("", |end| &piece[end + 1..]));
    }
    plain
}
