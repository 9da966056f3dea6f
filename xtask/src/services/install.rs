//! What the system lacks, from Debian packages.

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

/// What tests run clients of other languages with: how it is tried, and the package that brings it.
const TOOLS: [(&[&str], &str); 2] = [
    (&["npm", "--version"], "npm"),
    (&["python3", "-c", "import ensurepip, venv"], "python3-venv"),
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
fn install(package: &str) -> Result<(), String> {
    let begun = Instant::now();
    print!("Installing {package} ");
    let outcome = apt(&["update", "-qq"]).and_then(|()| apt(&["install", "-y", "-qq", package]));
    match &outcome {
        Ok(()) => println!(" done in {:.0} s", begun.elapsed().as_secs_f64()),
        Err(_) => println!(" failed"),
    }
    outcome
}

fn apt(arguments: &[&str]) -> Result<(), String> {
    let mut command = if rustix::process::geteuid().is_root() {
        Command::new("apt-get")
    } else {
        let mut command = Command::new("sudo");
        command.args(["-n", "apt-get"]);
        command
    };
    let child = command
        .args(arguments)
        // The package's own service stays off: the tests start servers of their own.
        .env("RUNLEVEL", "1")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.map_err(|error| format!("apt-get cannot be started: {error}"))?;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("apt-get ended with {status}")),
            Ok(None) => {}
            Err(error) => return Err(error.to_string()),
        }
        print!(".");
        // A terminal that has gone away does not stop the installation.
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
