//! The agent on bare pipes, driven by blocking reads and writes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use memchr::memmem;

/// What only the answer to a prompt says.
const ENDED: &[u8] = b"stopReason";

pub(crate) struct Bare {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    line: Vec<u8>,
}

impl Bare {
    pub(crate) fn start(agent: &[String]) -> Self {
        let mut command = Command::new(&agent[0]);
        command.args(&agent[1..]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut bare = Self {
            stdin: child.stdin.take().unwrap(),
            stdout: BufReader::with_capacity(64 * 1024, child.stdout.take().unwrap()),
            child,
            line: Vec::new(),
        };
        bare.ask("initialize", "{\"protocolVersion\":1}");
        bare.read();
        bare.ask("session/new", "{\"cwd\":\"/\",\"mcpServers\":[]}");
        bare.read();
        bare
    }

    fn ask(&mut self, method: &str, params: &str) {
        let line = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{method}\",\"params\":{params}}}\n"
        );
        self.stdin.write_all(line.as_bytes()).unwrap();
    }

    fn prompt(&mut self, chunks: usize) {
        let params = format!(
            "{{\"sessionId\":\"bench\",\"prompt\":[{{\"type\":\"text\",\"text\":\"{chunks}\"}}]}}"
        );
        self.ask("session/prompt", &params);
    }

    /// Reads a line; true if it ends a turn.
    fn read(&mut self) -> bool {
        self.line.clear();
        self.stdout.read_until(b'\n', &mut self.line).unwrap();
        memmem::find(&self.line, ENDED).is_some()
    }

    /// From a prompt to its first chunk.
    pub(crate) fn first_chunk(&mut self) -> Duration {
        let begun = Instant::now();
        self.prompt(1);
        self.read();
        let first = begun.elapsed();
        while !self.read() {}
        first
    }

    /// Chunks a second.
    pub(crate) fn rate(&mut self, chunks: usize) -> f64 {
        let begun = Instant::now();
        self.prompt(chunks);
        let mut count = 0;
        while !self.read() {
            count += 1;
        }
        assert_eq!(count, chunks);
        chunks as f64 / begun.elapsed().as_secs_f64()
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
