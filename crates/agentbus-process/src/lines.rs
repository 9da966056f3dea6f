//! Lines from a pipe, in linear time and bounded memory.

use std::io;

use bytes::{Bytes, BytesMut};
use memchr::memchr;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::LINE_BYTES_MAX;

/// Splits what a program prints into lines, without their line ends.
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    buffer: BytesMut,
    /// How far the buffer was searched already, so that no byte is looked at twice.
    searched: usize,
    ended: bool,
}

/// Tells why there is no next line.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// A line is longer than what one payload may be.
    #[error("the program printed a line of more than {LINE_BYTES_MAX} bytes")]
    TooLong,
    /// The pipe failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<LineError> for io::Error {
    fn from(error: LineError) -> Self {
        match error {
            LineError::Io(error) => error,
            LineError::TooLong => Self::other(error),
        }
    }
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Reads from a pipe.
    pub fn new(reader: R) -> Self {
        Self {
            reader,
            buffer: BytesMut::new(),
            searched: 0,
            ended: false,
        }
    }

    /// The next line; `None` at the end. A last line without a line end counts. Cancel-safe.
    ///
    /// # Errors
    /// Fails on a line above the limit, and when the pipe fails.
    pub async fn next(&mut self) -> Result<Option<Bytes>, LineError> {
        loop {
            if let Some(end) = memchr(b'\n', &self.buffer[self.searched..]) {
                return Ok(Some(self.take(self.searched + end, 1)));
            }
            self.searched = self.buffer.len();
            if self.searched > LINE_BYTES_MAX {
                return Err(LineError::TooLong);
            }
            if self.ended {
                let rest = self.buffer.len();
                return Ok((rest > 0).then(|| self.take(rest, 0)));
            }
            self.ended = self.reader.read_buf(&mut self.buffer).await? == 0;
        }
    }

    fn take(&mut self, length: usize, line_end: usize) -> Bytes {
        let mut line = self.buffer.split_to(length + line_end);
        line.truncate(length);
        if line.last() == Some(&b'\r') {
            line.truncate(length - 1);
        }
        self.searched = 0;
        line.freeze()
    }
}
