//! The disk space that a run takes, and where it takes it.

use std::path::Path;

use tempfile::TempDir;

use crate::failure::Failure;
use crate::workspace::Workspace;

/// What a first run fills: everything built for the tests, and the data of brokers and of tests.
const NEEDED_GB: u64 = 20;

/// A temporary directory for all that tests write outside the project. It goes with the run, and
/// with it what a test left that was killed or that holds its server until its process ends.
pub(super) fn temporary() -> Result<TempDir, Failure> {
    // A short name: paths of Unix sockets end at 107 bytes.
    tempfile::Builder::new()
        .prefix("ab")
        .rand_bytes(4)
        .tempdir()
        .map_err(|error| Failure::new(format!("cannot make a temporary directory: {error}")))
}

/// Warns where the disk may become full: servers end then, and tests fail in ways that do not say so.
pub(super) fn warn(workspace: &Workspace) {
    // A first run is one that finds nothing built.
    let is_first = !workspace.root().join("target/debug/deps").is_dir();
    if let Some(words) = free(workspace.root()).and_then(|free| scarce(free, is_first)) {
        eprintln!("warning: {words}");
    }
}

/// What to say of so many free bytes, if they may not be enough.
fn scarce(free: u64, is_first: bool) -> Option<String> {
    let free = free / 1_000_000_000;
    let needed = if is_first { NEEDED_GB } else { NEEDED_GB / 4 };
    (free < needed).then(|| {
        format!("only {free} GB are free on this disk, and a run may need {needed}; brokers end when it is full")
    })
}

/// Free bytes on the disk of a folder, where that can be told.
fn free(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::{free, scarce};

    #[test]
    fn a_disk_that_may_become_full_is_told() {
        assert_eq!(scarce(20_000_000_000, true), None);
        let words = scarce(19_999_999_999, true).unwrap();
        assert!(words.starts_with("only 19 GB are free"), "{words}");
        assert_eq!(scarce(5_000_000_000, false), None);
        assert!(scarce(4_999_999_999, false).unwrap().contains("may need 5"));
    }

    #[test]
    fn the_space_of_a_folder_is_known() {
        assert!(free(std::path::Path::new("/")).is_some());
        assert_eq!(free(std::path::Path::new("/no/such/folder")), None);
    }
}
