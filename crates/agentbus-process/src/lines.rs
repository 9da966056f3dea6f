//! Splits a byte stream into lines, each in time linear in its length.
//!
//! It promises whole lines or an error, never part of one. It does not check UTF-8 and does
//! not strip carriage returns: a line is the bytes before a newline.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::error::LineError;
use crate::limits::READ_BYTES;

/// Lines of a byte stream.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), agentbus_process::LineError> {
/// use agentbus_process::Lines;
///
/// let mut lines = Lines::new(&b"one\ntwo"[..], 1024);
/// assert_eq!(lines.next().await?.as_deref(), Some(&b"one"[..]));
/// assert_eq!(lines.next().await?.as_deref(), Some(&b"two"[..]));
/// assert_eq!(lines.next().await?, None);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    buffer: BytesMut,
    /// How much of the buffer is known to hold no newline, so that none is searched twice.
    searched: usize,
    limit: usize,
    ended: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Reads lines of at most `limit` bytes, newline not counted.
    pub fn new(reader: R, limit: usize) -> Self {
        Self {
            reader,
            buffer: BytesMut::new(),
            searched: 0,
            limit,
            ended: false,
        }
    }

    /// Returns the next line without its newline, or `None` at the end.
    ///
    /// The last line needs no newline. After an error there is no further line. Cancel safe:
    /// what was read stays for the next call.
    ///
    /// # Errors
    ///
    /// [`LineError::TooLong`] as soon as a line is known to exceed the limit, and
    /// [`LineError::Read`] when the stream fails.
    pub async fn next(&mut self) -> Result<Option<Bytes>, LineError> {
        loop {
            let newline = memchr::memchr(b'\n', &self.buffer[self.searched..])
                .map(|offset| self.searched + offset);
            let length = newline.unwrap_or(self.buffer.len());
            if length > self.limit {
                return self.fail(LineError::TooLong { limit: self.limit });
            }
            if let Some(length) = newline {
                self.searched = 0;
                let mut line = self.buffer.split_to(length + 1);
                line.truncate(length);
                return Ok(Some(line.freeze()));
            }
            self.searched = length;
            if self.ended {
                self.searched = 0;
                let rest = self.buffer.split().freeze();
                return Ok((!rest.is_empty()).then_some(rest));
            }
            self.buffer.reserve(READ_BYTES);
            match self.reader.read_buf(&mut self.buffer).await {
                Ok(count) => self.ended = count == 0,
                Err(error) => return self.fail(error.into()),
            }
        }
    }

    fn fail(&mut self, error: LineError) -> Result<Option<Bytes>, LineError> {
        self.buffer = BytesMut::new();
        self.searched = 0;
        self.ended = true;
        Err(error)
    }
}
