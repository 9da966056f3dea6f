//! The real OpenAgentIO package, driven line by line.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;

/// What is installed, exactly.
const PACKAGES: [&str; 2] = ["openagentio==0.3.0", "nats-py==2.16.0"];

/// Longest time that the peer may take for one step.
const STEP: Duration = Duration::from_secs(120);

/// An agent of the other implementation in a process of its own.
pub(crate) struct Peer {
    child: Child,
    input: ChildStdin,
    answers: mpsc::UnboundedReceiver<Value>,
    events: mpsc::UnboundedReceiver<Value>,
    next: u64,
}

impl Peer {
    pub(crate) async fn start(url: &str, agent: &str, tenant: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openagentio/peer.py");
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(python())
            .arg(script)
            .args([url, agent, tenant])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (answer, answers) = mpsc::unbounded_channel();
        let (event, events) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let line: Value = serde_json::from_str(&line).unwrap();
                let to = if line.get("event").is_some() {
                    &event
                } else {
                    &answer
                };
                if to.send(line).is_err() {
                    return;
                }
            }
        });
        let mut peer = Self {
            child,
            input,
            answers,
            events,
            next: 0,
        };
        assert_eq!(peer.answer().await, json!({ "ready": true }));
        peer
    }

    /// Sends an operation without waiting for its answer. Returns its number.
    pub(crate) fn begin(&mut self, mut operation: Value) -> u64 {
        self.next += 1;
        operation["id"] = self.next.into();
        writeln!(self.input, "{operation}").unwrap();
        self.next
    }

    /// Performs an operation and returns what came of it.
    pub(crate) async fn run(&mut self, operation: Value) -> Value {
        let id = self.begin(operation);
        self.result(id).await
    }

    /// Waits for the answer to an operation.
    pub(crate) async fn result(&mut self, id: u64) -> Value {
        let answer = self.answer().await;
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    async fn answer(&mut self) -> Value {
        let answer = tokio::time::timeout(STEP, self.answers.recv()).await;
        answer
            .expect("the peer is silent")
            .expect("the peer has ended")
    }

    /// The next event that one of its subscriptions received.
    pub(crate) async fn event(&mut self) -> Value {
        let event = tokio::time::timeout(STEP, self.events.recv()).await;
        event.expect("no event came").expect("the peer has ended")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The interpreter of an environment that has the packages.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
        let folder = target.join("openagentio-0.3.0");
        let python = folder.join("bin/python");
        // Written last, so that an installation that was cut short is made again.
        let complete = folder.join("complete");
        std::fs::create_dir_all(&target).unwrap();
        // Each test may be a process of its own.
        let one_at_a_time = File::create(target.join("openagentio.lock")).unwrap();
        one_at_a_time.lock().unwrap();
        if !complete.exists() {
            run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
            run(Command::new(&python)
                .args(["-m", "pip", "install", "-q"])
                .args(PACKAGES));
            std::fs::write(complete, PACKAGES.join("\n")).unwrap();
        }
        python
    })
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {said}");
}
