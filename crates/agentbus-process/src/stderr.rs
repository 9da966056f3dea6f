//! Keeps the last lines of a program's standard error.
//!
//! Reading it all is what keeps a talkative program from blocking on a full pipe; keeping
//! little is what bounds memory. Text is for people, so long lines are cut and bytes that are
//! not UTF-8 are replaced.

use std::collections::VecDeque;

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::limits::{Limits, READ_BYTES};

/// The last lines seen so far, and the line that is being received.
#[derive(Debug)]
pub(crate) struct Tail {
    lines: VecDeque<String>,
    partial: Vec<u8>,
    /// Whether a line is being received, even if nothing of it is kept.
    in_line: bool,
    max_lines: usize,
    max_line_bytes: usize,
}

/// Reads to the end, reports every line, and returns the last ones.
pub(crate) async fn drain(
    mut reader: impl AsyncRead + Unpin,
    limits: &Limits,
    report: impl Fn(&str),
) -> Vec<String> {
    let mut tail = Tail::new(limits);
    let mut chunk = Vec::with_capacity(READ_BYTES);
    loop {
        chunk.clear();
        // A failed read ends the tail like an end: the exit itself is reported all the same.
        match reader.read_buf(&mut chunk).await {
            Ok(count) if count > 0 => tail.push(&chunk, &report),
            _ => break,
        }
    }
    tail.end_line(&report);
    tail.lines.into()
}

impl Tail {
    fn new(limits: &Limits) -> Self {
        Self {
            lines: VecDeque::new(),
            partial: Vec::new(),
            in_line: false,
            max_lines: limits.stderr_lines,
            max_line_bytes: limits.stderr_line_bytes,
        }
    }

    fn push(&mut self, chunk: &[u8], report: &impl Fn(&str)) {
        let mut rest = chunk;
        while let Some(newline) = memchr::memchr(b'\n', rest) {
            self.keep(&rest[..newline]);
            self.in_line = true;
            self.end_line(report);
            rest = &rest[newline + 1..];
        }
        self.in_line |= !rest.is_empty();
        self.keep(rest);
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = self.max_line_bytes - self.partial.len();
        self.partial
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end_line(&mut self, report: &impl Fn(&str)) {
        if !std::mem::take(&mut self.in_line) {
            return;
        }
        let line = String::from_utf8_lossy(&self.partial).into_owned();
        self.partial.clear();
        report(&line);
        if self.lines.len() == self.max_lines {
            self.lines.pop_front();
        }
        if self.max_lines > 0 {
            self.lines.push_back(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn check(chunks: &[&str], kept: &[&str], reported: usize) {
        let limits = Limits {
            stderr_lines: 2,
            stderr_line_bytes: 4,
            ..Limits::default()
        };
        let seen = RefCell::new(0);
        let report = |_: &str| *seen.borrow_mut() += 1;
        let mut tail = Tail::new(&limits);
        for chunk in chunks {
            tail.push(chunk.as_bytes(), &report);
        }
        tail.end_line(&report);
        assert_eq!(Vec::from(tail.lines), kept, "{chunks:?}");
        assert_eq!(seen.into_inner(), reported, "{chunks:?}");
    }

    #[test]
    fn keeps_the_last_lines_and_cuts_long_ones() {
        check(&[], &[], 0);
        check(&["a\n"], &["a"], 1);
        check(&["a\nb\nc\n"], &["b", "c"], 3);
        check(&["ab", "cd", "ef", "\nx"], &["abcd", "x"], 2);
        check(&["a\n\n"], &["a", ""], 2);
        check(&["a", "\n"], &["a"], 1);
    }

    #[test]
    fn keeps_nothing_if_told_so() {
        let limits = Limits {
            stderr_lines: 0,
            stderr_line_bytes: 0,
            ..Limits::default()
        };
        let mut tail = Tail::new(&limits);
        tail.push(b"a\nb", &|_| ());
        tail.end_line(&|_| ());
        assert!(tail.lines.is_empty());
    }
}
