//! What arrives is what was sent.

use std::time::{Duration, Instant};

use agentbus_protocol::Payload;

use super::{
    Opened, guarded, next_number, number, numbered, pattern, publish, receive, receive_reply,
    subscribe,
};
use crate::{Priority, PublishOptions, Received, TransportError};

pub async fn every_field_of_an_envelope_arrives(transport: Opened) {
    let mut all = subscribe(&transport, pattern("whole")).await;
    let mut message = numbered("whole", 1);
    let envelope = &mut message.envelope;
    envelope.from = "contract".into();
    envelope.correlation_id = envelope.event_id.clone();
    let context = envelope.context.edit();
    context.session_id = "session".into();
    context.user_id = "Zoë".into();
    context.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into();
    envelope.metadata.insert_text("a.key", "a \"value\"\n");
    envelope.metadata.insert("number", &42).unwrap();
    publish(&transport, message.clone()).await.unwrap();
    let delivery = receive(&mut all).await;
    assert_eq!(*delivery.envelope(), message.envelope);
}

pub async fn payloads_of_every_kind_arrive(transport: Opened) {
    let mut all = subscribe(&transport, pattern("kinds")).await;
    let texts = [
        "null",
        "true",
        "-1.5e300",
        "\"\"",
        "[]",
        "{}",
        r#"{"b":1,"a":[1,{"c":"\u0000\ud83d\ude00"}],"a2":"日本"}"#,
    ];
    for text in texts {
        let mut message = numbered("kinds", 0);
        message.envelope.payload = Payload::from_bytes(&text.into()).unwrap();
        publish(&transport, message.clone()).await.unwrap();
        let delivery = receive(&mut all).await;
        assert_eq!(delivery.envelope().payload, message.envelope.payload);
        delivery.ack().await.unwrap();
    }
}

pub async fn an_envelope_may_have_no_payload(transport: Opened) {
    let mut all = subscribe(&transport, pattern("empty")).await;
    let mut message = numbered("empty", 1);
    message.envelope.payload = None;
    publish(&transport, message).await.unwrap();
    assert_eq!(receive(&mut all).await.envelope().payload, None);
}

pub async fn priority_and_time_left_arrive(transport: Opened) {
    let mut all = subscribe(&transport, pattern("marked")).await;
    let mut message = numbered("marked", 1);
    message.priority = Priority::Urgent;
    let ttl = Duration::from_secs(600);
    message.expires_at = Some(Instant::now() + ttl);
    publish(&transport, message).await.unwrap();
    let delivery = receive(&mut all).await;
    assert_eq!(delivery.message().priority, Priority::Urgent);
    let left = delivery.message().remaining_ttl().unwrap();
    assert!(
        left > ttl / 2 && left <= ttl + Duration::from_secs(1),
        "{left:?}"
    );
}

pub async fn subjects_are_told_apart_by_case_and_length(transport: Opened) {
    let mut lower = subscribe(&transport, pattern("case")).await;
    let mut upper = subscribe(&transport, pattern("Case")).await;
    publish(&transport, numbered("Case", 1)).await.unwrap();
    publish(&transport, numbered("case", 2)).await.unwrap();
    assert_eq!(next_number(&mut lower).await, 2);
    assert_eq!(next_number(&mut upper).await, 1);
}

pub async fn publishers_beside_each_other_keep_their_orders(transport: Opened) {
    const PUBLISHERS: u64 = 6;
    const EACH: u64 = 50;
    let mut all = subscribe(&transport, pattern("beside.*")).await;
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let transport = transport.clone();
            tokio::spawn(async move {
                for n in 0..EACH {
                    let message = numbered(&format!("beside.{publisher}"), publisher * 1000 + n);
                    publish(&transport, message).await.unwrap();
                }
            })
        })
        .collect();
    let mut next = [0; PUBLISHERS as usize];
    for _ in 0..PUBLISHERS * EACH {
        let n = next_number(&mut all).await;
        let publisher = usize::try_from(n / 1000).unwrap();
        assert_eq!(n % 1000, next[publisher], "of publisher {publisher}");
        next[publisher] += 1;
    }
    for publisher in publishers {
        publisher.await.unwrap();
    }
}

pub async fn a_wait_that_is_given_up_loses_nothing(transport: Opened) {
    let mut all = subscribe(&transport, pattern("given-up-wait")).await;
    let mut seen = Vec::new();
    for n in 0..50 {
        publish(&transport, numbered("given-up-wait", n))
            .await
            .unwrap();
        // Given up at once or after it has received; never in between.
        if let Ok(received) = tokio::time::timeout(Duration::ZERO, all.receive()).await {
            let Some(Received::Live(delivery)) = received else {
                panic!("{received:?}");
            };
            seen.push(number(&delivery));
            delivery.ack().await.unwrap();
        }
    }
    while seen.len() < 50 {
        seen.push(next_number(&mut all).await);
    }
    assert_eq!(seen, (0..50).collect::<Vec<_>>());
}

pub async fn a_batch_is_no_larger_than_asked(transport: Opened) {
    let mut all = subscribe(&transport, pattern("batch")).await;
    for n in 0..20 {
        publish(&transport, numbered("batch", n)).await.unwrap();
    }
    let mut seen = Vec::new();
    while seen.len() < 20 {
        let mut batch = Vec::new();
        let count = guarded("a batch", all.receive_many(&mut batch, 3)).await;
        assert!((1..=3).contains(&count) && count == batch.len(), "{count}");
        for received in batch {
            let Received::Live(delivery) = received else {
                panic!("{received:?}");
            };
            seen.push(number(&delivery));
            delivery.ack().await.unwrap();
        }
    }
    assert_eq!(seen, (0..20).collect::<Vec<_>>());
}

pub async fn replies_find_their_own_inbox(transport: Opened) {
    let mut served = subscribe(&transport, pattern("many")).await;
    let mut inboxes: Vec<_> = (0..20).map(|_| transport.open_inbox().unwrap()).collect();
    for (n, inbox) in (0..).zip(&inboxes) {
        let mut request = numbered("many", n);
        request.envelope.reply_to = inbox.subject().as_str().into();
        publish(&transport, request).await.unwrap();
    }
    for _ in 0..20 {
        let request = receive(&mut served).await;
        let reply_to = agentbus_protocol::Subject::parse(&request.envelope().reply_to).unwrap();
        let reply = super::message(reply_to, number(&request) + 100);
        publish(&transport, reply).await.unwrap();
        request.ack().await.unwrap();
    }
    for (n, inbox) in (100..).zip(&mut inboxes) {
        assert_eq!(number(&receive_reply(inbox).await), n);
    }
}

pub async fn a_group_serves_requests_once_each(transport: Opened) {
    let mut one = subscribe(&transport, super::group("serve", "g")).await;
    let required = PublishOptions {
        require_responder: true,
        ..PublishOptions::default()
    };
    let sent = super::publish_with(&transport, numbered("serve", 1), required.clone()).await;
    assert!(super::reached(sent.unwrap(), 1));
    assert_eq!(next_number(&mut one).await, 1);
    drop(one);
    guarded("the news that nobody serves any more", async {
        loop {
            match super::publish_with(&transport, numbered("serve", 2), required.clone()).await {
                Err(TransportError::NoResponder { .. }) => break,
                // A carrier may need a moment to hear that the last member left.
                _ => tokio::task::yield_now().await,
            }
        }
    })
    .await;
}
