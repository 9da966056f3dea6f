//! From an entry of the index to a program that can be started.
//!
//! A package is left to its runner; `npx` is told not to ask. A program in an archive is fetched
//! and held against its pin; an agent whose pin names a hash is started from its archive or not at
//! all.

use std::ffi::OsString;
use std::path::Path;

use agentbus_process::Program;

use super::codes::Refusal;
use super::index::Entry;
use super::{Keys, Pin, archive};

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
    // A pinned hash is that of an archive, and nothing else can be held against it.
    let hash = pin.and_then(|pin| pin.sha256.as_deref());
    let mut program = if let (Some(npx), None) = (&found.npx, hash) {
        // Without an answer to its question it would wait for ever.
        let program = Program::new("npx").arg("-y").arg(&npx.package);
        with(program, &npx.args, &npx.env)
    } else if let (Some(uvx), None) = (&found.uvx, hash) {
        with(Program::new("uvx").arg(&uvx.package), &uvx.args, &uvx.env)
    } else {
        let platform = platform();
        let binary = found.binary.as_ref().and_then(|all| all.get(&platform));
        let path = match (binary, hash) {
            (Some(binary), hash) => {
                let path = archive::installed(entry, binary, hash, directory).await;
                path.map_err(failed)?
            }
            (None, Some(_)) => return Err(failed(archive::NOTHING_TO_HOLD.to_owned())),
            (None, None) => return Err(Refusal::no_platform(&entry.id, &platform)),
        };
        let (args, env) = binary.map_or((&[][..], None), |it| (&it.args[..], Some(&it.env)));
        with(Program::new(path), args, env.into_iter().flatten())
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
