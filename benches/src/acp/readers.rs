//! Readers of server-sent events that count chunks and do nothing else.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use agentbus::Bus;
use memchr::memmem;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What stands once in each update. An event is a piece of its own in the body, so that nothing
/// of HTTP comes in between.
const CHUNK: &[u8] = b"agent_message_chunk";

struct Reader {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Bytes of the last read that may begin a chunk's word.
    kept: usize,
}

impl Reader {
    async fn open(address: SocketAddr, request: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        Self {
            stream,
            buffer: vec![0; 256 * 1024],
            kept: 0,
        }
    }

    /// Reads once; returns how many chunks came.
    async fn read(&mut self) -> usize {
        let read = self
            .stream
            .read(&mut self.buffer[self.kept..])
            .await
            .unwrap();
        assert!(read > 0, "the stream has ended");
        let end = self.kept + read;
        let count = memmem::find_iter(&self.buffer[..end], CHUNK).count();
        let keep = end.min(CHUNK.len() - 1);
        self.buffer.copy_within(end - keep..end, 0);
        self.kept = keep;
        count
    }

    async fn count(&mut self, chunks: usize) {
        let mut count = 0;
        while count < chunks {
            count += self.read().await;
        }
        assert_eq!(count, chunks);
    }
}

/// Chunks a second to the caller of a turn.
pub(crate) async fn caller(address: SocketAddr, chunks: usize) -> f64 {
    let body = format!("\"{chunks}\"");
    let request = format!(
        "POST /v1/agents/bench/stream HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let begun = Instant::now();
    let mut reader = Reader::open(address, &request).await;
    reader.count(chunks).await;
    chunks as f64 / begun.elapsed().as_secs_f64()
}

/// Chunks a second to one who follows a session, from the prompt on.
pub(crate) async fn follower(bus: &Bus, address: SocketAddr, session: &str, chunks: usize) -> f64 {
    // It is known once it has had a turn.
    turn(bus, session, 1).await;
    let path = format!("/v1/sessions/bench:{session}/events");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let mut reader = Reader::open(address, &request).await;
    reader.count(1).await;
    let begun = Instant::now();
    let counting = async {
        reader.count(chunks).await;
        begun.elapsed()
    };
    let (took, ()) = tokio::join!(counting, turn(bus, session, chunks));
    chunks as f64 / took.as_secs_f64()
}

async fn turn(bus: &Bus, session: &str, chunks: usize) {
    let call = bus.stream("bench", &Value::from(chunks.to_string()));
    let mut frames = call
        .session(session)
        .idle_timeout(Duration::from_secs(60))
        .await
        .unwrap();
    while let Some(frame) = frames.next().await {
        frame.unwrap();
    }
}
