//! Starts a bus and talks to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::ports::free_port;

/// Longest that anything may take. Nothing waits this long unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Where clients meet the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    Stdio,
    Unix,
    Tcp,
}

pub(crate) const ALL: [Via; 3] = [Via::Stdio, Via::Unix, Via::Tcp];
pub(crate) const SOCKETS: [Via; 2] = [Via::Unix, Via::Tcp];

/// Both directions of a socket.
pub(crate) trait Socket: Read + Write + Send {}

impl<T: Read + Write + Send> Socket for T {}

pub(crate) struct Bus {
    pub(crate) child: Child,
    pub(crate) via: Via,
    pub(crate) dir: tempfile::TempDir,
    port: u16,
    /// Marks the environment of the bus and of everything below it.
    pub(crate) mark: String,
}

pub(crate) struct Client {
    writer: Box<dyn Write + Send>,
    lines: Receiver<String>,
    end: Box<dyn Fn() + Send>,
}

/// What a bus logs, as JSON.
pub(crate) struct Log(Receiver<String>);

impl Log {
    /// Waits for a line of this target, and returns what it says.
    pub(crate) fn of(&self, target: &str) -> Value {
        self.find(|line| line["target"] == target)
    }

    /// Waits for a line, and returns what it says.
    pub(crate) fn find(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.0.recv_timeout(PATIENCE).unwrap();
            let line: Value = serde_json::from_str(&line).unwrap();
            if wanted(&line) {
                return line["fields"].clone();
            }
        }
    }
}

/// Reads lines in a thread of its own, for as long as somebody wants them.
fn lines_of(reader: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::with_capacity(1 << 20, reader).lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Returns the path of the scripted worker, which `cargo test` builds beside the program.
pub(crate) fn scripted_worker() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_agentbus"));
    let worker = program.with_file_name("examples").join("scripted_worker");
    assert!(
        worker.exists(),
        "build it: cargo build -p agentbus-cli --example scripted_worker"
    );
    worker
}

/// Describes a pool of scripted workers.
pub(crate) fn pool(id: &str, instances: u32) -> Value {
    json!({ "id": id, "command": scripted_worker(), "instances": instances })
}

/// Describes a pool of workers that come with the program.
pub(crate) fn echo_pool(id: &str, instances: u32) -> Value {
    let program = env!("CARGO_BIN_EXE_agentbus");
    json!({ "id": id, "command": program, "args": ["worker", "echo"], "instances": instances })
}

/// Turns a request of the method `m` into its own answer, and knows nothing of JSON.
pub(crate) const SED: &str = r#"exec sed -u 's/"method":"m"/"result":{}/'"#;

/// Describes a pool of shells that run a script.
pub(crate) fn shell_pool(id: &str, script: &str, instances: u32) -> Value {
    json!({ "id": id, "command": "sh", "args": ["-c", script], "instances": instances })
}

/// Describes pools, with restarts that tests need not wait for.
pub(crate) fn config(pools: &[Value], limits: &Value) -> Value {
    let mut all =
        json!({ "restart_delay_ms": 1, "restart_delay_max_sec": 0, "max_restarts": 1_000_000 });
    for (name, value) in limits.as_object().unwrap() {
        all[name] = value.clone();
    }
    json!({ "pools": pools, "limits": all })
}

/// One pool `p`.
pub(crate) fn one(instances: u32) -> Value {
    config(&[pool("p", instances)], &json!({}))
}

pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentbus"));
    command.env_remove("DEBUG_STDIO");
    command
}

impl Bus {
    pub(crate) fn start(via: Via, config: &Value) -> Self {
        Self::start_with(via, config, "error", |_| {})
    }

    /// Starts a bus whose log can be read.
    pub(crate) fn start_logging(via: Via, config: &Value) -> (Self, Log) {
        let mut bus = Self::start_with(via, config, "info", |command| {
            command.arg("--json").stderr(Stdio::piped());
        });
        let log = Log(lines_of(bus.child.stderr.take().unwrap()));
        (bus, log)
    }

    /// Starts a bus that logs what passes a filter, and changes how it is run.
    pub(crate) fn start_with(
        via: Via,
        config: &Value,
        log: &str,
        change: impl FnOnce(&mut Command),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let port = free_port();
        let mark = format!("{}-{port}", std::process::id());
        let mut command = program();
        command.args(["stdio", "--log", log, "--config"]).arg(file);
        match via {
            Via::Stdio => command.arg("--stdio"),
            Via::Unix => command.arg("--unix").arg(dir.path().join("s")),
            Via::Tcp => command.args(["--tcp", &format!("localhost:{port}")]),
        };
        command
            .env("AGENTBUS_TEST_MARK", &mark)
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        change(&mut command);
        let child = command.spawn().unwrap();
        Self {
            child,
            via,
            dir,
            port,
            mark,
        }
    }

    /// Connects; to a bus at standard input and output only once.
    pub(crate) fn client(&mut self) -> Client {
        match self.via {
            Via::Stdio => Client::of(&mut self.child),
            Via::Unix => {
                let stream = self.connect_unix();
                let (writer, end) = (stream.try_clone().unwrap(), stream.try_clone().unwrap());
                let end = move || drop(end.shutdown(Shutdown::Write));
                Client::new(Box::new(writer), stream, Box::new(end))
            }
            Via::Tcp => {
                let stream = self.connect_tcp();
                let (writer, end) = (stream.try_clone().unwrap(), stream.try_clone().unwrap());
                let end = move || drop(end.shutdown(Shutdown::Write));
                Client::new(Box::new(writer), stream, Box::new(end))
            }
        }
    }

    /// Returns both directions of a connection as they are.
    pub(crate) fn raw(&mut self) -> (Box<dyn Write + Send>, Box<dyn Read + Send>) {
        match self.via {
            Via::Stdio => {
                let (writer, reader) = (self.child.stdin.take(), self.child.stdout.take());
                (Box::new(writer.unwrap()), Box::new(reader.unwrap()))
            }
            Via::Unix => {
                let stream = self.connect_unix();
                (Box::new(stream.try_clone().unwrap()), Box::new(stream))
            }
            Via::Tcp => {
                let stream = self.connect_tcp();
                (Box::new(stream.try_clone().unwrap()), Box::new(stream))
            }
        }
    }

    /// Opens a socket.
    pub(crate) fn connect(&self) -> Box<dyn Socket> {
        match self.via {
            Via::Stdio => panic!("there is no socket"),
            Via::Unix => Box::new(self.connect_unix()),
            Via::Tcp => Box::new(self.connect_tcp()),
        }
    }

    /// Counts the descriptors that the bus has open.
    pub(crate) fn descriptors(&self) -> usize {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        open.unwrap().count()
    }

    /// Returns the children of the bus, zombies included.
    pub(crate) fn children(&self) -> Vec<u32> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let tasks = tasks.into_iter().flatten().flatten();
        let children = tasks.map(|task| std::fs::read_to_string(task.path().join("children")));
        let children: Vec<String> = children.map(Result::unwrap_or_default).collect();
        let pids = children.iter().flat_map(|text| text.split_whitespace());
        pids.map(|pid| pid.parse().unwrap()).collect()
    }

    pub(crate) fn connect_unix(&self) -> UnixStream {
        let path = self.dir.path().join("s");
        eventually("the socket is there", || UnixStream::connect(&path).ok())
    }

    fn connect_tcp(&self) -> TcpStream {
        let place = ("localhost", self.port);
        eventually("the port is open", || TcpStream::connect(place).ok())
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits for the end of the bus.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        eventually("the bus ends", || self.child.try_wait().unwrap())
    }

    /// Returns the processes that carry the mark of this bus.
    pub(crate) fn family(&self) -> Vec<u32> {
        let mark = format!("AGENTBUS_TEST_MARK={}", self.mark);
        let pids = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|variable| variable == mark.as_bytes())
        })
        .collect()
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Client {
    fn new(
        writer: Box<dyn Write + Send>,
        reader: impl Read + Send + 'static,
        end: Box<dyn Fn() + Send>,
    ) -> Self {
        let lines = lines_of(reader);
        Self { writer, lines, end }
    }

    /// The client at the standard input and output of a process.
    pub(crate) fn of(child: &mut Child) -> Self {
        let (writer, reader) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self::new(Box::new(writer), reader, Box::new(|| {}))
    }

    pub(crate) fn send(&mut self, line: &str) {
        self.send_bytes(format!("{line}\n").as_bytes());
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).unwrap();
        self.writer.flush().unwrap();
    }

    /// Returns the next line, or `None` at the end.
    pub(crate) fn line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("nothing came"),
        }
    }

    pub(crate) fn next(&mut self) -> Value {
        serde_json::from_str(&self.line().unwrap()).unwrap()
    }

    /// Sends a request and returns the next line.
    pub(crate) fn ask(&mut self, request: &Value) -> Value {
        self.send(&request.to_string());
        self.next()
    }

    /// Calls a method and returns its result.
    #[track_caller]
    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Value {
        let answer =
            self.ask(&json!({ "id": method, "method": method, "params": params, "pool": "p" }));
        assert_eq!(answer["id"], method, "{answer}");
        answer["result"].clone()
    }

    /// Returns what the bus counts. Nothing else may be on its way.
    pub(crate) fn stats(&mut self) -> Value {
        self.ask(&json!({ "id": "stats", "method": "stdio_bus/stats" }))["result"].clone()
    }

    /// Returns the process number of the worker that these members of a request lead to.
    #[track_caller]
    pub(crate) fn who(&mut self, members: &Value) -> u64 {
        let mut request = members.clone();
        request["method"] = json!("who");
        request["id"] = json!("w");
        let answer = self.ask(&request);
        answer["result"]
            .as_u64()
            .unwrap_or_else(|| panic!("{answer}"))
    }

    /// Asks until a worker answers, and returns that answer.
    pub(crate) fn ask_until_served(&mut self) -> Value {
        eventually("a worker is back", || {
            let answer = self.ask(&json!({ "id": "back", "method": "echo", "params": 1 }));
            answer.get("result").is_some().then_some(answer)
        })
    }

    /// Says that no more will be said.
    pub(crate) fn finish(self) -> Receiver<String> {
        (self.end)();
        self.lines
    }

    /// Checks that nothing is on its way, by the answer to a question asked last.
    pub(crate) fn nothing_before(&mut self, id: &str) {
        let answer = self.ask(&json!({ "id": id, "method": "stdio_bus/health" }));
        assert_eq!(answer["id"], id, "{answer}");
    }
}

/// Sends a signal to a process that must be there.
#[track_caller]
pub(crate) fn signal(pid: u32, name: &str) {
    let pid = pid.to_string();
    let sent = Command::new("kill").args([name, &pid]).status();
    assert!(sent.unwrap().success(), "{name} to {pid}");
}

/// Tries until there is something.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns the code of the bus's own error in an answer.
pub(crate) fn fault(answer: &Value) -> &str {
    answer["error"]["data"]["code"].as_str().unwrap_or_default()
}

/// Runs a check over every way to reach the bus, all at the same time.
pub(crate) fn over(ways: &[Via], config: &Value, check: impl Fn(&mut Bus) + Sync) {
    std::thread::scope(|scope| {
        for via in ways {
            scope.spawn(|| check(&mut Bus::start(*via, config)));
        }
    });
}
