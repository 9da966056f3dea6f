//! A bus reached over its WebSocket keeps the contract of a transport.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use std::sync::Arc;
use std::time::Duration;

use agentbus::protocol::{Pattern, Subject};
use agentbus::transport::{Message, PublishOptions, Subscribe, TransportError};
use agentbus::{Bus, Envelope};
use agentbus_server::{AuthMode, Server, ServerConfig};
use agentbus_transport::{Capability, Transport, contract_tests};
use agentbus_transport_ws::WsTransport;
use agentbus_transport_ws::wire::OPERATIONS_MAX;
use futures_util::future::poll_immediate;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message as SocketMessage;

/// Longest time that anything may take. Nothing waits this long unless it is broken.
const GUARD: Duration = Duration::from_secs(60);

async fn open() -> Arc<dyn Transport> {
    over("memory://").await
}

/// A connection to a bus over this transport; `{dir}` stands for a directory of its own.
async fn over(url: &str) -> Arc<dyn Transport> {
    let dir = tempfile::tempdir().unwrap();
    let mut config = ServerConfig::new(dir.path().join("data"));
    config.listen = "127.0.0.1:0".parse().unwrap();
    config.auth = AuthMode::Off;
    let url = url.replace("{dir}", dir.path().to_str().unwrap());
    let bus = Bus::builder("server")
        .transport(url)
        .connect()
        .await
        .unwrap();
    let server = Server::start(config, bus).await.unwrap();
    let transport = WsTransport::connect(&server.url(), "contract")
        .await
        .unwrap();
    // The server lives for as long as the test's process, and so must its directory.
    Box::leak(Box::new((server, dir)));
    Arc::new(transport)
}

contract_tests!(open);

/// The same over a bus that keeps its events: what its log adds reaches its remote agents.
mod durable {
    use super::{Arc, Transport, contract_tests, over};

    async fn open() -> Arc<dyn Transport> {
        over("sqlite://{dir}/bus.db").await
    }

    contract_tests!(open);

    /// So that the case of the kit is not left out for want of it.
    #[tokio::test]
    async fn a_durable_name_can_be_removed_from_afar() {
        assert!(open().await.capabilities().durable_removal);
    }

    /// Likewise.
    #[tokio::test]
    async fn durable_names_can_be_listed_from_afar() {
        assert!(open().await.capabilities().durable_listing);
    }
}

/// A bus from before there were lists takes the question for no frame and hangs up, so it is not
/// asked.
#[tokio::test]
async fn a_bus_that_does_not_list_durable_names_is_not_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let bus = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        let hello = socket.next().await.unwrap().unwrap();
        assert!(hello.to_text().unwrap().contains("hello"), "{hello}");
        let welcome = r#"{"welcome":{"agent":"me","prefix":"acp.v1","tenant":"","frame_bytes_max":5308416,"carrier":{"durable":true,"durable_removal":true}}}"#;
        socket.send(SocketMessage::text(welcome)).await.unwrap();
        let mut said = Vec::new();
        while let Some(Ok(message)) = socket.next().await {
            if let SocketMessage::Text(text) = message {
                said.push(text.to_string());
            }
        }
        assert!(said.is_empty(), "{said:?}");
    };
    let client = async {
        let transport = WsTransport::connect(&url, "me").await.unwrap();
        let refused = transport.durables().await.unwrap_err();
        let TransportError::Unsupported { capability, .. } = refused else {
            panic!("{refused}");
        };
        assert_eq!(capability, Capability::DurableListing);
        transport.close(Duration::ZERO).await;
    };
    let both = async { tokio::join!(bus, client) };
    tokio::time::timeout(GUARD, both).await.unwrap();
}

/// A socket speaks for itself: it cannot have its replies sent into others' requests, nor end the
/// requests of others.
#[tokio::test]
async fn a_socket_neither_redirects_replies_nor_cancels_for_others() {
    let transport = open().await;
    let publish = |subject: &str, reply_to: &str| {
        let mut envelope = Envelope::new(agentbus::mint::stamp(), "x".into());
        envelope.reply_to = reply_to.into();
        let message = Message::new(Subject::parse(subject).unwrap(), envelope);
        transport.publish(Arc::new(message), PublishOptions::default())
    };
    for (subject, reply_to) in [
        ("acp.v1.invoke.echo", "acp.v1.invoke.victim"),
        ("acp.v1.invoke.echo", "acp.v1.cancel.victim"),
        ("acp.v1.cancel.victim", ""),
        ("acp.v1.acme.cancel.victim", "_INBOX.guessed"),
    ] {
        let refused = publish(subject, reply_to).await;
        assert!(refused.is_err(), "{subject} {reply_to}");
    }
    publish("acp.v1.invoke.echo", "acp.v1.events.answers")
        .await
        .unwrap();
}

/// A remote caller that gives up ends the work for it, each time: the cancel names the inbox of
/// the request, so it has to arrive before the inbox is closed.
#[tokio::test]
async fn a_remote_caller_that_gives_up_is_heard_each_time() {
    const CALLS: usize = 50;
    struct Tell(tokio::sync::mpsc::UnboundedSender<&'static str>);
    impl Drop for Tell {
        fn drop(&mut self) {
            let _ = self.0.send("cancelled");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let mut config = ServerConfig::new(dir.path().join("data"));
    config.listen = "127.0.0.1:0".parse().unwrap();
    config.auth = AuthMode::Off;
    let bus = Bus::builder("server").connect().await.unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    bus.handle("stuck", move |_| {
        let guard = Tell(tell.clone());
        tell.send("begun").unwrap();
        async move {
            let _guard = guard;
            std::future::pending::<Result<(), agentbus::Error>>().await
        }
    })
    .await
    .unwrap();
    let server = Server::start(config, bus).await.unwrap();
    let caller = Bus::builder("caller")
        .transport(server.url())
        .connect()
        .await
        .unwrap();
    for _ in 0..CALLS {
        // Not before the handler has begun, or there would be nothing to cancel.
        let begun = tokio::select! {
            outcome = caller.invoke("stuck", &1).no_timeout().send() => panic!("{outcome:?}"),
            begun = tokio::time::timeout(GUARD, told.recv()) => begun,
        };
        assert_eq!(begun.unwrap(), Some("begun"));
        let cancelled = tokio::time::timeout(GUARD, told.recv());
        assert_eq!(cancelled.await.unwrap(), Some("cancelled"));
    }
    caller.shutdown().await;
    server.shutdown().await;
}

/// A link holds so many operations that wait, and refuses one more at once.
#[tokio::test]
async fn operations_that_wait_for_a_remote_bus_have_a_limit() {
    let transport = open().await;
    let pattern = Pattern::parse("acp.v1.events.waited").unwrap();
    // Settles nothing, so that nothing is confirmed.
    let _unread = transport.subscribe(Subscribe::new(pattern)).await.unwrap();
    let publish = |confirm: bool| {
        let envelope = Envelope::new(agentbus::mint::stamp(), "waited".into());
        let subject = Subject::parse("acp.v1.events.waited").unwrap();
        let options = PublishOptions {
            confirm,
            ..PublishOptions::default()
        };
        transport.publish(Arc::new(Message::new(subject, envelope)), options)
    };
    let mut waiting = Vec::new();
    for number in 0..OPERATIONS_MAX {
        let mut one = publish(true);
        let outcome = poll_immediate(&mut one).await;
        assert!(outcome.is_none(), "{number}: {outcome:?}");
        waiting.push(one);
    }
    let refused = publish(true).await.unwrap_err();
    let many = matches!(refused, TransportError::TooMany { limit, .. } if limit == OPERATIONS_MAX);
    assert!(many && refused.is_retryable(), "{refused}");
    assert_eq!(refused.code(), agentbus::ErrorCode::BackpressureDrop);
    // Whoever gives up makes room.
    drop(waiting);
    let next = tokio::time::timeout(GUARD, publish(false));
    next.await.unwrap().unwrap();
}
