//! `cargo xtask fuzz`: runs every fuzz target for a while.
//!
//! Targets live in `fuzz/`, outside the workspace. A target that crashes does not stop the next;
//! its input stays under `fuzz/artifacts/`, as cargo-fuzz prints.

use std::process::Command;

use crate::cargo;
use crate::failure::Failure;
use crate::workspace::Workspace;

/// How long each target runs when nothing is said.
const SECONDS: u32 = 60;

/// Builds all targets, then runs each for the given time.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), Failure> {
    let seconds = seconds(arguments)?;
    if !workspace.root().join("fuzz/Cargo.toml").is_file() {
        return Err(Failure::new(
            "there is no fuzz/Cargo.toml; create the fuzz targets first",
        ));
    }
    install(workspace)?;
    let targets = cargo::output(fuzz(workspace, &["list"]))?;
    println!("Building {} fuzz targets.", targets.lines().count());
    cargo::run(fuzz(workspace, &["build"]))?;
    let failed: Vec<String> = targets
        .lines()
        .filter_map(|target| fuzz_one(workspace, target, seconds).err())
        .map(|failure| failure.to_string())
        .collect();
    Failure::unless_empty("some fuzz targets found a defect", &failed)?;
    println!("Every fuzz target ran for {seconds} seconds and found nothing.");
    Ok(())
}

/// Reads the only argument.
fn seconds(arguments: &[String]) -> Result<u32, Failure> {
    match arguments {
        [] => Ok(SECONDS),
        [one] => one.parse().map_err(|_| {
            Failure::new(format!(
                "{one:?} is no number of seconds; give one such as 60"
            ))
        }),
        _ => Err(Failure::new(
            "fuzz takes one argument, the seconds for each target",
        )),
    }
}

/// Installs cargo-fuzz when it is missing.
fn install(workspace: &Workspace) -> Result<(), Failure> {
    if cargo::has(workspace, "fuzz") {
        return Ok(());
    }
    println!("cargo-fuzz is missing; installing it with `cargo install cargo-fuzz --locked`.");
    cargo::run(cargo::command(
        workspace,
        &["install", "cargo-fuzz", "--locked"],
    ))
}

/// Runs one target.
fn fuzz_one(workspace: &Workspace, target: &str, seconds: u32) -> Result<(), Failure> {
    println!("Fuzzing {target} for {seconds} seconds.");
    let limit = format!("-max_total_time={seconds}");
    cargo::run(fuzz(workspace, &["run", target, "--", &limit]))
}

/// Prepares a call of cargo-fuzz.
fn fuzz(workspace: &Workspace, arguments: &[&str]) -> Command {
    let mut command = cargo::command(workspace, &["fuzz"]);
    // The sanitizers are unstable flags; this lets a stable toolchain accept them.
    command.args(arguments).env("RUSTC_BOOTSTRAP", "1");
    command
}

#[cfg(test)]
mod tests {
    use super::seconds;

    fn check(arguments: &[&str], expect: Option<u32>) {
        let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        assert_eq!(seconds(&arguments).ok(), expect);
    }

    #[test]
    fn the_time_is_read_or_refused() {
        check(&[], Some(60));
        check(&["5"], Some(5));
        check(&["soon"], None);
        check(&["5", "6"], None);
    }
}
