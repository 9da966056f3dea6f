//! Server-sent events, in the exact layout that peers of the HTTP adapter read.

use std::future::Future;
use std::time::Duration;

use agentbus::Envelope;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use tokio_util::sync::CancellationToken;

use crate::limits::{SSE_PIECE_BYTES, SSE_RETRY_MS};

/// Writes one event: type, id, retry and the whole envelope on one line.
pub(crate) fn block(envelope: &Envelope) -> Bytes {
    block_of(envelope, |out| envelope.encode_into(out))
}

/// The same with a CloudEvent as data.
pub(crate) fn cloud_event(envelope: &Envelope) -> Bytes {
    block_of(envelope, |out| {
        out.extend_from_slice(&crate::cloudevents::write(envelope));
    })
}

fn block_of(envelope: &Envelope, data: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut out = Vec::with_capacity(768);
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(one_line(envelope.event_type.as_str()).as_bytes());
    if !envelope.event_id.is_absent() {
        out.extend_from_slice(b"\nid: ");
        envelope
            .event_id
            .with_str(|id| out.extend_from_slice(one_line(id).as_bytes()));
    }
    out.extend_from_slice(format!("\nretry: {SSE_RETRY_MS}\ndata: ").as_bytes());
    data(&mut out);
    out.extend_from_slice(b"\n\n");
    out.into()
}

/// Cuts a text from a peer at its first line break, so that it cannot begin a field of its own.
fn one_line(text: &str) -> &str {
    text.split(['\r', '\n']).next().unwrap_or_default()
}

/// A comment, which readers skip; it proves that the stream lives.
pub(crate) fn heartbeat() -> Bytes {
    Bytes::from_static(b": hb\n\n")
}

/// A comment that tells how many events a slow reader has lost.
pub(crate) fn missed(count: u64) -> Bytes {
    format!(": missed {count}\n\n").into()
}

/// Something that yields blocks one after the other. `next` must be cancel-safe.
pub(crate) trait Blocks: Send + 'static {
    /// The next block; `None` ends the stream.
    fn next(&mut self) -> impl Future<Output = Option<Bytes>> + Send;

    /// One more block that is there already, so that a reader who is behind gets several at once.
    fn ready(&mut self) -> Option<Bytes> {
        None
    }

    /// The last block of a stream that the host has to cut.
    fn cut(&self) -> Option<Bytes> {
        None
    }
}

/// The same for a reader that may wait long for its first block: it is greeted, which tells it that
/// it is connected and misses nothing from here on.
pub(crate) fn follow(
    blocks: impl Blocks,
    heartbeat_after: Duration,
    hang_up: CancellationToken,
) -> Response {
    let greeted = Greeted {
        blocks,
        greeted: false,
    };
    respond(greeted, heartbeat_after, hang_up)
}

/// Blocks after a greeting.
struct Greeted<B> {
    blocks: B,
    greeted: bool,
}

impl<B: Blocks> Blocks for Greeted<B> {
    async fn next(&mut self) -> Option<Bytes> {
        match std::mem::replace(&mut self.greeted, true) {
            false => Some(heartbeat()),
            true => self.blocks.next().await,
        }
    }

    fn ready(&mut self) -> Option<Bytes> {
        self.blocks.ready()
    }

    fn cut(&self) -> Option<Bytes> {
        self.blocks.cut()
    }
}

/// Joins a block with those that are there behind it: a piece of a body costs several times what an
/// event in it does.
fn with_ready(block: Bytes, blocks: &mut impl Blocks) -> Bytes {
    let Some(second) = blocks.ready() else {
        return block;
    };
    let mut joined = BytesMut::with_capacity(SSE_PIECE_BYTES + 1024);
    joined.extend_from_slice(&block);
    joined.extend_from_slice(&second);
    while joined.len() < SSE_PIECE_BYTES
        && let Some(more) = blocks.ready()
    {
        joined.extend_from_slice(&more);
    }
    joined.freeze()
}

/// Makes the answer: the blocks, with heartbeats in every silence, until the host hangs up.
pub(crate) fn respond(
    blocks: impl Blocks,
    heartbeat_after: Duration,
    hang_up: CancellationToken,
) -> Response {
    let body = stream::unfold(Some((blocks, hang_up)), move |going| async move {
        let (mut blocks, hang_up) = going?;
        let block = tokio::select! {
            biased;
            block = blocks.next() => with_ready(block?, &mut blocks),
            () = hang_up.cancelled() => return Some((Ok(blocks.cut()?), None)),
            () = tokio::time::sleep(heartbeat_after) => heartbeat(),
        };
        Some((
            Ok::<_, std::convert::Infallible>(block),
            Some((blocks, hang_up)),
        ))
    });
    let mut response = Response::new(Body::from_stream(body));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    set(header::CONTENT_TYPE, "text/event-stream; charset=utf-8");
    set(header::CACHE_CONTROL, "no-cache");
    set(header::HeaderName::from_static("x-accel-buffering"), "no");
    response
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    /// So many blocks of a kilobyte, all there from the beginning.
    struct There(u8);

    impl Blocks for There {
        async fn next(&mut self) -> Option<Bytes> {
            self.ready()
        }

        fn ready(&mut self) -> Option<Bytes> {
            self.0 = self.0.checked_sub(1)?;
            Some(vec![self.0; 1024].into())
        }
    }

    #[tokio::test]
    async fn blocks_that_are_there_are_joined_and_none_is_lost() {
        let response = respond(There(40), Duration::MAX, CancellationToken::new());
        let pieces = response.into_body().into_data_stream();
        let pieces: Vec<_> = pieces.map(Result::unwrap).collect().await;
        let sizes: Vec<_> = pieces.iter().map(Bytes::len).collect();
        assert_eq!(sizes, [SSE_PIECE_BYTES, SSE_PIECE_BYTES, 8 * 1024]);
        let expected: Vec<_> = (0..40).rev().flat_map(|block| [block; 1024]).collect();
        assert_eq!(pieces.concat(), expected);
    }
}
