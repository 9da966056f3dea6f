//! A served bus with pools, and those who call it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::*;
use crate::readme;
use crate::serving::{SERVE, Serving, agentbus};

/// A bus that serves the pools of a file.
pub(crate) struct Host {
    pub(crate) serving: Serving,
    address: String,
    token: String,
    dir: tempfile::TempDir,
}

/// The file of one pool `p` of scripted workers.
pub(crate) fn file(instances: u32, more: &str) -> String {
    format!(
        "[[pools]]\nid = \"p\"\ncommand = {:?}\ninstances = {instances}\n{more}\n\
         [pool_limits]\nrestart_delay_ms = 1\nmax_restarts = 1000\ndrain_timeout_sec = 10\n",
        scripted_worker()
    )
}

impl Host {
    pub(crate) fn start(file: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("agentbus.toml"), file).unwrap();
        let mut serve = agentbus(dir.path());
        let serving =
            Serving::start(
                serve
                    .args(SERVE)
                    .args(["--config", "agentbus.toml", "--log", "error"]),
            );
        Self {
            address: serving.address().to_owned(),
            token: serving.token(),
            serving,
            dir,
        }
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        let mut command = agentbus(self.dir.path());
        command.env("AGENTBUS_URL", format!("http://{}", self.address));
        command.args(args).output().unwrap()
    }

    /// Runs a line of a shell that finds `agentbus`, at this bus instead of the usual place.
    pub(crate) fn shell(&self, line: &str) -> Command {
        let url = format!("http://{}", self.address);
        readme::shell(line, self.dir.path(), &url, &[])
    }

    /// Runs a command that succeeds and returns what it printed.
    #[track_caller]
    pub(crate) fn says(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {error}");
        String::from_utf8(output.stdout)
            .unwrap()
            .trim_end()
            .to_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.says(args)).unwrap()
    }

    /// The host and the port.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Makes an HTTP request and leaves its answer unread.
    pub(crate) fn open(&self, method: &str, path: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.address,
            self.token,
            body.len()
        )
        .unwrap();
        stream
    }

    /// Makes an HTTP request and returns its status and its body.
    pub(crate) fn http(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        read(self.open(method, path, body))
    }

    /// Tells about every worker of every pool.
    pub(crate) fn list(&self) -> Vec<Value> {
        let list = self.json(&["pool", "list", "--json"]);
        let pools = list["pools"].as_array().unwrap().iter();
        let workers = pools.flat_map(|pool| pool["workers"].as_array().unwrap());
        workers.cloned().collect()
    }

    /// The process numbers of the workers.
    pub(crate) fn workers(&self) -> Vec<u32> {
        let pids = self.list();
        let pids = pids.iter().filter_map(|worker| worker["pid"].as_u64());
        pids.map(|pid| pid.try_into().unwrap()).collect()
    }

    /// Waits until every worker has so many requests.
    pub(crate) fn all_have(&self, in_flight: u64) {
        eventually("the workers have their requests", || {
            let has = |worker: &Value| worker["in_flight"] == in_flight;
            self.list().iter().all(has).then_some(())
        });
    }

    /// Tells the bus to end, as an operator does.
    pub(crate) fn terminate(&self) {
        signal(self.serving.process.0.id(), "-TERM");
    }

    /// Waits for the end of the bus and of these workers, and returns the exit code.
    pub(crate) fn ended(&mut self, workers: &[u32]) -> Option<i32> {
        let process = &mut self.serving.process.0;
        let status = eventually("the bus ends", || process.try_wait().unwrap());
        let gone = |pid: &u32| !Path::new(&format!("/proc/{pid}")).exists();
        eventually("no worker is left", || {
            workers.iter().all(gone).then_some(())
        });
        status.code()
    }
}

/// Reads an answer to its end; returns its status and its body.
pub(crate) fn read(mut answer: TcpStream) -> (u16, String) {
    let mut text = String::new();
    answer.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}
