//! A program in an archive: fetched once for each version, held against its pin at every start.
//!
//! It is unpacked with the system's `tar` or `unzip` into a directory that gets its name last, so
//! that a half-unpacked one is never started. The archive's hash is kept beside it, because a pin
//! may come later than the program.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use agentbus_process::Program;
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::time::{sleep, timeout};

use super::index::{Binary, Entry};
use crate::worker::limits::{
    ARCHIVE_BYTES_MAX, ARCHIVE_TIMEOUT, UNPACKED_BYTES_MAX, UNPACKED_FILES_MAX,
};
use crate::worker::web;

/// Why an agent without an archive does not meet a pinned hash.
pub(super) const NOTHING_TO_HOLD: &str = "a hash is pinned, and the registry has no archive of it \
     for this machine to hold against it; pin its version alone if that is enough";

/// How often what is being unpacked is measured: what comes in between is seconds of one disk.
const LOOK: Duration = Duration::from_millis(200);

/// Returns where the program of an entry is; unpacked if it must be.
pub(super) async fn installed(
    entry: &Entry,
    binary: &Binary,
    hash: Option<&str>,
    directory: &Path,
) -> Result<PathBuf, String> {
    let Some(archive) = &binary.archive else {
        return match hash {
            None => Ok(PathBuf::from(&binary.cmd)),
            Some(_) => Err(NOTHING_TO_HOLD.to_owned()),
        };
    };
    let plain = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte))
    };
    let named = [&entry.id, &entry.version];
    if named
        .iter()
        .any(|name| !plain(name) || name.is_empty() || name.starts_with('.'))
    {
        return Err("its id or version is no name for a directory".to_owned());
    }
    let command = inside(&binary.cmd)?;
    let agents = directory.join("agents").join(&entry.id);
    let home = agents.join(&entry.version);
    // Not by its extension: a version has dots of its own.
    let digest = agents.join(format!("{}.sha256", entry.version));
    if !home.exists() {
        let unpacked = unpack(archive, hash, &home, &digest).await;
        unpacked.map_err(|why| format!("{archive} cannot be installed: {why}"))?;
    }
    if let Some(wanted) = hash {
        let kept = tokio::fs::read_to_string(&digest).await.unwrap_or_default();
        if !wanted.eq_ignore_ascii_case(kept.trim()) {
            return Err(format!(
                "{} came from an archive whose SHA-256 is {}, and {wanted} is pinned; remove that \
                 directory to fetch it anew",
                home.display(),
                Some(kept.trim())
                    .filter(|kept| !kept.is_empty())
                    .unwrap_or("not known"),
            ));
        }
    }
    held(&home, &home.join(command))
}

/// Reads a path that leads nowhere but down.
fn inside(command: &str) -> Result<PathBuf, String> {
    let down: PathBuf = Path::new(command)
        .components()
        .filter(|part| *part != Component::CurDir)
        .collect();
    let normal = |part: Component<'_>| matches!(part, Component::Normal(_));
    match down.components().next().is_some() && down.components().all(normal) {
        true => Ok(down),
        false => Err(format!("its program {command} is not in its archive")),
    }
}

/// Sees to it that no link leads out of an archive.
fn held(home: &Path, command: &Path) -> Result<PathBuf, String> {
    let words = |error: io::Error| format!("{}: {error}", command.display());
    let found = command.canonicalize().map_err(words)?;
    match found.starts_with(home.canonicalize().map_err(words)?) {
        true => Ok(found),
        false => Err(format!(
            "its program leads out of its archive, to {}",
            found.display()
        )),
    }
}

/// Fetches an archive and unpacks it.
async fn unpack(url: &str, hash: Option<&str>, home: &Path, kept: &Path) -> Result<(), String> {
    let words = |error: io::Error| error.to_string();
    let mut work = home.to_owned().into_os_string();
    work.push(format!(".{}.partial", std::process::id()));
    let work = PathBuf::from(work);
    tokio::fs::create_dir_all(&work).await.map_err(words)?;
    let file = work.join("archive");
    let fetched = timeout(ARCHIVE_TIMEOUT, fetch(url, &file)).await;
    let done = match fetched {
        Ok(Ok(digest)) => match hash {
            Some(wanted) if !wanted.eq_ignore_ascii_case(&digest) => {
                Err(format!("its SHA-256 is {digest}, and {wanted} is pinned"))
            }
            _ => extract(url, &file, &work).await.map(|()| digest),
        },
        Ok(Err(why)) => Err(why),
        Err(_) => Err(format!(
            "it did not arrive within {} s",
            ARCHIVE_TIMEOUT.as_secs()
        )),
    };
    match done {
        Ok(digest) => {
            let _ = tokio::fs::remove_file(&file).await;
            // Before the name, so that no program is there without its hash.
            tokio::fs::write(kept, digest).await.map_err(words)?;
            tokio::fs::rename(&work, home).await.map_err(words)
        }
        Err(why) => {
            let _ = tokio::fs::remove_dir_all(&work).await;
            Err(why)
        }
    }
}

/// Writes what a URL holds into a file; returns its SHA-256.
async fn fetch(url: &str, file: &Path) -> Result<String, String> {
    let words = |error: io::Error| error.to_string();
    let mut pieces = web::fetch(url).await?.bytes_stream();
    let mut file = tokio::fs::File::create(file).await.map_err(words)?;
    let (mut digest, mut length) = (Sha256::new(), 0);
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| error.to_string())?;
        length += piece.len() as u64;
        if length > ARCHIVE_BYTES_MAX {
            return Err(format!("it is longer than {ARCHIVE_BYTES_MAX} bytes"));
        }
        digest.update(&piece);
        file.write_all(&piece).await.map_err(words)?;
    }
    file.flush().await.map_err(words)?;
    let digest = digest.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Unpacks with the program for the kind of archive; both refuse paths that lead elsewhere.
async fn extract(url: &str, file: &Path, into: &Path) -> Result<(), String> {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let program = if path.ends_with(".zip") {
        Program::new("unzip")
            .arg("-q")
            .arg(file)
            .arg("-d")
            .arg(into)
    } else {
        // Whom a file belongs to, and who may do what with it, is ours to say.
        let ours = ["--no-same-owner", "--no-same-permissions", "-xf"];
        Program::new("tar").args(ours).arg(file).arg("-C").arg(into)
    };
    let most = (UNPACKED_FILES_MAX, UNPACKED_BYTES_MAX);
    let too_much = async {
        loop {
            sleep(LOOK).await;
            if let Err(why) = measured(into, most).await {
                return why;
            }
        }
    };
    tokio::select! {
        ran = program.run(bytes::Bytes::new()) => {
            let output = ran.map_err(|error| error.to_string())?;
            if !output.outcome.success() {
                return Err(format!("it cannot be unpacked: {}", output.outcome));
            }
        }
        why = too_much => return Err(why),
    }
    measured(into, most).await
}

/// Checks that a directory holds no more than so many files and bytes.
async fn measured(directory: &Path, most: (usize, u64)) -> Result<(), String> {
    let directory = directory.to_owned();
    let work = move || measure(&directory, most);
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(error.to_string()))
}

fn measure(directory: &Path, (files_max, bytes_max): (usize, u64)) -> Result<(), String> {
    let (mut files, mut bytes) = (0, 0);
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        // What goes away while it is looked at takes no room.
        let Ok(entries) = std::fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(about) = entry.metadata() else {
                continue;
            };
            files += 1;
            bytes += about.len();
            if files > files_max || bytes > bytes_max {
                return Err(format!(
                    "it unpacks to more than {files_max} files or {bytes_max} bytes"
                ));
            }
            if about.is_dir() {
                open.push(entry.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_inside_its_archive_or_nowhere() {
        for command in ["agent", "./agent", "bin/agent", "./bin/./agent"] {
            assert!(inside(command).is_ok(), "{command}");
        }
        for command in ["/bin/sh", "../../bin/sh", "bin/../../sh", "", ".", "./.."] {
            assert!(inside(command).is_err(), "{command}");
        }
    }

    #[test]
    fn a_link_does_not_lead_out_of_an_archive() {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().join("home");
        std::fs::create_dir(&home).unwrap();
        std::os::unix::fs::symlink("/bin/sh", home.join("agent")).unwrap();
        let error = held(&home, &home.join("agent")).unwrap_err();
        assert!(error.contains("leads out of its archive"), "{error}");
        std::fs::write(home.join("own"), "").unwrap();
        std::os::unix::fs::symlink("own", home.join("linked")).unwrap();
        held(&home, &home.join("linked")).unwrap();
    }

    #[test]
    fn what_is_unpacked_has_a_size_and_a_number() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("deep")).unwrap();
        std::fs::write(directory.path().join("deep/file"), [0; 1000]).unwrap();
        assert!(measure(directory.path(), (2, 1_000_000)).is_ok());
        assert!(measure(directory.path(), (1, 1_000_000)).is_err());
        assert!(measure(directory.path(), (2, 999)).is_err());
    }
}
