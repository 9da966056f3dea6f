//! A client that keeps its connection.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

pub(crate) struct Client(SendRequest<Full<Bytes>>);

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        token: &str,
        body: &Value,
    ) -> (u16, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("x-agent-token", token)
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        self.0.ready().await.unwrap();
        let response = self.0.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// Creates a thread; its id.
    pub(crate) async fn thread(&mut self, topic: &str) -> String {
        let new = json!({ "ide": "bench", "model": "m" });
        let (_, agent) = self.send("POST", "/api/agents/register", "", &new).await;
        let new = json!({ "topic": topic, "creator_agent_id": agent["agent_id"] });
        let token = agent["token"].as_str().unwrap();
        let (_, thread) = self.send("POST", "/api/threads", token, &new).await;
        thread["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn post(&mut self, thread: &str, text: &str) -> u16 {
        let path = format!("/api/threads/{thread}/messages");
        self.send("POST", &path, "", &json!({ "content": text }))
            .await
            .0
    }

    /// Follows events.
    pub(crate) async fn events(mut self) -> Incoming {
        let request = Request::builder()
            .uri("/events")
            .header("host", "localhost")
            .body(Full::new(Bytes::new()))
            .unwrap();
        let response = self.0.send_request(request).await.unwrap();
        // The connection lives as long as its sender.
        std::mem::drop(tokio::spawn(async move {
            std::future::pending::<()>().await;
            drop(self);
        }));
        response.into_body()
    }
}
