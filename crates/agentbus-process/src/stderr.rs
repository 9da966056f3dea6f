//! The last words of a program.

use std::collections::VecDeque;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::ChildStderr;

use crate::limits::{STDERR_LINE_BYTES, STDERR_LINES};

/// Reads standard error, logs it, and keeps its last lines.
#[derive(Debug)]
pub(crate) struct Stderr {
    name: String,
    pipe: Option<BufReader<ChildStderr>>,
    line: Vec<u8>,
    pub(crate) lines: VecDeque<String>,
}

impl Stderr {
    pub(crate) fn new(name: String, pipe: Option<ChildStderr>) -> Self {
        let pipe = pipe.map(BufReader::new);
        Self {
            name,
            pipe,
            line: Vec::new(),
            lines: VecDeque::new(),
        }
    }

    /// Reads to the end. Cancel-safe: what was read is kept.
    pub(crate) async fn drain(&mut self) {
        while let Some(pipe) = &mut self.pipe {
            let chunk = match pipe.fill_buf().await {
                Ok([]) | Err(_) => {
                    self.end_line();
                    self.pipe = None;
                    return;
                }
                Ok(chunk) => chunk.to_vec(),
            };
            pipe.consume(chunk.len());
            self.take(&chunk);
        }
    }

    fn take(&mut self, chunk: &[u8]) {
        for &byte in chunk {
            match byte {
                b'\n' => self.end_line(),
                // The rest of an over-long line adds nothing that helps.
                _ if self.line.len() < STDERR_LINE_BYTES => self.line.push(byte),
                _ => {}
            }
        }
    }

    fn end_line(&mut self) {
        if self.line.is_empty() {
            return;
        }
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        tracing::debug!(program = self.name, line, "standard error");
        if self.lines.len() == STDERR_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}
