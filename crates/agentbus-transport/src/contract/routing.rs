//! Who gets what.

use agentbus_protocol::Payload;

use super::needs::{Need, meets};
use super::{
    Opened, expect_nothing_before, next_number, numbered, pattern, publish, reached, receive,
    subscribe,
};
use crate::TransportError;

pub async fn a_literal_subject_reaches_its_subscribers_and_nobody_else(transport: Opened) {
    let mut mine = subscribe(&transport, pattern("order.paid")).await;
    publish(&transport, numbered("order.sent", 1))
        .await
        .unwrap();
    publish(&transport, numbered("order", 2)).await.unwrap();
    publish(&transport, numbered("order.paid.twice", 3))
        .await
        .unwrap();
    publish(&transport, numbered("order.paid", 4))
        .await
        .unwrap();
    let delivery = receive(&mut mine).await;
    assert_eq!(delivery.subject().as_str(), "acp.v1.events.order.paid");
    assert_eq!((super::number(&delivery), delivery.attempt()), (4, 1));
}

pub async fn a_star_stands_for_one_token(transport: Opened) {
    let mut star = subscribe(&transport, pattern("a.*.c")).await;
    for (n, tail) in (1..).zip(["a.c", "a.b.b.c", "a.b.c", "a.x.c"]) {
        publish(&transport, numbered(tail, n)).await.unwrap();
    }
    assert_eq!(
        (next_number(&mut star).await, next_number(&mut star).await),
        (3, 4)
    );
}

pub async fn a_greater_sign_stands_for_the_rest(transport: Opened) {
    let mut rest = subscribe(&transport, pattern("a.>")).await;
    for (n, tail) in (1..).zip(["a", "b.a", "a.b", "a.b.c.d"]) {
        publish(&transport, numbered(tail, n)).await.unwrap();
    }
    assert_eq!(
        (next_number(&mut rest).await, next_number(&mut rest).await),
        (3, 4)
    );
}

pub async fn every_plain_subscription_gets_every_message(transport: Opened) {
    let mut all = Vec::new();
    for tail in ["x.y", "x.y", "x.*", ">"] {
        all.push(subscribe(&transport, pattern(tail)).await);
    }
    let receipt = publish(&transport, numbered("x.y", 7)).await.unwrap();
    assert!(reached(receipt, 4), "{receipt:?}");
    for subscription in &mut all {
        assert_eq!(next_number(subscription).await, 7);
    }
}

pub async fn order_is_kept_per_publisher(transport: Opened) {
    let mut all = subscribe(&transport, pattern("seq.>")).await;
    for n in 0..500 {
        publish(
            &transport,
            numbered(if n % 2 == 0 { "seq.a" } else { "seq.b" }, n),
        )
        .await
        .unwrap();
    }
    for n in 0..500 {
        assert_eq!(next_number(&mut all).await, n);
    }
}

pub async fn a_dropped_subscription_gets_nothing_more(transport: Opened) {
    let gone = subscribe(&transport, pattern("gone")).await;
    let mut stays = subscribe(&transport, pattern("gone")).await;
    drop(gone);
    // A carrier may need a moment to hear of it; then one receiver is left.
    super::guarded("the end of the dropped subscription", async {
        for n in 0_u64.. {
            let receipt = publish(&transport, numbered("gone", n)).await.unwrap();
            assert_eq!(next_number(&mut stays).await, n);
            if reached(receipt, 1) {
                break;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    expect_nothing_before(&transport, &mut stays, "gone", 1 << 40).await;
}

pub async fn large_envelopes_arrive_whole(transport: Opened) {
    let mut all = subscribe(&transport, pattern("large")).await;
    // Room for the rest of the envelope below the carrier's limit.
    let limit = transport.capabilities().max_payload_bytes;
    let size = limit.map_or(4 << 20, |limit| limit.min(4 << 20) - 1024);
    let text = "x".repeat(size);
    let mut message = numbered("large", 0);
    message.envelope.payload = Some(Payload::text(&text));
    publish(&transport, message).await.unwrap();
    let delivery = receive(&mut all).await;
    let read: String = delivery
        .envelope()
        .payload
        .as_ref()
        .unwrap()
        .decode()
        .unwrap();
    assert!(read == text);
}

pub async fn an_envelope_beyond_the_limit_is_refused(transport: Opened) {
    meets(&transport, Need::PayloadLimit);
    let Some(limit) = transport.capabilities().max_payload_bytes else {
        return;
    };
    let mut message = numbered("large", 0);
    message.envelope.payload = Some(Payload::text(&"x".repeat(limit)));
    let error = publish(&transport, message).await.unwrap_err();
    let TransportError::TooLarge { bytes, .. } = error else {
        panic!("{error}");
    };
    assert!(bytes > limit);
    publish(&transport, numbered("large", 1)).await.unwrap();
}
