//! What is measured: a worker behind the bus, or with nothing in between.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::thread::{CpuSet, sched_setaffinity};
use tempfile::TempDir;

use super::line::Line;
use crate::resident;

/// What stands between client and worker.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Nothing but two pipes.
    Pipes,
    /// Nothing but a socket pair.
    SocketPair,
    /// The bus at its standard input and output.
    BusStdio,
    /// The bus at a Unix socket.
    BusUnix,
    /// The bus at a TCP port.
    BusTcp,
}

/// The processes of one measurement.
pub(crate) struct Subject {
    pub(crate) lines: Vec<Line>,
    child: Child,
    _dir: Option<TempDir>,
}

/// How to set a subject up.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) way: Way,
    pub(crate) workers: usize,
    pub(crate) clients: usize,
    /// Size of each answer, if it is not that of the request.
    pub(crate) answer: Option<usize>,
}

impl Setup {
    pub(crate) fn new(way: Way) -> Self {
        Self {
            way,
            workers: 1,
            clients: 1,
            answer: None,
        }
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn program(name: &str) -> PathBuf {
    let path = std::env::current_exe().unwrap().with_file_name(name);
    assert!(
        path.exists(),
        "no {}: `cargo xtask bench stdio` builds it",
        path.display()
    );
    path
}

/// Confines this process, and those it starts from now on, to the first processor, or lets it go.
pub(crate) fn confine(pinned: bool) {
    let mut allowed = CpuSet::new();
    let last = if pinned { 1 } else { CpuSet::MAX_CPU };
    (0..last).for_each(|cpu| allowed.set(cpu));
    sched_setaffinity(None, &allowed).unwrap();
}

pub(crate) fn worker(answer: Option<usize>) -> Command {
    let mut command = Command::new(program("stdio-worker"));
    command.args(answer.map(|size| size.to_string()));
    command
}

impl Subject {
    pub(crate) fn open(setup: Setup) -> Self {
        match setup.way {
            Way::Pipes => Self::on_pipes(worker(setup.answer), None),
            Way::SocketPair => Self::on_a_pair(worker(setup.answer)),
            Way::BusStdio | Way::BusUnix | Way::BusTcp => Self::behind_the_bus(setup),
        }
    }

    fn on_pipes(mut command: Command, dir: Option<TempDir>) -> Self {
        let mut child = command
            .stderr(Stdio::null())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let line = Line {
            input: child.stdout.take().unwrap().into(),
            output: child.stdin.take().unwrap().into(),
        };
        Self {
            lines: vec![line],
            child,
            _dir: dir,
        }
    }

    fn on_a_pair(mut command: Command) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let theirs: OwnedFd = theirs.into();
        let child = command
            .stdin(Stdio::from(theirs.try_clone().unwrap()))
            .stdout(Stdio::from(theirs))
            .spawn()
            .unwrap();
        Self {
            lines: vec![both_ways(ours.into())],
            child,
            _dir: None,
        }
    }

    fn behind_the_bus(setup: Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let args: Vec<String> = setup.answer.iter().map(usize::to_string).collect();
        let config = serde_json::json!({
            "pools": [{"id": "p", "command": program("stdio-worker"), "args": args, "instances": setup.workers}],
            "limits": {"max_input_buffer": 64_000_000},
        });
        let file = dir.path().join("bus.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let mut command = Command::new(program("agentbus"));
        command.args(["stdio", "--config"]).arg(file);
        command.stderr(Stdio::null());
        let socket = dir.path().join("s");
        let connect: Box<dyn Fn() -> Option<OwnedFd>> = match setup.way {
            Way::BusUnix => {
                command.arg("--unix").arg(&socket);
                Box::new(move || UnixStream::connect(&socket).ok().map(Into::into))
            }
            Way::BusTcp => {
                let port = free_port();
                command.args(["--tcp", &format!("127.0.0.1:{port}")]);
                Box::new(move || connect_tcp(port))
            }
            _ => return Self::on_pipes(command, Some(dir)),
        };
        let child = command.spawn().unwrap();
        let lines = (0..setup.clients).map(|_| both_ways(patiently(&connect)));
        Self {
            lines: lines.collect(),
            child,
            _dir: Some(dir),
        }
    }

    /// Processor seconds that the process has used so far.
    pub(crate) fn processor_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(self.proc("stat")).unwrap();
        let fields: Vec<_> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }

    /// Resident megabytes of the process.
    pub(crate) fn resident_mb(&self) -> f64 {
        resident::mb(self.child.id())
    }

    fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc")
            .join(self.child.id().to_string())
            .join(name)
    }
}

fn both_ways(socket: OwnedFd) -> Line {
    Line {
        input: socket.try_clone().unwrap(),
        output: socket,
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn connect_tcp(port: u16) -> Option<OwnedFd> {
    let stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_nodelay(true).unwrap();
    Some(stream.into())
}

fn patiently(connect: &dyn Fn() -> Option<OwnedFd>) -> OwnedFd {
    loop {
        if let Some(descriptor) = connect() {
            return descriptor;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}
