//! What test runners print, and how it is counted.

use super::count::Count;
use super::step::tee;

/// Counts the lines of a run that ended in success or not.
fn check(lines: &str, success: bool, expect: &str) {
    let mut copy = Vec::new();
    let count = tee(Some(lines.as_bytes()), &mut copy);
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
