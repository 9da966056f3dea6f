//! The measuring tape: what is counted, and how it is shown.

use crate::source::Source;

/// The head of the table, in Markdown so that it can be copied into a document.
pub(super) const HEADER: &str = "\
| crate | files | code | file p50 | file max | doc/1000 | note/1000 | unw | fn p50 | p90 | p99 | max |
|---|---|---|---|---|---|---|---|---|---|---|---|";

/// A length and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Length {
    pub(super) lines: usize,
    /// `file` or `file:line function`.
    pub(super) of: String,
}

/// What was counted over any number of files.
#[derive(Debug, Clone, Default)]
pub(super) struct Tape {
    /// The production lines of each file.
    pub(super) files: Vec<Length>,
    /// The lines of each function.
    pub(super) functions: Vec<Length>,
    /// Where `.unwrap()` and `.expect("…")` are called.
    pub(super) unwraps: Vec<String>,
    /// Lines that are neither blank nor a comment.
    pub(super) code: usize,
    /// Lines of `///` and `//!`.
    pub(super) docs: usize,
    /// Lines of plain `//`.
    pub(super) notes: usize,
}

impl Tape {
    /// Counts one file.
    pub(super) fn read(&mut self, source: &Source) {
        let path = source.path().display();
        source
            .lines()
            .for_each(|line| self.read_line(line.trim_start()));
        self.files.push(Length {
            lines: source.lines().count(),
            of: path.to_string(),
        });
        self.functions
            .extend(source.functions().map(|function| Length {
                lines: function.length,
                of: format!("{path}:{} {}", function.line, function.name),
            }));
        self.unwraps.extend(
            source
                .unwraps()
                .into_iter()
                .map(|line| format!("{path}:{line}")),
        );
    }

    fn read_line(&mut self, line: &str) {
        if line.starts_with("///") || line.starts_with("//!") {
            self.docs += 1;
        } else if line.starts_with("//") {
            self.notes += 1;
        } else if !line.is_empty() {
            self.code += 1;
        }
    }

    /// Adds what another tape counted.
    pub(super) fn add(&mut self, other: &Self) {
        self.files.extend_from_slice(&other.files);
        self.functions.extend_from_slice(&other.functions);
        self.unwraps.extend_from_slice(&other.unwraps);
        self.code += other.code;
        self.docs += other.docs;
        self.notes += other.notes;
    }

    /// Writes one row of the table.
    pub(super) fn row(&self, name: &str) -> String {
        let cells = [
            self.files.len(),
            self.code,
            percentile(&self.files, 50),
            percentile(&self.files, 100),
            self.per_thousand(self.docs),
            self.per_thousand(self.notes),
            self.unwraps.len(),
            percentile(&self.functions, 50),
            percentile(&self.functions, 90),
            percentile(&self.functions, 99),
            percentile(&self.functions, 100),
        ];
        format!(
            "| {name} | {} |",
            cells.map(|cell| cell.to_string()).join(" | ")
        )
    }

    /// Relates a count to a thousand lines of code.
    fn per_thousand(&self, count: usize) -> usize {
        count * 1000 / self.code.max(1)
    }
}

/// Returns the smallest length that covers `percent` of all; zero when there are none.
pub(super) fn percentile(lengths: &[Length], percent: usize) -> usize {
    let mut sorted: Vec<usize> = lengths.iter().map(|length| length.lines).collect();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}
