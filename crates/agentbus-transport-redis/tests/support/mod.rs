//! A Redis server of a test's own.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod amb;
pub(crate) mod certificates;
pub(crate) mod line;
pub(crate) mod messages;
mod ports;
pub(crate) mod sealed;

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) use ports::free_port;

/// Longest time that a server may take to answer.
const START: Duration = Duration::from_secs(120);

/// A running `redis-server` with a data directory and a port of its own. Dropping it kills it.
pub(crate) struct Server {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
    arguments: Vec<String>,
}

impl Server {
    /// Starts a server that writes every answered command to its disk first.
    pub(crate) fn start() -> Self {
        Self::with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// Starts a server with these arguments.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        let arguments: Vec<_> = arguments.iter().map(|&one| one.to_owned()).collect();
        Self::told(|| arguments.clone())
    }

    /// Starts a server with what `arguments` says at each attempt anew.
    pub(crate) fn told(arguments: impl Fn() -> Vec<String>) -> Self {
        loop {
            let arguments = arguments();
            let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
            let child = launch(port, folder.path(), &arguments);
            let mut server = Self {
                child,
                port,
                folder,
                arguments,
            };
            // Somebody else may have taken the port since it was found to be free.
            match server.wait() {
                Ok(()) => return server,
                Err(log) => assert!(log.contains("in use"), "redis-server ended: {log}"),
            }
        }
    }

    /// Waits until the process that was started here answers at its port; fails with its log when
    /// it ends.
    fn wait(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            if self.child.try_wait().unwrap().is_some() {
                let log = std::fs::read_to_string(self.folder.path().join("log"));
                return Err(log.unwrap());
            }
            if answers(self.port, self.child.id()) {
                return Ok(());
            }
            assert!(begun.elapsed() < START, "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Kills it as a power cut would, as far as a process can tell.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same port with the same data.
    pub(crate) fn restart(&mut self) {
        self.child = launch(self.port, self.folder.path(), &self.arguments);
        self.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launch(port: u16, folder: &Path, arguments: &[String]) -> Child {
    let log = std::fs::File::create(folder.join("log")).unwrap();
    // The server goes with the test that started it, also when that is killed.
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .arg(binary())
        .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
        .args(["--save", "", "--dir"])
        .arg(folder)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Where the server is. A test without it fails, because it would prove nothing.
fn binary() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join("redis-server"))
        .find(|file| file.exists());
    found.unwrap_or_else(|| {
        panic!("redis-server is not installed; run `cargo xtask services up redis` once")
    })
}

/// Whether the server with this process id answers at a port; one that asks for a password first
/// does not say who it is.
fn answers(port: u16, process: u32) -> bool {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
        return false;
    };
    let asked = stream
        .set_read_timeout(Some(START))
        .and_then(|()| stream.write_all(b"INFO server\r\n"));
    if asked.is_err() {
        return false;
    }
    let certain = format!("process_id:{process}");
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    // The lines end with the field that follows; without them the wait would not end.
    let told = lines.find(|line| {
        line.starts_with("-NOAUTH")
            || line.starts_with("-LOADING")
            || line.starts_with("process_id:")
    });
    told.is_some_and(|line| line == certain || line.starts_with("-NOAUTH"))
}
