//! Built-in workers, for tests and first steps.
//!
//! They read lines and write lines, block while they wait, and end with their input.

use std::io::{self, BufRead, BufReader, Read, Write};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

mod echo;
mod mcp_echo;
#[cfg(test)]
mod tests;

pub use echo::echo;
pub use mcp_echo::mcp_echo;

/// The members of a message that a worker looks at.
#[derive(Debug, Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<String>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(rename = "sessionId", borrow)]
    session: Option<&'a RawValue>,
}

/// An answer.
#[derive(Debug, Serialize)]
struct Answer<'a, T> {
    jsonrpc: &'static str,
    id: &'a RawValue,
    result: T,
    #[serde(rename = "sessionId", skip_serializing_if = "Option::is_none")]
    session: Option<&'a RawValue>,
}

impl Message<'_> {
    /// Returns the session as it stood in the line, unless it counts for nothing.
    fn session(&self) -> Option<&RawValue> {
        let empty = ["\"\"", "null", "false", "0"];
        self.session
            .filter(|session| !empty.contains(&session.get()))
    }
}

/// Calls `each` with every line that is not blank, and flushes before it would have to wait.
fn for_each_line<R: Read, W: Write>(
    input: R,
    output: &mut W,
    mut each: impl FnMut(&[u8], &mut W) -> io::Result<()>,
) -> io::Result<()> {
    let mut input = BufReader::with_capacity(64 * 1024, input);
    let mut line = Vec::new();
    loop {
        if input.buffer().is_empty() {
            output.flush()?;
        }
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            return output.flush();
        }
        let text = line.trim_ascii();
        if !text.is_empty() {
            each(text, output)?;
        }
    }
}

/// Writes a message as a line.
fn write_line(output: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *output, message)?;
    output.write_all(b"\n")
}
