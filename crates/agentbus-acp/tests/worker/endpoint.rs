//! An endpoint that speaks the streaming wire of OpenAI's chat completions, as it was told to.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the endpoint does with one request.
pub(crate) enum Script {
    /// Streams these events in pieces of so many bytes, and ends as it should.
    Events(Vec<String>, usize),
    /// Streams these events and hangs up.
    HangUp(Vec<String>),
    /// Streams these events and says nothing more.
    Hold(Vec<String>),
    /// Refuses: status, further headers, body.
    Refuse(u16, &'static str, &'static str),
}

pub(crate) struct Endpoint {
    pub(crate) url: String,
    /// The requests so far: their headers and their body.
    pub(crate) requests: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Endpoint {
    pub(crate) async fn start(scripts: Vec<Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            let mut scripts = VecDeque::from(scripts);
            while let Ok((stream, _)) = listener.accept().await {
                let script = scripts.pop_front().expect("more requests than scripts");
                tokio::spawn(serve(stream, script, Arc::clone(&seen)));
            }
        });
        Self { url, requests }
    }

    pub(crate) fn request(&self, number: usize) -> Value {
        self.requests.lock().unwrap()[number].1.clone()
    }
}

/// An event with this delta.
pub(crate) fn delta(delta: Value) -> String {
    json!({ "id": "x", "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] })
        .to_string()
}

/// The last events of an answer.
pub(crate) fn finish(reason: &str) -> Vec<String> {
    vec![
        json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] }).to_string(),
        json!({ "choices": [], "usage": { "prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7 } }).to_string(),
        "[DONE]".to_owned(),
    ]
}

async fn serve(mut stream: TcpStream, script: Script, seen: Arc<Mutex<Vec<(String, Value)>>>) {
    let request = read(&mut stream).await;
    seen.lock().unwrap().push(request);
    let (events, piece, end) = match script {
        Script::Refuse(status, headers, body) => {
            let answer = format!(
                "HTTP/1.1 {status} x\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
            return;
        }
        Script::Events(events, piece) => (events, piece, true),
        Script::HangUp(events) => (events, 7, false),
        Script::Hold(events) => {
            stream_events(&mut stream, &events, 7).await;
            return std::future::pending().await;
        }
    };
    stream_events(&mut stream, &events, piece).await;
    if end {
        stream.write_all(b"0\r\n\r\n").await.unwrap();
    }
}

async fn stream_events(stream: &mut TcpStream, events: &[String], piece: usize) {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let text: String = events
        .iter()
        .map(|event| format!(": ping\n\ndata: {event}\n\n"))
        .collect();
    for piece in text.as_bytes().chunks(piece) {
        let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
        chunk.extend_from_slice(piece);
        chunk.extend_from_slice(b"\r\n");
        // The client may have cancelled.
        if stream.write_all(&chunk).await.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream) -> (String, Value) {
    let mut bytes = Vec::new();
    loop {
        stream.read_buf(&mut bytes).await.unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let head = head.to_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.unwrap().parse().unwrap();
        if body.len() >= length {
            return (head.clone(), serde_json::from_str(body).unwrap());
        }
    }
}
