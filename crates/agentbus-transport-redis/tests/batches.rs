//! What a batch does with the messages in it.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use std::sync::Arc;

use agentbus_transport::{PublishOptions, Receipt, Transport, TransportError};
use agentbus_transport_redis::RedisTransport;

use support::Server;
use support::messages::{all_of, message, number, receive, within};

fn under(key: u64) -> PublishOptions {
    PublishOptions {
        idempotency_key: Some(format!("key-{key}").into()),
        ..PublishOptions::default()
    }
}

fn required() -> PublishOptions {
    PublishOptions {
        require_responder: true,
        ..PublishOptions::default()
    }
}

/// Publishes all of them at once, so that they share batches.
async fn publish_all(
    transport: &RedisTransport,
    options: impl Fn(u64) -> PublishOptions,
    count: u64,
) -> Vec<Result<Receipt, TransportError>> {
    let sent: Vec<_> = (0..count)
        .map(|n| transport.publish(message("batch", n), options(n)))
        .collect();
    let mut outcomes = Vec::new();
    for sent in sent {
        outcomes.push(within("an outcome", sent).await);
    }
    outcomes
}

#[tokio::test]
async fn what_is_not_taken_takes_no_number() {
    let server = Server::with(&[]);
    let url = format!("{}?namespace=numbers", server.url());
    let transport = RedisTransport::connect(&url).await.unwrap();
    // Of ten in a row, the last three repeat the first.
    let key = |n: u64| under(n / 10 * 10 + n % 10 % 7);
    let receipts = publish_all(&transport, key, 300).await;
    let mut next = 1;
    for (n, receipt) in (0..).zip(receipts) {
        let receipt = receipt.unwrap();
        assert_eq!(receipt.duplicate, n % 10 >= 7, "{n}");
        if receipt.duplicate {
            assert_eq!(receipt.sequence, Some(next - 7 + n % 10 - 7), "{n}");
        } else {
            assert_eq!(receipt.sequence, Some(next), "{n}");
            next += 1;
        }
    }
    // Whoever comes later finds the numbers that were said, and the subjects without a namespace.
    let mut request = all_of("*");
    request.start = agentbus_transport::Start::Sequence(200);
    request.durable = Some("later".into());
    let mut later = transport.subscribe(request).await.unwrap();
    let delivery = receive(&mut later).await;
    assert_eq!(delivery.sequence(), Some(200));
    assert_eq!(delivery.subject().as_str(), "acp.v1.events.batch");
    assert_eq!(number(&delivery), 199 / 7 * 10 + 199 % 7);
}

#[tokio::test]
async fn a_batch_goes_to_queues_and_listeners_alike() {
    let server = Server::with(&[]);
    let transport = RedisTransport::connect(&server.url()).await.unwrap();
    let refused = publish_all(&transport, |_| required(), 20).await;
    assert!(
        refused
            .iter()
            .all(|outcome| matches!(outcome, Err(TransportError::NoResponder { .. })))
    );
    let mut kept = all_of("batch");
    kept.durable = Some("kept".into());
    let mut durable = transport.subscribe(kept).await.unwrap();
    let mut grouped = all_of("batch");
    grouped.group = Some("group".into());
    let mut group = transport.subscribe(grouped).await.unwrap();
    let mut live = transport.subscribe(all_of("batch")).await.unwrap();
    let options = |n: u64| match n % 3 {
        0 => PublishOptions::default(),
        1 => required(),
        _ => under(n),
    };
    for receipt in publish_all(&transport, options, 100).await {
        receipt.unwrap();
    }
    for n in 0..100 {
        for subscription in [&mut durable, &mut group, &mut live] {
            let delivery = receive(subscription).await;
            assert_eq!(number(&delivery), n);
            delivery.ack().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_message_that_the_server_cannot_append_fails_and_the_next_is_taken() {
    let server = Server::with(&[]);
    let url = format!("{}?amb=on", server.url());
    let transport = Arc::new(RedisTransport::connect(&url).await.unwrap());
    let client = redis::Client::open(server.url()).unwrap();
    let mut raw = client.get_multiplexed_async_connection().await.unwrap();
    // Somebody else's key lies where AMB's stream would be.
    let () = redis::cmd("SET")
        .arg("stream:acp.v1.events.batch")
        .arg("no stream")
        .query_async(&mut raw)
        .await
        .unwrap();
    let outcomes = publish_all(&transport, |_| PublishOptions::default(), 10).await;
    assert!(outcomes.iter().all(Result::is_err));
    let receipt = transport
        .publish(message("other", 1), PublishOptions::default())
        .await
        .unwrap();
    assert!(receipt.sequence > Some(1));
}
