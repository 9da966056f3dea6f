//! From an entry of the index to a program that can be started.
//!
//! A package is left to its runner; `npx` is told not to ask. A program in an archive is fetched
//! once for each version, checked against its pin, and unpacked with the system's `tar` or `unzip`
//! into a directory that gets its name last, so that a half-unpacked one is never started.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use agentbus_process::Program;
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::codes::Refusal;
use super::index::{Binary, Entry};
use super::{Keys, Pin};
use crate::worker::limits::{ARCHIVE_BYTES_MAX, ARCHIVE_TIMEOUT};
use crate::worker::web;

/// Returns the program of an entry, fetched if it must be.
pub(super) async fn program(
    entry: &Entry,
    keys: &Keys,
    pin: Option<&Pin>,
    directory: &Path,
) -> Result<Program, Refusal> {
    let failed = |why: String| Refusal::not_started(&entry.id, &why);
    if let Some(version) = pin.and_then(|pin| pin.version.as_ref())
        && *version != entry.version
    {
        let why = format!(
            "the registry has version {}, and {version} is pinned",
            entry.version
        );
        return Err(failed(why));
    }
    let found = &entry.distribution;
    let mut program = if let Some(npx) = &found.npx {
        // Without an answer to its question it would wait for ever.
        let program = Program::new("npx").arg("-y").arg(&npx.package);
        with(program, &npx.args, &npx.env)
    } else if let Some(uvx) = &found.uvx {
        with(Program::new("uvx").arg(&uvx.package), &uvx.args, &uvx.env)
    } else {
        let platform = platform();
        let binary = found.binary.as_ref().and_then(|all| all.get(&platform));
        let binary = binary.ok_or_else(|| Refusal::no_platform(&entry.id, &platform))?;
        let path = installed(entry, binary, pin, directory)
            .await
            .map_err(failed)?;
        with(Program::new(path), &binary.args, &binary.env)
    };
    for (name, value) in keys.of(&entry.id) {
        program = program.env(name, value);
    }
    // What opens the tokens of every provider is no business of an agent.
    Ok(secrets(std::env::vars_os().map(|(name, _)| name)).fold(program, Program::withhold))
}

/// Picks the variables that hold secrets of the launcher's own.
fn secrets(names: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    names.filter(|name| {
        let name = name.to_string_lossy();
        let of_a_client = name.ends_with("_CLIENT_SECRET");
        name == "AGENTBUS_REGISTRY_PASSPHRASE"
            || of_a_client && (name.starts_with("OAUTH_") || name.starts_with("OIDC_"))
    })
}

fn with<'a>(
    program: Program,
    args: &[String],
    env: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Program {
    let program = program.args(args.iter().cloned());
    env.into_iter()
        .fold(program, |program, (name, value)| program.env(name, value))
}

/// Returns the name that the index has for this machine.
fn platform() -> String {
    let system = match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    format!("{system}-{}", std::env::consts::ARCH)
}

/// Returns where the program of an archive is.
async fn installed(
    entry: &Entry,
    binary: &Binary,
    pin: Option<&Pin>,
    directory: &Path,
) -> Result<PathBuf, String> {
    let Some(archive) = &binary.archive else {
        return Ok(PathBuf::from(&binary.cmd));
    };
    let plain = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte))
    };
    if !plain(&entry.id) || !plain(&entry.version) || entry.version.starts_with('.') {
        return Err("its id or version is no name for a directory".to_owned());
    }
    let home = directory
        .join("agents")
        .join(&entry.id)
        .join(&entry.version);
    let command = home.join(binary.cmd.trim_start_matches("./"));
    if !home.exists() {
        let unpacked = unpack(archive, pin, &home).await;
        unpacked.map_err(|why| format!("{archive} cannot be installed: {why}"))?;
    }
    Ok(command)
}

/// Fetches an archive and unpacks it.
async fn unpack(url: &str, pin: Option<&Pin>, home: &Path) -> Result<(), String> {
    let words = |error: io::Error| error.to_string();
    let work = home.with_extension(format!("{}.partial", std::process::id()));
    tokio::fs::create_dir_all(&work).await.map_err(words)?;
    let file = work.join("archive");
    let fetched = timeout(ARCHIVE_TIMEOUT, fetch(url, &file)).await;
    let done = match fetched {
        Ok(Ok(digest)) => match pin.and_then(|pin| pin.sha256.as_ref()) {
            Some(wanted) if !wanted.eq_ignore_ascii_case(&digest) => {
                Err(format!("its SHA-256 is {digest}, and {wanted} is pinned"))
            }
            _ => extract(url, &file, &work).await,
        },
        Ok(Err(why)) => Err(why),
        Err(_) => Err(format!(
            "it did not arrive within {} s",
            ARCHIVE_TIMEOUT.as_secs()
        )),
    };
    if done.is_ok() {
        let _ = tokio::fs::remove_file(&file).await;
        return tokio::fs::rename(&work, home).await.map_err(words);
    }
    let _ = tokio::fs::remove_dir_all(&work).await;
    done
}

/// Writes what a URL holds into a file; returns its SHA-256.
async fn fetch(url: &str, file: &Path) -> Result<String, String> {
    let words = |error: io::Error| error.to_string();
    let client = web::fetcher()?;
    let answer = client
        .get(url)
        .send()
        .await
        .and_then(reqwest::Response::error_for_status);
    let mut pieces = answer.map_err(|error| error.to_string())?.bytes_stream();
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
        Program::new("tar").arg("-xf").arg(file).arg("-C").arg(into)
    };
    let output = program.run(bytes::Bytes::new()).await;
    output.map(drop).map_err(|error| error.to_string())
}
