//! The program itself, serving.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::resident;

/// A running `agentbus serve`; killed when dropped.
pub(crate) struct Served {
    process: Child,
    /// From its start to its first line, which says where it listens.
    pub(crate) ready: Duration,
}

impl Served {
    pub(crate) fn start(program: &Path, data: &Path) -> Self {
        let begun = Instant::now();
        let mut process = Command::new(program)
            .args(["serve", "--json", "--listen", "127.0.0.1:0"])
            .env("AGENTBUS_DATA_DIR", data)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        BufReader::new(process.stdout.as_mut().unwrap())
            .read_line(&mut first)
            .unwrap();
        let ready = begun.elapsed();
        let served = Self { process, ready };
        assert!(first.contains("listening"), "{first}");
        served
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Megabytes of it that are resident.
    pub(crate) fn resident(&self) -> f64 {
        resident::mb(self.id())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
