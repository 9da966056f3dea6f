//! The data directory, its token and the room that is left.

use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use agentbus_server::DataDir;

use super::Check;
use super::locks::{holder, in_use};

const DIRECTORY: &str = "data directory";
const TOKEN: &str = "token file";
const SPACE: &str = "disk space";

/// Below it a bus soon has to refuse what it shall keep.
const SPACE_LOW: u64 = 1024 * MIB;

/// Below it the log of a database has no room for a burst of posts.
const SPACE_OUT: u64 = 64 * MIB;

const MIB: u64 = 1024 * 1024;

pub(super) fn checks(path: &Path) -> Vec<Check> {
    let place = path.display();
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => vec![directory(path, &found), token(path), space(path)],
        Ok(_) => vec![Check::wrong(
            DIRECTORY,
            format!("{place} is no directory"),
            "move it away, or name another directory with --data-dir",
        )],
        Err(error) if error.kind() == ErrorKind::NotFound => vec![Check::warning(
            DIRECTORY,
            format!("{place} is not there yet"),
            "`agentbus serve` makes it",
        )],
        Err(error) => vec![Check::wrong(
            DIRECTORY,
            format!("{place} cannot be looked at: {error}"),
            "let this user reach it, or name another directory with --data-dir",
        )],
    }
}

fn directory(path: &Path, found: &Metadata) -> Check {
    let place = path.display();
    if let Some(wrong) = foreign(DIRECTORY, path, found) {
        return wrong;
    }
    let mode = found.permissions().mode() & 0o777;
    if mode != 0o700 {
        let detail = format!("{place} has the permissions {mode:04o}, and a bus wants 0700");
        return Check::wrong(DIRECTORY, detail, format!("`chmod 700 {place}`"));
    }
    let user = in_use(holder(&path.join("lock")));
    Check::ok(DIRECTORY, format!("{place}{user}"))
}

/// Refuses what belongs to somebody else. Root may use everything.
fn foreign(check: &str, path: &Path, found: &Metadata) -> Option<Check> {
    let (own, owner) = (rustix::process::geteuid(), found.uid());
    if own.is_root() || own.as_raw() == owner {
        return None;
    }
    let place = path.display();
    Some(Check::wrong(
        check,
        format!("{place} belongs to another user (uid {owner})"),
        "run the bus as that user, or name another directory with --data-dir",
    ))
}

fn token(directory: &Path) -> Check {
    let path = directory.join("token");
    let place = path.display();
    let found = match fs::metadata(&path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let detail = format!("{place} is not there yet");
            return Check::warning(TOKEN, detail, "`agentbus serve` makes it");
        }
        Err(error) => {
            let detail = format!("{place} cannot be looked at: {error}");
            return Check::wrong(TOKEN, detail, "let this user reach it");
        }
    };
    if let Some(wrong) = foreign(TOKEN, &path, &found) {
        return wrong;
    }
    let mode = found.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let detail = format!("{place} has the permissions {mode:04o}, and others may use it");
        let hint = format!("`chmod 600 {place}`, and delete it to have a new one made");
        return Check::wrong(TOKEN, detail, hint);
    }
    match fs::read_to_string(&path) {
        Ok(text) if text.trim().is_empty() => Check::wrong(
            TOKEN,
            format!("{place} is empty"),
            "delete it; `agentbus serve` makes a new one",
        ),
        Ok(text) if !DataDir::is_token(text.trim()) => Check::wrong(
            TOKEN,
            format!("{place} holds no token that a bus would take: one is long, without blanks"),
            "delete it; `agentbus serve` makes a new one",
        ),
        Ok(_) => Check::ok(TOKEN, place.to_string()),
        Err(error) => Check::wrong(
            TOKEN,
            format!("{place} cannot be read: {error}"),
            "make it readable for this user, or delete it to have a new one made",
        ),
    }
}

fn space(path: &Path) -> Check {
    let place = path.display();
    let free = match rustix::fs::statvfs(path) {
        Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize),
        Err(error) => {
            let detail = format!("the room at {place} cannot be told: {error}");
            return Check::warning(SPACE, detail, "look at it with `df`");
        }
    };
    let detail = format!("{} MiB are free at {place}", free / MIB);
    let hint = "make room, or name a directory on another disk with --data-dir";
    match free {
        0..SPACE_OUT => Check::wrong(SPACE, detail, hint),
        SPACE_OUT..SPACE_LOW => Check::warning(SPACE, detail, hint),
        _ => Check::ok(SPACE, detail),
    }
}
