//! Processes that outlive this command, and the records by which they are found again.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::failure::Failure;

/// Time to end in peace before it is ended by force.
const GRACE: Duration = Duration::from_secs(15);

/// Pause between two looks at a process that ends.
const LOOK: Duration = Duration::from_millis(20);

/// A process that was started for a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) pid: u32,
    /// When it began, in the kernel's ticks since boot; tells it from a later process of the
    /// same number. Zero when it ended before it could be looked at.
    began: u64,
    pub(super) port: u16,
    pub(super) url: String,
}

/// Starts a command in a process group of its own, so that an interrupt at the terminal ends
/// this command and not the service, with its output in the folder's log.
pub(super) fn start(mut command: Command, folder: &Path) -> Result<Child, Failure> {
    let path = folder.join("log");
    let log = File::create(&path).map_err(|error| Failure::read(&path, &error))?;
    let errors = log
        .try_clone()
        .map_err(|error| Failure::read(&path, &error))?;
    let name = command.get_program().to_string_lossy().into_owned();
    command
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .process_group(0);
    command
        .spawn()
        .map_err(|error| Failure::new(format!("cannot start {name}: {error}")))
}

impl Record {
    pub(super) fn of(pid: u32, port: u16, url: &str) -> Self {
        Self {
            pid,
            began: began(pid).unwrap_or_default(),
            port,
            url: url.to_owned(),
        }
    }

    /// Reads the record in a folder; one that cannot be read is none.
    pub(super) fn read(folder: &Path) -> Option<Self> {
        let text = fs::read_to_string(folder.join("process")).ok()?;
        let mut words = text.split_whitespace();
        Some(Self {
            pid: words.next()?.parse().ok()?,
            began: words.next()?.parse().ok()?,
            port: words.next()?.parse().ok()?,
            url: words.next()?.to_owned(),
        })
    }

    pub(super) fn write(&self, folder: &Path) -> Result<(), Failure> {
        let path = folder.join("process");
        let text = format!("{} {} {} {}\n", self.pid, self.began, self.port, self.url);
        fs::write(&path, text).map_err(|error| Failure::read(&path, &error))
    }

    pub(super) fn remove(folder: &Path) {
        // A file that is gone already is as good.
        let _ = fs::remove_file(folder.join("process"));
    }

    /// Whether the very process of the record still runs.
    pub(super) fn is_alive(&self) -> bool {
        self.began != 0 && began(self.pid) == Some(self.began)
    }

    /// Ends the process and its group. Returns whether there was anything to end.
    pub(super) fn stop(&self) -> Result<bool, Failure> {
        if !self.is_alive() {
            return Ok(false);
        }
        for (signal, patience) in [(Signal::TERM, GRACE), (Signal::KILL, GRACE)] {
            self.signal(signal);
            let begun = Instant::now();
            while begun.elapsed() < patience {
                if !self.is_alive() {
                    return Ok(true);
                }
                std::thread::sleep(LOOK);
            }
        }
        Err(Failure::new(format!(
            "process {} cannot be ended",
            self.pid
        )))
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // A group that ended in the meantime is what was wanted.
            let _ = kill_process_group(pid, signal);
        }
    }
}

/// When a running process began; a zombie runs no more.
fn began(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the fields after it are plain.
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    // Field 22 of the line; the state is field 3.
    let began = fields.nth(18)?.parse().ok()?;
    (state != "Z").then_some(began)
}
