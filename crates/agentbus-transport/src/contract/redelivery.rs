//! Attempts, leases and dead letters.

use std::time::{Duration, Instant};

use super::abilities::if_able;
use super::{Opened, durable, guarded, next_number, number, numbered, publish, receive, subscribe};
use crate::{Subscribe, Subscription, TransportError, dead_letter};

/// Short enough to be waited for, long enough that a busy machine does not end it by itself.
const LEASE: Duration = Duration::from_secs(1);

/// Longest delay that is tried.
const LONGEST_DELAY: Duration = Duration::from_secs(10);

fn leased(tail: &str) -> Subscribe {
    let mut request = durable(tail, tail);
    request.lease = Some(LEASE);
    request
}

pub async fn a_delayed_nak_waits_and_holds_nobody_up(transport: Opened) {
    let Some(mut all) = if_able(&transport, durable("delayed", "d")).await else {
        return;
    };
    let mut delay = Duration::from_millis(200);
    loop {
        publish(&transport, numbered("delayed", 1)).await.unwrap();
        let given_back = Instant::now();
        receive(&mut all).await.nak(delay).await.unwrap();
        publish(&transport, numbered("delayed", 2)).await.unwrap();
        let first = receive(&mut all).await;
        let (first_came, second) = (given_back.elapsed(), receive(&mut all).await);
        assert!(given_back.elapsed() >= delay, "{:?}", given_back.elapsed());
        let order = [&first, &second].map(|delivery| (number(delivery), delivery.attempt()));
        first.ack().await.unwrap();
        second.ack().await.unwrap();
        // On a busy machine the delay may be over before the other message is there.
        if order == [(1, 2), (2, 1)] && first_came >= delay && delay < LONGEST_DELAY {
            delay *= 4;
            continue;
        }
        break assert_eq!(order, [(2, 1), (1, 2)]);
    }
}

pub async fn a_nak_comes_back_to_a_durable_name(transport: Opened) {
    let Some(mut all) = if_able(&transport, durable("given-back", "d")).await else {
        return;
    };
    publish(&transport, numbered("given-back", 1))
        .await
        .unwrap();
    for attempt in 1..=4 {
        let delivery = receive(&mut all).await;
        assert_eq!((number(&delivery), delivery.attempt()), (1, attempt));
        delivery.nak(Duration::ZERO).await.unwrap();
    }
    let last = receive(&mut all).await;
    assert_eq!(last.attempt(), 5);
    last.ack().await.unwrap();
    super::expect_nothing_before(&transport, &mut all, "given-back", 2).await;
}

pub async fn a_delivery_that_was_forgotten_comes_back(transport: Opened) {
    let Some(mut all) = if_able(&transport, durable("forgotten", "d")).await else {
        return;
    };
    publish(&transport, numbered("forgotten", 1)).await.unwrap();
    drop(receive(&mut all).await);
    let again = receive(&mut all).await;
    assert_eq!((number(&again), again.attempt()), (1, 2));
}

pub async fn a_reject_does_not_come_back_to_a_durable_name(transport: Opened) {
    let Some(mut all) = if_able(&transport, durable("refused", "d")).await else {
        return;
    };
    publish(&transport, numbered("refused", 1)).await.unwrap();
    receive(&mut all).await.reject().await.unwrap();
    super::expect_nothing_before(&transport, &mut all, "refused", 2).await;
    drop(all);
    let mut again = subscribe(&transport, durable("refused", "d")).await;
    super::expect_nothing_before(&transport, &mut again, "refused", 3).await;
}

pub async fn a_lease_that_ends_gives_the_message_to_somebody_else(transport: Opened) {
    let Some(mut all) = if_able(&transport, leased("lease")).await else {
        return;
    };
    publish(&transport, numbered("lease", 1)).await.unwrap();
    let held = receive(&mut all).await;
    let since = Instant::now();
    let again = receive(&mut all).await;
    assert_eq!((number(&again), again.attempt()), (1, 2));
    assert!(since.elapsed() >= LEASE / 2, "{:?}", since.elapsed());
    again.ack().await.unwrap();
    drop(held);
    super::expect_nothing_before(&transport, &mut all, "lease", 2).await;
}

pub async fn an_extended_lease_lasts(transport: Opened) {
    let Some(mut all) = if_able(&transport, leased("extended")).await else {
        return;
    };
    for n in [1, 2] {
        publish(&transport, numbered("extended", n)).await.unwrap();
    }
    let (mut extended, other) = (receive(&mut all).await, receive(&mut all).await);
    extended.extend(Duration::from_secs(60)).await.unwrap();
    // The other one's lease tells that the time of both has passed.
    let again = receive(&mut all).await;
    assert_eq!((number(&again), again.attempt()), (2, 2));
    again.ack().await.unwrap();
    drop(other);
    extended.ack().await.unwrap();
    super::expect_nothing_before(&transport, &mut all, "extended", 3).await;
}

pub async fn a_lease_that_ended_cannot_be_extended(transport: Opened) {
    let Some(mut all) = if_able(&transport, leased("too-late")).await else {
        return;
    };
    publish(&transport, numbered("too-late", 1)).await.unwrap();
    let mut late = receive(&mut all).await;
    let again = receive(&mut all).await;
    let error = late.extend(LEASE).await.unwrap_err();
    assert!(
        matches!(error, TransportError::LeaseEnded { .. }),
        "{error}"
    );
    let error = late.nak(Duration::ZERO).await.unwrap_err();
    assert!(
        matches!(error, TransportError::LeaseEnded { .. }),
        "{error}"
    );
    again.ack().await.unwrap();
}

/// Whoever has done the work has done it, even if it took too long.
pub async fn a_late_ack_settles_all_the_same(transport: Opened) {
    let Some(mut all) = if_able(&transport, leased("late-ack")).await else {
        return;
    };
    publish(&transport, numbered("late-ack", 1)).await.unwrap();
    let late = receive(&mut all).await;
    let again = receive(&mut all).await;
    late.ack().await.unwrap();
    drop(again);
    super::expect_nothing_before(&transport, &mut all, "late-ack", 2).await;
}

fn twice(tail: &str) -> Subscribe {
    let mut request = durable(tail, tail);
    request.max_attempts = Some(2);
    request
}

/// Receives the letter that a message left and checks what it says.
async fn expect_letter(letters: &mut Subscription, tail: &str) {
    let letter = receive(letters).await;
    let metadata = &letter.envelope().metadata;
    let text = |key| metadata.get::<String>(key).unwrap();
    assert_eq!(letter.subject().as_str(), "acp.v1.dlq.contract.case");
    assert_eq!(number(&letter), 1);
    assert_eq!(text(dead_letter::ORIGINAL_EVENT_TYPE), "contract.case");
    assert_eq!(
        text(dead_letter::ORIGINAL_SUBJECT),
        format!("acp.v1.events.{tail}")
    );
    assert_eq!(text(dead_letter::REASON), "max_retries");
    assert_eq!(metadata.get::<u32>(dead_letter::ATTEMPTS), Some(2));
    assert!(!text(dead_letter::LAST_ERROR).is_empty());
    letter.ack().await.unwrap();
}

fn graves() -> Subscribe {
    Subscribe::new(agentbus_protocol::Pattern::parse("acp.v1.dlq.>").unwrap())
}

pub async fn a_message_that_is_given_back_too_often_is_a_dead_letter(transport: Opened) {
    let mut letters = subscribe(&transport, graves()).await;
    let Some(mut all) = if_able(&transport, twice("given-up")).await else {
        return;
    };
    publish(&transport, numbered("given-up", 1)).await.unwrap();
    for _ in 0..2 {
        receive(&mut all).await.nak(Duration::ZERO).await.unwrap();
    }
    expect_letter(&mut letters, "given-up").await;
    super::expect_nothing_before(&transport, &mut all, "given-up", 2).await;
}

pub async fn a_message_that_nobody_finishes_is_a_dead_letter(transport: Opened) {
    let mut letters = subscribe(&transport, graves()).await;
    let mut request = twice("hung");
    request.lease = Some(LEASE);
    let Some(mut all) = if_able(&transport, request).await else {
        return;
    };
    publish(&transport, numbered("hung", 1)).await.unwrap();
    let held = [receive(&mut all).await, receive(&mut all).await];
    assert_eq!(held[1].attempt(), 2);
    expect_letter(&mut letters, "hung").await;
    drop(held);
    super::expect_nothing_before(&transport, &mut all, "hung", 2).await;
}

pub async fn dead_letters_can_be_read_later(transport: Opened) {
    let Some(mut all) = if_able(&transport, twice("read-later")).await else {
        return;
    };
    publish(&transport, numbered("read-later", 1))
        .await
        .unwrap();
    for _ in 0..2 {
        receive(&mut all).await.nak(Duration::ZERO).await.unwrap();
    }
    let mut past = graves();
    past.start = crate::Start::Beginning;
    // Without a log, letters are for those who listen when they are written.
    if let Some(mut letters) = if_able(&transport, past).await {
        expect_letter(&mut letters, "read-later").await;
    }
}

pub async fn no_more_is_handed_out_than_was_asked_ahead(transport: Opened) {
    let mut request = durable("ahead", "d");
    request.prefetch = 2;
    let Some(mut all) = if_able(&transport, request).await else {
        return;
    };
    for n in 0..5 {
        publish(&transport, numbered("ahead", n)).await.unwrap();
    }
    let first = receive(&mut all).await;
    let second = receive(&mut all).await;
    let mut batch = Vec::new();
    let third = futures_poll(&mut all, &mut batch).await;
    assert!(
        third.is_pending(),
        "a third while two are unsettled: {batch:?}"
    );
    first.ack().await.unwrap();
    assert_eq!(next_number(&mut all).await, 2);
    second.ack().await.unwrap();
    assert_eq!(next_number(&mut all).await, 3);
}

/// Looks once, without waiting.
async fn futures_poll(
    subscription: &mut Subscription,
    batch: &mut Vec<crate::Received>,
) -> std::task::Poll<usize> {
    let look =
        std::future::poll_fn(|cx| std::task::Poll::Ready(subscription.poll_receive(cx, batch, 8)));
    let seen = guarded("a look", look).await;
    subscription.stand_down();
    seen
}
