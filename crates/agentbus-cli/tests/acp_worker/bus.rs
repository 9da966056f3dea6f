//! A bus with agents behind it, for clients that speak ACP to it.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

use crate::serving::{SERVE, Serving, agentbus};
use crate::support::frames::python;
use crate::tap::{PROGRAM, Tap};

pub(crate) struct Bus {
    serving: Serving,
    /// What stands between the bus and its agents; all that passed is checked at the end.
    taps: Vec<Tap>,
    pub(crate) dir: tempfile::TempDir,
}

impl Bus {
    /// A bus with the worker as its agent `echo`.
    pub(crate) fn start() -> Self {
        Self::with(vec![("echo", Tap::worker())])
    }

    /// The same with an agent on the Python SDK, `py`.
    pub(crate) fn with_python() -> Option<Self> {
        let [python, agent] = python_agent()?;
        let tap = Tap::new().around(&[&python, &agent]);
        Some(Self::with(vec![("echo", Tap::worker()), ("py", tap)]))
    }

    /// The bus with the worker as its own child, which a test can kill, and the bus with it.
    pub(crate) fn untapped() -> Self {
        let dir = tempfile::tempdir().unwrap();
        add(
            dir.path(),
            "echo",
            &[PROGRAM, "worker", "acp", "--data-dir", "worker"],
        );
        Self::serve(dir, Vec::new())
    }

    /// The bus with the agent on the Python SDK as its own child.
    pub(crate) fn untapped_python() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        add(dir.path(), "py", &python_agent()?);
        Some(Self::serve(dir, Vec::new()))
    }

    fn with(agents: Vec<(&str, Tap)>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, tap) in &agents {
            add(dir.path(), name, &[tap.command()]);
        }
        Self::serve(dir, agents.into_iter().map(|(_, tap)| tap).collect())
    }

    fn serve(dir: tempfile::TempDir, taps: Vec<Tap>) -> Self {
        let serving = serve(dir.path());
        Self { serving, taps, dir }
    }

    /// Ends the bus with a signal, and starts it again where it was.
    pub(crate) fn restart(&mut self, signal: &str) {
        let process = &mut self.serving.process.0;
        let mut kill = Command::new("kill");
        let signalled = kill
            .args(["-s", signal, &process.id().to_string()])
            .status();
        assert!(signalled.unwrap().success());
        process.wait().unwrap();
        self.serving = serve(self.dir.path());
    }

    pub(crate) fn url(&self) -> &str {
        &self.serving.url
    }

    /// The host and the port.
    pub(crate) fn address(&self) -> &str {
        self.serving.address()
    }

    pub(crate) fn token(&self) -> String {
        self.serving.token()
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = agentbus(self.dir.path());
        command.args(["--json", "--url", self.url()]).args(words);
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        // A test that has failed says why, and nothing else.
        if !std::thread::panicking() {
            self.serving.process.end();
            for tap in &self.taps {
                tap.check();
            }
        }
    }
}

fn python_agent() -> Option<[String; 2]> {
    let agent = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../agentbus-acp/tests/driving/agent.py"
    );
    Some([python()?.display().to_string(), agent.to_owned()])
}

fn add(dir: &Path, name: &str, command: &[impl AsRef<OsStr>]) {
    let mut add = agentbus(dir);
    let added = add
        .args(["agent", "add", name, "--"])
        .args(command)
        .output();
    assert!(added.unwrap().status.success());
}

fn serve(dir: &Path) -> Serving {
    let options = [
        "--config",
        "agentbus.toml",
        "--log",
        "error",
        "--drain",
        "1",
    ];
    Serving::start(agentbus(dir).args(SERVE).args(options))
}
