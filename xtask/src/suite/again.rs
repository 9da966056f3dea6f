//! A second run of the few tests that failed.
//!
//! Tests with real servers and killed processes can meet an accident of the machine, and a run of
//! all of them takes half an hour. So up to [`TESTS_MAX`] failed tests are run once more, one at a
//! time. One that passes then counts as passed and is named as flaky: a defect to mend, of the
//! test or of what it tests, but not one of the change that happened to meet it.

use std::ffi::OsStr;
use std::process::Command;

use super::count::{Count, without_colour};
use crate::cargo;
use crate::workspace::Workspace;

/// Most failed tests that are run again: more than these are no accident.
const TESTS_MAX: usize = 3;

/// What cargo says of a program with failed tests.
const HINT: &str = "test failed, to rerun pass `";

/// The tests that failed and the programs that hold them, as cargo's own harness names them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Failed {
    tests: Vec<String>,
    /// `--lib`, or `--test NAME`, for each program.
    programs: Vec<String>,
    /// Programs that said themselves that tests of theirs failed.
    told: usize,
}

impl Failed {
    /// Reads one line of a test runner.
    pub(super) fn read_line(&mut self, line: &str) {
        let line = without_colour(line);
        if let Some(test) = failed_test(&line) {
            self.tests.push(test.to_owned());
        } else if line.starts_with("test result: FAILED") {
            self.told += 1;
        } else if let Some((_, hint)) = line.split_once(HINT) {
            // The package stands first; the tests of all packages are built already.
            let words = hint.trim_end_matches('`').split_whitespace().skip(2);
            self.programs.push(words.collect::<Vec<_>>().join(" "));
        }
    }

    /// Adds what another output told.
    pub(super) fn add(&mut self, other: Self) {
        self.tests.extend(other.tests);
        self.programs.extend(other.programs);
        self.told += other.told;
    }

    /// The words for cargo that run them again; `None` where that would prove nothing: too many
    /// failed, a program died or failed without a failed test, or not all of them are known by name.
    pub(super) fn words(&self, count: Count) -> Option<Vec<String>> {
        let has_reason = self.told == self.programs.len() && self.told > 0;
        let is_known = count.failed == self.tests.len() && has_reason;
        let is_doc = self.programs.iter().any(|program| program == "--doc");
        if !is_known || is_doc || !(1..=TESTS_MAX).contains(&count.failed) {
            return None;
        }
        let mut programs = self.programs.clone();
        programs.sort();
        programs.dedup();
        let programs = programs.iter().flat_map(|program| program.split(' '));
        let fixed = ["test", "--workspace", "--no-fail-fast"].into_iter();
        let harness = ["--", "--exact", "--test-threads=1"].into_iter();
        let tests = self.tests.iter().map(String::as_str);
        let words = fixed.chain(programs).chain(harness).chain(tests);
        Some(words.map(ToOwned::to_owned).collect())
    }

    /// The call that runs them again, with what the first one was told.
    pub(super) fn call(
        &self,
        count: Count,
        workspace: &Workspace,
        first: &Command,
    ) -> Option<Command> {
        let words = self.words(count)?;
        // What stands before the subcommand limits the time of each program.
        let before = first.get_args().map_while(OsStr::to_str);
        let before = before.take_while(|word| *word != "test");
        let words: Vec<_> = before.chain(words.iter().map(String::as_str)).collect();
        let mut command = cargo::command(workspace, &words);
        for (name, value) in first.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Some(command)
    }

    /// What is counted once the second run has ended.
    pub(super) fn settle(&self, first: Count, again: Count) -> Count {
        if again.failed > 0 || again.passed < self.tests.len() {
            return first;
        }
        for test in &self.tests {
            println!("flaky: {test} failed once and passed alone; mend it, or what it tests");
        }
        first.forgiven()
    }
}

/// `test NAME ... FAILED`, where the name may be followed by how it is to end.
fn failed_test(line: &str) -> Option<&str> {
    let test = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
    Some(test.split(" - should panic").next().unwrap_or(test))
}
