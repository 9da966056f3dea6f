//! A service that ended while tests needed it: every test with it fails then, and only its log says
//! why.

use std::fs;
use std::path::Path;

use super::process::Record;

/// Lines of a log that are shown.
const LINES_SHOWN: usize = 15;

/// What to say of the service of this folder if its process is gone though its record is there.
pub(super) fn last_words(name: &str, folder: &Path) -> Option<String> {
    let record = Record::read(folder)?;
    if record.is_alive() {
        return None;
    }
    let log = fs::read(folder.join("log")).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<_> = log.lines().collect();
    let shown = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
    Some(format!(
        "{name} ended while tests needed it; these are the last lines of its log:\n{}",
        shown.join("\n")
    ))
}
