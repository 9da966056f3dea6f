//! What the system lacks, from Debian packages and other places that take long.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::catalog::Service;
use crate::failure::Failure;

/// How often the progress line grows.
const TICK: Duration = Duration::from_secs(1);

/// Finds the program of a service, which is installed if it is missing.
pub(super) fn find_or_install(service: &Service) -> Result<PathBuf, Failure> {
    if let Some(program) = (service.program)() {
        return Ok(program);
    }
    let package = service.package;
    install(package).map_err(|reason| {
        Failure::new(format!(
            "{} is missing and could not be installed ({reason}); run `sudo apt-get install {package}` and try again",
            service.name
        ))
    })?;
    (service.program)().ok_or_else(|| {
        let name = service.name;
        Failure::new(format!(
            "the package {package} is installed but brought no {name} server"
        ))
    })
}

/// What tests run clients of other languages and a keychain with: how it is tried, and the package
/// that brings it.
const TOOLS: [(&[&str], &str); 4] = [
    (&["npm", "--version"], "npm"),
    (&["python3", "-c", "import ensurepip, venv"], "python3-venv"),
    // A keychain for the keys of tokens, and the session that it lives in.
    (&["dbus-run-session", "--version"], "dbus-daemon"),
    (&["gnome-keyring-daemon", "--version"], "gnome-keyring"),
];

/// Installs the tools that are missing. Where one cannot be had, the tests that need it say that
/// they were skipped.
pub(super) fn tools() {
    for (trial, package) in TOOLS {
        let mut works = Command::new(trial[0]);
        works.args(&trial[1..]).stdin(Stdio::null());
        works.stdout(Stdio::null()).stderr(Stdio::null());
        if works.status().is_ok_and(|status| status.success()) {
            continue;
        }
        if let Err(reason) = install(package) {
            println!("{package} could not be installed ({reason}); tests that need it are skipped");
        }
    }
}

/// Installs a package with a line that shows that something happens.
pub(super) fn install(package: &str) -> Result<(), String> {
    let update = apt(&["update", "-qq"]);
    let install = apt(&["install", "-y", "-qq", package]);
    all_patiently(&format!("Installing {package}"), [update, install])
}

fn apt(arguments: &[&str]) -> Command {
    let mut command = if rustix::process::geteuid().is_root() {
        Command::new("apt-get")
    } else {
        let mut command = Command::new("sudo");
        command.args(["-n", "apt-get"]);
        command
    };
    command
        .args(arguments)
        // The package's own service stays off: the tests start servers of their own.
        .env("RUNLEVEL", "1")
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Runs a command that takes long, with a line that shows that something happens.
pub(super) fn patiently(what: &str, command: Command) -> Result<(), String> {
    all_patiently(what, [command])
}

fn all_patiently<const N: usize>(what: &str, commands: [Command; N]) -> Result<(), String> {
    let begun = Instant::now();
    print!("{what} ");
    let outcome = commands.into_iter().try_for_each(wait_with_dots);
    match &outcome {
        Ok(()) => println!(" done in {:.0} s", begun.elapsed().as_secs_f64()),
        Err(_) => println!(" failed"),
    }
    outcome
}

fn wait_with_dots(mut command: Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.map_err(|error| format!("{name} cannot be started: {error}"))?;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("{name} ended with {status}")),
            Ok(None) => {}
            Err(error) => return Err(error.to_string()),
        }
        print!(".");
        // A terminal that has gone away does not stop what was begun.
        let _ = std::io::stdout().flush();
        std::thread::sleep(TICK);
    }
}

/// Runs a command that must succeed, without its output.
pub(super) fn succeed(mut command: Command) -> Result<(), Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| Failure::new(format!("cannot start {name}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!(
        "{name} failed with {}: {}",
        output.status,
        said.trim()
    )))
}
