//! The fastest worker that still does its job.
//!
//! Without an argument it turns each request into an answer of the same size. With a number it
//! answers each request with so many bytes.

use std::io::{self, Read};

const REQUEST: &[u8] = b"\"method\"";
const ANSWER: &[u8] = b"\"result\"";

/// The member stands near the front; a large payload is not searched.
const HEAD: usize = 200;

fn main() -> io::Result<()> {
    let size = std::env::args().nth(1).and_then(|size| size.parse().ok());
    let mut buffer = vec![0; 4 << 20];
    let mut held = 0;
    loop {
        if held == buffer.len() {
            buffer.resize(2 * held, 0);
        }
        let count = io::stdin().lock().read(&mut buffer[held..])?;
        if count == 0 {
            return Ok(());
        }
        let fresh = held;
        held += count;
        let Some(end) = memchr::memrchr(b'\n', &buffer[fresh..held]) else {
            continue;
        };
        let end = fresh + end + 1;
        match size {
            None => echo(&mut buffer[..end])?,
            Some(size) => enlarge(&buffer[..end], size)?,
        }
        buffer.copy_within(end..held, 0);
        held -= end;
    }
}

fn echo(lines: &mut [u8]) -> io::Result<()> {
    for line in lines.split_mut(|byte| *byte == b'\n') {
        let head = line.len().min(HEAD);
        if let Some(at) = memchr::memmem::find(&line[..head], REQUEST) {
            line[at..at + ANSWER.len()].copy_from_slice(ANSWER);
        }
    }
    say(lines)
}

fn enlarge(lines: &[u8], size: usize) -> io::Result<()> {
    for line in lines.split(|byte| *byte == b'\n') {
        if let Some(at) = memchr::memmem::find(line, REQUEST) {
            let mut answer = [&line[..at], ANSWER, b":\""].concat();
            answer.resize(size - 3, b'x');
            answer.extend_from_slice(b"\"}\n");
            say(&answer)?;
        }
    }
    Ok(())
}

/// Writes past the buffer of standard output, which would only copy.
fn say(bytes: &[u8]) -> io::Result<()> {
    let mut left = bytes;
    while !left.is_empty() {
        let count = rustix::io::write(io::stdout(), left)?;
        left = &left[count..];
    }
    Ok(())
}
