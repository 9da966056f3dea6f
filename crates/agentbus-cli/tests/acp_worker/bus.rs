//! A bus with agents behind it, for clients that speak ACP to it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::serving::{SERVE, Serving};
use crate::support::frames::python;
use crate::tap::PROGRAM;

pub(crate) struct Bus {
    serving: Serving,
    pub(crate) dir: tempfile::TempDir,
}

impl Bus {
    /// A bus with the worker as its agent `echo`.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// The same with an agent on the Python SDK, `py`.
    pub(crate) fn with_python() -> Option<Self> {
        let agent = "../agentbus-acp/tests/driving/agent.py";
        let agent = Path::new(env!("CARGO_MANIFEST_DIR")).join(agent);
        Some(Self::with(&[("py", vec![python()?, agent])]))
    }

    fn with(others: &[(&str, Vec<PathBuf>)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let add = |name: &str, command: &[PathBuf]| {
            let mut add = program(dir.path());
            let added = add.args(["agent", "add", name, "--"]).args(command);
            assert!(added.output().unwrap().status.success());
        };
        let worker = [PROGRAM, "worker", "acp", "--data-dir", "worker"];
        add("echo", &worker.map(PathBuf::from));
        others.iter().for_each(|(name, command)| add(name, command));
        let mut serve = program(dir.path());
        let serving =
            Serving::start(
                serve
                    .args(SERVE)
                    .args(["--config", "agentbus.toml", "--log", "error"]),
            );
        Self { serving, dir }
    }

    pub(crate) fn url(&self) -> &str {
        &self.serving.url
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = program(self.dir.path());
        command.args(["--json", "--url", self.url()]).args(words);
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }
}

fn program(dir: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .current_dir(dir)
        .env("AGENTBUS_DATA_DIR", dir.join("data"))
        .env_remove("AGENTBUS_URL")
        .env_remove("AGENTBUS_TOKEN");
    command
}
