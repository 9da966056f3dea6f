//! `cargo xtask services up|down|status`: real brokers and databases for the tests.
//!
//! Each service runs on loopback, on a free port, with its own folder `target/services/NAME` for
//! its data, its log and a record of its process. What the system lacks is installed from Debian
//! packages; Kafka is fetched with Maven. Nothing is shared with a service that the system may run on
//! its own.
//!
//! A service outlives the command that started it, until `down`. Its process is recorded before
//! anything else happens, so that the next `up` or `down` finds what a killed command left behind.

mod catalog;
mod ended;
mod install;
mod kafka;
mod probe;
mod process;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use self::catalog::{Place, SERVICES, Service};
use self::process::Record;
use crate::failure::Failure;
use crate::workspace::Workspace;

/// Longest time that a service may take to answer; RabbitMQ needs up to half a minute, and minutes
/// where the disk is slow.
const READY: Duration = Duration::from_secs(300);

/// Pause between two looks at a service that starts.
const LOOK: Duration = Duration::from_millis(50);

/// Runs one of the three commands.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), Failure> {
    let (command, names) = match arguments.split_first() {
        Some((command, names)) => (command.as_str(), names),
        None => ("status", arguments),
    };
    let chosen = choose(names)?;
    match command {
        "up" => chosen
            .iter()
            .try_for_each(|service| up(workspace, service).map(|_| ())),
        "down" => chosen
            .iter()
            .try_for_each(|service| down(workspace, service)),
        "status" => {
            chosen.iter().for_each(|service| status(workspace, service));
            Ok(())
        }
        other => Err(Failure::new(format!(
            "services has no command {other:?}; it knows up, down and status"
        ))),
    }
}

/// Finds the services of these names; no name means all.
fn choose(names: &[String]) -> Result<Vec<&'static Service>, Failure> {
    if names.is_empty() {
        return Ok(SERVICES.iter().collect());
    }
    let known = || {
        let names: Vec<_> = SERVICES.iter().map(|service| service.name).collect();
        names.join(", ")
    };
    let find = |name: &String| {
        let found = SERVICES.iter().find(|service| service.name == name);
        found.ok_or_else(|| {
            Failure::new(format!(
                "there is no service {name:?}; there are {}",
                known()
            ))
        })
    };
    names.iter().map(find).collect()
}

/// Where everything of one service lies.
fn folder(workspace: &Workspace, service: &Service) -> PathBuf {
    workspace.root().join("target/services").join(service.name)
}

/// Starts a service unless it runs. Returns its URL and whether it was started here.
fn up(workspace: &Workspace, service: &Service) -> Result<(String, bool), Failure> {
    let folder = folder(workspace, service);
    if let Some(record) = Record::read(&folder) {
        if record.is_alive() && (service.is_ready)(record.port) {
            println!("{} is up already: {}", service.name, record.url);
            return Ok((record.url, false));
        }
        end(service, &record, &folder)?;
    }
    let program = install::find_or_install(service)?;
    let place = Place::new(program, folder)?;
    let url = (service.url)(place.port);
    let mut child = process::start((service.command)(&place)?, &place.folder)?;
    Record::of(child.id(), place.port, &url).write(&place.folder)?;
    wait_until_ready(service, &place, &mut child)?;
    println!("{} is up: {url}", service.name);
    fs::write(place.folder.join("url"), &url)
        .map_err(|error| Failure::read(&place.folder, &error))?;
    Ok((url, true))
}

fn wait_until_ready(
    service: &Service,
    place: &Place,
    child: &mut std::process::Child,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let log = place.folder.join("log");
    loop {
        // Some programs hand over to another process and end well, so only a failure is one.
        let ended = child.try_wait().ok().flatten();
        if let Some(status) = ended.filter(|status| !status.success()) {
            let (name, log) = (service.name, log.display());
            return Err(Failure::new(format!(
                "{name} ended with {status}; {log} says why"
            )));
        }
        if (service.is_ready)(place.port) {
            return Ok(());
        }
        if begun.elapsed() > READY {
            let (name, log) = (service.name, log.display());
            return Err(Failure::new(format!(
                "{name} does not answer after {READY:?}; {log} says why"
            )));
        }
        std::thread::sleep(LOOK);
    }
}

/// Stops a service, also one that only its record knows of.
fn down(workspace: &Workspace, service: &Service) -> Result<(), Failure> {
    let folder = folder(workspace, service);
    match Record::read(&folder) {
        Some(record) => {
            let was_alive = end(service, &record, &folder)?;
            let how = if was_alive {
                "is down"
            } else {
                "was gone already"
            };
            println!("{} {how}.", service.name);
        }
        None => println!("{} is not up.", service.name),
    }
    Ok(())
}

/// Ends the process of a record and forgets it. Returns whether it still ran.
fn end(service: &Service, record: &Record, folder: &Path) -> Result<bool, Failure> {
    let was_alive = record.stop()?;
    (service.clean)(folder);
    Record::remove(folder);
    Ok(was_alive)
}

fn status(workspace: &Workspace, service: &Service) {
    let record = Record::read(&folder(workspace, service));
    match record {
        Some(record) if record.is_alive() && (service.is_ready)(record.port) => {
            println!("{} is up: {}", service.name, record.url);
        }
        Some(record) if record.is_alive() => {
            println!(
                "{} runs as process {} and does not answer.",
                service.name, record.pid
            );
        }
        Some(_) => println!("{} was left behind; `down` cleans up.", service.name),
        None => println!("{} is not up.", service.name),
    }
}

/// Services that tests need while they run. Dropping it stops those that it started.
pub(crate) struct Running<'a> {
    workspace: &'a Workspace,
    started: Vec<&'static Service>,
    /// Environment variables that tell the tests where each service is.
    pub(crate) variables: Vec<(&'static str, String)>,
}

impl<'a> Running<'a> {
    /// Starts the services that the tests of this workspace need.
    pub(crate) fn start(workspace: &'a Workspace) -> Result<Self, Failure> {
        let mut running = Self {
            workspace,
            started: Vec::new(),
            variables: Vec::new(),
        };
        install::tools();
        for service in SERVICES.iter().filter(|service| service.needed_by_tests) {
            let (url, is_new) = up(workspace, service)?;
            if is_new {
                running.started.push(service);
            }
            running.variables.push((service.variable, url));
        }
        Ok(running)
    }

    /// Says which of them ended although they were needed, and the last words of each.
    pub(crate) fn tell_ended(&self) {
        for service in SERVICES.iter().filter(|service| service.needed_by_tests) {
            let folder = folder(self.workspace, service);
            if let Some(words) = ended::last_words(service.name, &folder) {
                eprintln!("\nerror: {words}");
            }
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        for service in &self.started {
            if let Err(failure) = down(self.workspace, service) {
                eprintln!("error: {failure}");
            }
        }
    }
}

#[cfg(test)]
mod tests;
