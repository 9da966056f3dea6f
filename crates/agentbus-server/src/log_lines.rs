//! The newest lines of a program's log, for those who look at it from elsewhere.
//!
//! Whoever logs hands them over; nothing is read from files, and nothing survives the program. A
//! line has a number, from 1 on, and the oldest make room.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::limits;

/// The newest lines of a log. Cloning gives another handle to the same lines.
#[derive(Clone, Default)]
pub struct LogLines(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    lines: VecDeque<Box<str>>,
    /// The number of the last line that came.
    last: usize,
}

/// Lines with their numbers, and after which number the next page begins.
pub(crate) type LogPage = (Vec<(usize, String)>, usize);

impl LogLines {
    /// Takes a line. Colours are taken off, and what is too long is cut.
    pub fn push(&self, line: &str) {
        let line = cut(plain(line.trim_end()));
        let mut kept = self.0.lock();
        if kept.lines.len() == limits::LOG_LINES {
            kept.lines.pop_front();
        }
        kept.lines.push_back(line.into());
        kept.last += 1;
    }

    /// The first lines after a number, or the newest. A number that is yet to come is one of a
    /// program that ran before, so it begins anew.
    pub(crate) fn page(&self, after: Option<usize>, limit: usize) -> LogPage {
        let kept = self.0.lock();
        let gone = kept.last - kept.lines.len();
        let after = match after {
            None => kept.last.saturating_sub(limit).max(gone),
            Some(after) if after > kept.last => gone,
            Some(after) => after.max(gone),
        };
        let lines = kept.lines.iter().skip(after - gone).take(limit);
        let page: Vec<_> = (after + 1..)
            .zip(lines.map(|line| String::from(&**line)))
            .collect();
        let next = page.last().map_or(after, |(id, _)| *id);
        (page, next)
    }
}

/// A line without what colours it on a terminal.
fn plain(line: &str) -> String {
    let mut pieces = line.split("\u{1b}[");
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let end = piece.find(|c: char| c.is_ascii_alphabetic());
        text.push_str(end.map_or("", |end| &piece[end + 1..]));
    }
    text
}

fn cut(mut line: String) -> String {
    if line.len() > limits::LOG_LINE_BYTES_MAX {
        let mut end = limits::LOG_LINE_BYTES_MAX;
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line.truncate(end);
        line.push('…');
    }
    line
}

impl fmt::Debug for LogLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogLines").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers((page, next): &LogPage) -> (Vec<usize>, usize) {
        (page.iter().map(|(id, _)| *id).collect(), *next)
    }

    #[test]
    fn pages_follow_each_other() {
        let log = LogLines::default();
        assert_eq!(numbers(&log.page(None, 2)), (vec![], 0));
        for line in ["a\n", "b\n", "c\n"] {
            log.push(line);
        }
        assert_eq!(log.page(None, 1), (vec![(3, "c".to_owned())], 3));
        assert_eq!(numbers(&log.page(Some(0), 2)), (vec![1, 2], 2));
        assert_eq!(numbers(&log.page(Some(2), 2)), (vec![3], 3));
        assert_eq!(numbers(&log.page(Some(3), 2)), (vec![], 3));
        let anew = log.page(Some(99), 9);
        assert_eq!(numbers(&anew), (vec![1, 2, 3], 3));
    }

    #[test]
    fn the_oldest_make_room() {
        let log = LogLines::default();
        for number in 1..=limits::LOG_LINES + 2 {
            log.push(&number.to_string());
        }
        let (page, next) = log.page(Some(0), 1);
        assert_eq!((page, next), (vec![(3, "3".to_owned())], 3));
        let (all, _) = log.page(Some(1), usize::MAX);
        assert_eq!(all.len(), limits::LOG_LINES);
    }

    #[test]
    fn a_line_is_plain_and_not_too_long() {
        let log = LogLines::default();
        log.push("\u{1b}[2mnow\u{1b}[0m \u{1b}[33m WARN\u{1b}[0m x\n");
        log.push(&"ä".repeat(limits::LOG_LINE_BYTES_MAX));
        let (page, _) = log.page(None, 2);
        assert_eq!(page[0].1, "now  WARN x");
        assert!(page[1].1.len() <= limits::LOG_LINE_BYTES_MAX + '…'.len_utf8());
        assert!(page[1].1.ends_with("ä…"));
    }
}
