//! Verdicts, confirmation, priority and deadlines.

use std::time::{Duration, Instant};

use super::needs::{HANDLED, Need, PRIORITY, meets};
use super::{
    Opened, guarded, next_number, number, numbered, pattern, publish, publish_with, receive,
    subscribe,
};
use crate::{Message, Priority, PublishOptions, Received, TransportError};

const CONFIRM: PublishOptions = PublishOptions {
    confirm: true,
    require_responder: false,
    idempotency_key: None,
};

pub async fn a_nak_brings_the_message_back(transport: Opened) {
    let mut all = subscribe(&transport, pattern("again")).await;
    publish(&transport, numbered("again", 1)).await.unwrap();
    receive(&mut all).await.nak(Duration::ZERO).await.unwrap();
    let second = receive(&mut all).await;
    assert_eq!((number(&second), second.attempt()), (1, 2));
    second.nak(Duration::from_millis(20)).await.unwrap();
    let mut third = receive(&mut all).await;
    assert_eq!((number(&third), third.attempt()), (1, 3));
    third.extend(Duration::from_secs(1)).await.unwrap();
    third.ack().await.unwrap();
}

pub async fn a_reject_does_not(transport: Opened) {
    let mut all = subscribe(&transport, pattern("never")).await;
    publish(&transport, numbered("never", 1)).await.unwrap();
    receive(&mut all).await.reject().await.unwrap();
    super::expect_nothing_before(&transport, &mut all, "never", 2).await;
}

pub async fn confirmation_means_that_every_receiver_has_acknowledged(transport: Opened) {
    if !meets(&transport, HANDLED) {
        return;
    }
    let mut one = subscribe(&transport, pattern("sure")).await;
    let mut two = subscribe(&transport, pattern("sure")).await;
    let confirmed = publish_with(&transport, numbered("sure", 1), CONFIRM);
    let mut confirmed = std::pin::pin!(confirmed);
    let first = tokio::select! {
        early = &mut confirmed => panic!("confirmed before anybody acknowledged: {early:?}"),
        delivery = receive(&mut one) => delivery,
    };
    first.ack().await.unwrap();
    let second = tokio::select! {
        early = &mut confirmed => panic!("confirmed with one of two: {early:?}"),
        delivery = receive(&mut two) => delivery,
    };
    second.ack().await.unwrap();
    assert_eq!(
        guarded("a confirmation", confirmed)
            .await
            .unwrap()
            .receivers,
        Some(2)
    );
}

pub async fn confirmation_fails_when_a_receiver_does_not_acknowledge(transport: Opened) {
    if !meets(&transport, HANDLED) {
        return;
    }
    let mut all = subscribe(&transport, pattern("unsure")).await;
    for verdict in ["reject", "drop"] {
        let confirmed = publish_with(&transport, numbered("unsure", 1), CONFIRM);
        let refuse = async {
            let delivery = receive(&mut all).await;
            match verdict {
                "reject" => delivery.reject().await.unwrap(),
                _ => drop(delivery),
            }
        };
        let (confirmed, ()) = tokio::join!(confirmed, refuse);
        assert!(confirmed.is_err(), "{verdict} confirmed: {confirmed:?}");
    }
}

pub async fn confirmation_needs_a_receiver(transport: Opened) {
    if !meets(&transport, HANDLED) {
        return;
    }
    let error = publish_with(&transport, numbered("nobody", 1), CONFIRM)
        .await
        .unwrap_err();
    assert!(
        matches!(error, TransportError::NoResponder { .. }),
        "{error}"
    );
}

pub async fn confirmation_comes_from_the_carrier_where_handlers_give_none(transport: Opened) {
    if !meets(&transport, Need::AcceptedConfirmation) {
        return;
    }
    let capabilities = transport.capabilities();
    let _kept = super::abilities::kept(&transport, "taken").await;
    let mut all = subscribe(&transport, pattern("taken")).await;
    // Nobody has settled anything when the confirmation comes.
    let receipt = publish_with(&transport, numbered("taken", 1), CONFIRM)
        .await
        .unwrap();
    assert_eq!(receipt.durability, capabilities.durability);
    assert_eq!(next_number(&mut all).await, 1);
}

pub async fn a_higher_priority_overtakes(transport: Opened) {
    if !meets(&transport, PRIORITY) {
        return;
    }
    let mut all = subscribe(&transport, pattern("lanes")).await;
    // The subscriber holds one message while the others queue up behind it; what a carrier may
    // have sent ahead is bounded, so enough messages wait where lanes count.
    let ahead = 1024;
    for n in 0..ahead {
        publish(&transport, numbered("lanes", n)).await.unwrap();
    }
    for (n, priority) in (5000..).zip(Priority::ALL) {
        let mut message = numbered("lanes", n);
        message.priority = priority;
        publish(&transport, message).await.unwrap();
    }
    let mut order = Vec::new();
    while order.len() < ahead as usize + 6 {
        order.push(next_number(&mut all).await);
    }
    let at = |n: u64| order.iter().position(|seen| *seen == n).unwrap();
    let ranks: Vec<_> = (5000..5006).rev().map(at).collect();
    assert!(
        ranks.is_sorted(),
        "critical first, background last: {ranks:?}"
    );
    assert!(at(5005) < at(ahead - 1), "critical overtakes what waits");
    let plain: Vec<_> = order.iter().filter(|n| **n < ahead).collect();
    assert!(plain.is_sorted(), "equal priority keeps its order");
}

/// Waits until the deadline of a message has passed, and a bit longer for carriers that round.
pub(super) async fn passed(message: &Message) {
    let deadline = message.expires_at.unwrap() + Duration::from_millis(10);
    tokio::time::sleep_until(deadline.into()).await;
}

/// Publishes a message that expires soon. On a busy machine that may be before it is taken; it gets
/// more time then.
pub(super) async fn publish_expiring(transport: &Opened, mut message: Message) -> Message {
    let mut ttl = Duration::from_millis(30);
    loop {
        message.expires_at = Some(Instant::now() + ttl);
        match publish(transport, message.clone()).await {
            // A remote bus says it in words.
            Err(error) if error.to_string().contains("had expired") => ttl *= 2,
            outcome => {
                outcome.unwrap();
                return message;
            }
        }
    }
}

pub async fn an_expired_message_is_never_live(transport: Opened) {
    let mut all = subscribe(&transport, pattern("late")).await;
    let mut message = numbered("late", 1);
    message.expires_at = Instant::now().checked_sub(Duration::from_millis(1));
    let error = publish(&transport, message).await.unwrap_err();
    assert!(matches!(error, TransportError::Expired { .. }), "{error}");

    // It was taken in time and runs out before anybody looks at it.
    let message = publish_expiring(&transport, numbered("late", 2)).await;
    passed(&message).await;
    publish(&transport, numbered("late", 3)).await.unwrap();
    loop {
        match guarded("a delivery", all.receive()).await {
            Some(Received::Live(delivery)) => break assert_eq!(number(&delivery), 3),
            Some(Received::Expired(delivery)) => assert_eq!(number(&delivery), 2),
            other => panic!("{other:?}"),
        }
    }
}
