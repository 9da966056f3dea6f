//! What test runners print, and how it is counted.

use std::ffi::OsStr;

use super::again::Failed;
use super::count::Count;
use super::step::tee;
use crate::cargo::line;
use crate::workspace::Workspace;

/// Counts the lines of a run that ended in success or not.
fn check(lines: &str, success: bool, expect: &str) {
    let mut copy = Vec::new();
    let (count, _) = tee(Some(lines.as_bytes()), &mut copy);
    assert_eq!(count.settle(success).to_string(), expect);
    assert_eq!(
        String::from_utf8(copy).unwrap().trim_end(),
        lines.trim_end()
    );
}

#[test]
fn the_own_harness_is_added_up_over_programs() {
    let lines = "     Running unittests src/lib.rs (target/debug/deps/a-1)\n\
                 test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; \
                 finished in 0.00s\n\
                 test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n";
    check(lines, false, "5 passed, 1 failed");
}

#[test]
fn nextest_is_read_with_asides_and_colours() {
    check(
        "     Summary [   0.006s] 3 tests run: 3 passed, 2 skipped",
        true,
        "3 passed, 0 failed",
    );
    let cancelled = "     Summary [   1.2s] 6/9 tests run: 3 passed (1 slow, 1 flaky), 1 failed, \
                     1 exec failed, 1 timed out, 2 skipped";
    check(cancelled, false, "3 passed, 3 failed");
    let colour = "\u{1b}[31;1m     Summary\u{1b}[0m [   0.1s] \u{1b}[1m1\u{1b}[0m test run: \
                  \u{1b}[1m1\u{1b}[0m \u{1b}[32;1mpassed\u{1b}[0m, \u{1b}[1m0\u{1b}[0m skipped";
    check(colour, true, "1 passed, 0 failed");
}

#[test]
fn silence_is_never_success() {
    check(
        "error[E0308]: mismatched types",
        false,
        "0 passed, 1 failed",
    );
    check("nothing at all", true, "0 passed, 1 failed");
}

#[test]
fn a_program_that_dies_is_a_failure_beside_others() {
    let lines = "     Running unittests src/lib.rs (a)\n     Running tests/b.rs (b)\n\
                 test result: FAILED. 4 passed; 2 failed; 0 ignored\n";
    check(lines, false, "4 passed, 3 failed");
}

#[test]
fn quoted_summaries_are_not_counted() {
    let lines = "    test result: ok. 9 passed; 0 failed\ntest result: ok. 1 passed; 0 failed";
    check(lines, true, "1 passed, 0 failed");
}

#[test]
fn a_check_counts_as_one() {
    assert_eq!(Count::of_check(true).to_string(), "1 passed, 0 failed");
    assert_eq!(Count::of_check(false).to_string(), "0 passed, 1 failed");
}

/// A run in which these lines were printed, and the words with which its failures run again.
fn again(lines: &str) -> Option<String> {
    let (count, failed) = tee(Some(lines.as_bytes()), std::io::sink());
    Some(failed.words(count.settle(false))?.join(" "))
}

const ONE_FAILED: &str = "     Running tests/lanes.rs (target/debug/deps/lanes-1)\n\
    test somebody_is_told has been running for over 60 seconds\n\
    test somebody_is_told ... FAILED\n\
    test nobody_else ... ok\n\
    test result: FAILED. 1 passed; 1 failed; 0 ignored\n\
    error: test failed, to rerun pass `-p agentbus-transport-kafka --test lanes`\n\
    error: 1 target failed:\n    `-p agentbus-transport-kafka --test lanes`\n";

#[test]
fn a_few_failed_tests_are_run_again() {
    let words =
        "test --workspace --no-fail-fast --test lanes -- --exact --test-threads=1 somebody_is_told";
    assert_eq!(again(ONE_FAILED).as_deref(), Some(words));
    let panics = ONE_FAILED.replace("told ...", "told - should panic ...");
    assert_eq!(again(&panics).as_deref(), Some(words));
}

#[test]
fn many_failures_and_dead_programs_are_not_run_again() {
    assert_eq!(again(&ONE_FAILED.repeat(4)), None);
    let died = format!("{ONE_FAILED}     Running tests/b.rs (b)\n");
    assert_eq!(again(&ONE_FAILED.replace("--test lanes", "--doc")), None);
    assert_eq!(again("test result: FAILED. 1 passed; 1 failed"), None);
    let (count, failed) = tee(Some(died.as_bytes()), std::io::sink());
    assert_eq!(failed.words(count.settle(false)), None);
    let at_its_end = "error: test failed, to rerun pass `-p agentbus --test other`\n";
    assert_eq!(again(&format!("{ONE_FAILED}{at_its_end}")), None);
}

#[test]
fn what_runs_again_has_the_time_limit_of_the_first_run() {
    let workspace = Workspace::open().unwrap();
    let first = line(&workspace, "--config target.limit test --workspace");
    let (count, failed) = tee(Some(ONE_FAILED.as_bytes()), std::io::sink());
    let again = failed
        .call(count.settle(false), &workspace, &first)
        .unwrap();
    let words: Vec<_> = again.get_args().take(4).filter_map(OsStr::to_str).collect();
    assert_eq!(words, ["--config", "target.limit", "test", "--workspace"]);
}

#[test]
fn what_nextest_has_run_again_is_told() {
    let lines = "     Summary [   1.2s] 3 tests run: 3 passed (1 slow, 2 flaky), 2 skipped";
    let (count, _) = tee(Some(lines.as_bytes()), std::io::sink());
    assert_eq!(
        (count.to_string().as_str(), count.flaky),
        ("3 passed, 0 failed", 2)
    );
}

#[test]
fn a_test_that_passes_alone_is_flaky_and_one_that_fails_again_has_failed() {
    let (first, failed) = tee(Some(ONE_FAILED.as_bytes()), std::io::sink());
    let first = first.settle(false);
    let of = |tests: &[bool]| {
        let mut count = Count::default();
        tests
            .iter()
            .for_each(|test| count.add(Count::of_check(*test)));
        count
    };
    let settled = failed.settle(first, of(&[true]));
    assert_eq!(
        (settled.to_string().as_str(), settled.flaky),
        ("2 passed, 0 failed", 1)
    );
    for again in [of(&[false]), of(&[]), of(&[true, false])] {
        assert_eq!(
            failed.settle(first, again).to_string(),
            "1 passed, 1 failed"
        );
    }
    assert_eq!(Failed::default().words(Count::of_check(false)), None);
}
