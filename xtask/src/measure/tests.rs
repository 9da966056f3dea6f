//! Small files on the tape, and limits at their edges.

use std::path::Path;

use super::tape::{Length, Tape, percentile};
use super::{limits, measure};
use crate::source::Source;

fn check_row(text: &str, expect: &str) {
    let source = Source::parse(Path::new("src/x.rs"), text.to_owned()).unwrap();
    assert_eq!(measure(&[source]).row("x"), expect);
}

#[test]
fn an_empty_workspace_has_a_row() {
    assert_eq!(
        Tape::default().row("x"),
        "| x | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 |"
    );
    assert!(limits::check(&Tape::default()).is_empty());
}

#[test]
fn lines_are_told_apart() {
    let text = "//! Doc.\n\n/// Doc.\n// Note.\nfn a() {\n    b.unwrap();\n}\n";
    check_row(
        text,
        "| x | 1 | 3 | 7 | 7 | 666 | 333 | 1 | 3 | 3 | 3 | 3 |",
    );
}

#[test]
fn inline_tests_do_not_count() {
    let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn t() { x.unwrap(); }\n}\n";
    check_row(text, "| x | 1 | 1 | 1 | 1 | 0 | 0 | 0 | 1 | 1 | 1 | 1 |");
}

fn lengths(lines: impl IntoIterator<Item = usize>) -> Vec<Length> {
    lines
        .into_iter()
        .map(|lines| Length {
            lines,
            of: format!("f{lines}"),
        })
        .collect()
}

#[test]
fn percentiles_take_the_nearest_rank() {
    let check = |percent, expect| assert_eq!(percentile(&lengths(1..=100), percent), expect);
    check(50, 50);
    check(99, 99);
    check(100, 100);
    assert_eq!(percentile(&lengths([7]), 50), 7);
}

fn check_limits(tape: &Tape, expect: &[&str]) {
    assert_eq!(limits::check(tape), expect);
}

#[test]
fn a_limit_may_be_reached_but_not_passed() {
    let functions = |longest| lengths([1; 199].into_iter().chain([longest]));
    check_limits(
        &Tape {
            functions: functions(100),
            ..Tape::default()
        },
        &[],
    );
    let sentence = "function length p100 is 101 lines, past 100; the longest: f101 (101)";
    check_limits(
        &Tape {
            functions: functions(101),
            ..Tape::default()
        },
        &[sentence],
    );
    let sentence = "file length p50 is 181 lines, past 180; the longest: f181 (181)";
    check_limits(
        &Tape {
            files: lengths([181]),
            ..Tape::default()
        },
        &[sentence],
    );
}

#[test]
fn unwraps_are_limited_by_the_amount_of_code() {
    let tape = |count, code| Tape {
        unwraps: vec!["f:1".to_owned(); count],
        code,
        ..Tape::default()
    };
    check_limits(&tape(1, 10), &[]);
    check_limits(&tape(2, 2000), &[]);
    let sentence = "2 calls of unwrap or expect outside tests, past 1: f:1, f:1";
    check_limits(&tape(2, 1999), &[sentence]);
}
