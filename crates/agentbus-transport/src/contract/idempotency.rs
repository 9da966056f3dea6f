//! Publishing the same thing twice.

use super::abilities::check_refusal;
use super::needs::{IDEMPOTENCY, meets};
use super::{
    Opened, expect_nothing_before, next_number, numbered, pattern, publish_with, subscribe,
};
use crate::{Capability, PublishOptions, Receipt};

/// Publishes under a key; `None` where the transport cannot, which it has said in the right way.
async fn publish_as(transport: &Opened, key: &str, tail: &str, n: u64) -> Option<Receipt> {
    let options = PublishOptions {
        idempotency_key: Some(key.into()),
        ..PublishOptions::default()
    };
    let published = publish_with(transport, numbered(tail, n), options).await;
    if meets(transport, IDEMPOTENCY) {
        return Some(published.unwrap());
    }
    check_refusal(transport, Capability::Idempotency, &published.unwrap_err());
    None
}

pub async fn a_repeated_publish_is_delivered_once(transport: Opened) {
    let mut all = subscribe(&transport, pattern("once")).await;
    let Some(first) = publish_as(&transport, "key", "once", 1).await else {
        return expect_nothing_before(&transport, &mut all, "once", 9).await;
    };
    assert!(!first.duplicate);
    for _ in 0..3 {
        let again = publish_as(&transport, "key", "once", 1).await.unwrap();
        assert!(again.duplicate);
        assert_eq!(again.sequence, first.sequence);
    }
    assert_eq!(next_number(&mut all).await, 1);
    expect_nothing_before(&transport, &mut all, "once", 9).await;
}

pub async fn different_keys_are_different_messages(transport: Opened) {
    let mut all = subscribe(&transport, pattern("keys")).await;
    for (n, key) in (0..).zip(["a", "b", "c"]) {
        if publish_as(&transport, key, "keys", n).await.is_none() {
            return;
        }
        assert_eq!(next_number(&mut all).await, n);
    }
}

pub async fn publishers_that_race_under_one_key_store_one_message(transport: Opened) {
    let mut all = subscribe(&transport, pattern("race")).await;
    let racers: Vec<_> = (0..8)
        .map(|n| {
            let transport = transport.clone();
            tokio::spawn(async move { publish_as(&transport, "one", "race", n).await })
        })
        .collect();
    let mut receipts = Vec::new();
    for racer in racers {
        receipts.extend(racer.await.unwrap());
    }
    if !meets(&transport, IDEMPOTENCY) {
        return assert!(receipts.is_empty(), "{receipts:?}");
    }
    let firsts = receipts.iter().filter(|receipt| !receipt.duplicate);
    assert_eq!(firsts.count(), 1);
    assert!(
        receipts
            .iter()
            .all(|it| it.sequence == receipts[0].sequence)
    );
    next_number(&mut all).await;
    expect_nothing_before(&transport, &mut all, "race", 99).await;
}
