//! A NATS server of a test's own.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(
    clippy::expect_used,
    reason = "a test that cannot go on should say where"
)]

pub(crate) mod openagentio;
#[path = "../../../agentbus-transport-redis/tests/support/ports.rs"]
mod ports;

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ports::free_port;

/// Longest time that a server may take to answer.
const START: Duration = Duration::from_secs(120);

/// A running `nats-server` with a data directory and a port of its own. Dropping it kills it.
pub(crate) struct Server {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
    arguments: Vec<String>,
    certain_name: String,
}

impl Server {
    /// Starts a server with JetStream.
    pub(crate) fn start() -> Self {
        Self::with(&["-js"])
    }

    /// Starts a server with a configuration file of this text.
    pub(crate) fn configured(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nats.conf");
        std::fs::write(&file, text).unwrap();
        let arguments = vec!["-c".to_owned(), file.display().to_string()];
        Self::spawn(free_port(), folder, arguments)
    }

    /// Starts a server with more arguments.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&one| one.to_owned()).collect();
        Self::spawn(free_port(), tempfile::tempdir().unwrap(), arguments)
    }

    fn spawn(port: u16, folder: tempfile::TempDir, arguments: Vec<String>) -> Self {
        let certain_name = format!("test-{port}-{}", std::process::id());
        let child = launch(port, folder.path(), &arguments, &certain_name);
        let mut server = Self {
            child,
            port,
            folder,
            arguments,
            certain_name,
        };
        server.wait();
        server
    }

    /// Waits until the process that was started here answers at its port.
    fn wait(&mut self) {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let log = std::fs::read_to_string(self.folder.path().join("log"));
                panic!("nats-server ended with {status}: {log:?}");
            }
            if greeting(self.port).is_some_and(|info| info.contains(&self.certain_name)) {
                return;
            }
            assert!(begun.elapsed() < START, "nats-server does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(crate) fn jetstream(&self) -> String {
        format!("jetstream://127.0.0.1:{}", self.port)
    }

    /// Kills it as a power cut would, as far as a process can tell.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same port with the same data.
    pub(crate) fn restart(&mut self) {
        let name = &self.certain_name;
        self.child = launch(self.port, self.folder.path(), &self.arguments, name);
        self.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launch(port: u16, folder: &Path, arguments: &[String], name: &str) -> Child {
    let log = std::fs::File::create(folder.join("log")).unwrap();
    // The server goes with the test that started it, also when that is killed.
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .arg(binary())
        .args(["-a", "127.0.0.1", "-p", &port.to_string(), "-n", name])
        .arg("-sd")
        .arg(folder.join("data"))
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
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    let found = folders
        .map(|folder| folder.join("nats-server"))
        .find(|file| file.exists());
    found.unwrap_or_else(|| {
        panic!("nats-server is not installed; run `cargo xtask services up nats` once")
    })
}

/// The first line that a server sends, which holds its name.
fn greeting(port: u16) -> Option<String> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(START)).ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    Some(line)
}
