//! A byte stream as the lines that an agent is served on, with the bus's routing ids taken off.

use std::io;
use std::sync::Arc;

use agentbus_process::Lines;
use futures_util::{Sink, SinkExt, Stream, TryStreamExt, stream};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::{FramedWrite, LinesCodec, LinesCodecError};

use super::limits::LINE_BYTES;
use super::routing::Routing;

/// Returns both directions.
pub(super) fn lines(
    input: impl AsyncRead + Unpin + Send + 'static,
    output: impl AsyncWrite + Send + 'static,
) -> (
    impl Stream<Item = io::Result<String>> + Send + 'static,
    impl Sink<String, Error = io::Error> + Send + 'static,
) {
    let routing = Arc::new(Mutex::new(Routing::default()));
    let incoming = read(input);
    let known = Arc::clone(&routing);
    let incoming = incoming.map_ok(move |line| known.lock().incoming(line));
    let outgoing = written(output);
    let outgoing = outgoing.with(move |line: String| {
        let line = routing.lock().outgoing(line);
        std::future::ready(Ok::<_, io::Error>(line))
    });
    (incoming, outgoing)
}

/// Returns a reader of lines that hold something.
pub(super) fn read(
    input: impl AsyncRead + Unpin + Send + 'static,
) -> impl Stream<Item = io::Result<String>> + Send + 'static {
    stream::try_unfold(Lines::new(input, LINE_BYTES), |mut lines| async move {
        loop {
            let line = lines.next().await.map_err(io::Error::other)?;
            let Some(line) = line else { return Ok(None) };
            let text = String::from_utf8_lossy(line.trim_ascii());
            if !text.is_empty() {
                return Ok(Some((text.into_owned(), lines)));
            }
        }
    })
}

/// Returns a writer of lines.
pub(super) fn written(
    output: impl AsyncWrite + Send + 'static,
) -> impl Sink<String, Error = io::Error> + Send + 'static {
    let lines = FramedWrite::new(output, LinesCodec::new());
    SinkExt::<String>::sink_map_err(lines, |error| match error {
        LinesCodecError::Io(error) => error,
        too_long @ LinesCodecError::MaxLineLengthExceeded => io::Error::other(too_long),
    })
}
