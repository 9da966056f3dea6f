//! Sharing work.

use std::collections::HashSet;

use super::needs::{MIXED_GROUPS, meets};
use super::{
    Opened, group, guarded, next_number, number, numbered, publish, reached, receive, subscribe,
};
use crate::{Received, Subscribe, Subscription, TransportError};

/// A member of a group that takes one message at a time.
fn one_at_a_time(tail: &str, name: &str) -> Subscribe {
    let mut request = group(tail, name);
    request.prefetch = 1;
    request
}

pub async fn a_group_shares_its_messages_fairly(transport: Opened) {
    const MEMBERS: usize = 4;
    const ROUNDS: usize = 25;
    let mut members = Vec::new();
    for _ in 0..MEMBERS {
        members.push(subscribe(&transport, one_at_a_time("work", "g")).await);
    }
    // Nobody takes anything before all of it is there, so whoever hoards could do so now.
    for n in 0..(MEMBERS * ROUNDS) as u64 {
        let receipt = publish(&transport, numbered("work", n)).await.unwrap();
        assert!(reached(receipt, 1), "a group counts as one receiver");
    }
    if !transport.capabilities().shared_queues {
        return each_gets_a_share(members, MEMBERS * ROUNDS).await;
    }
    let mut seen = HashSet::new();
    for _ in 0..ROUNDS {
        // All hold one at the same time, which nobody could if another had taken ahead.
        let mut held = Vec::new();
        for member in &mut members {
            held.push(receive(member).await);
        }
        for delivery in held {
            assert!(seen.insert(number(&delivery)), "{delivery:?} came twice");
            delivery.ack().await.unwrap();
        }
    }
    assert_eq!(seen.len(), MEMBERS * ROUNDS);
}

/// Where messages are dealt out as they come, each goes to one member and each member gets some.
async fn each_gets_a_share(members: Vec<Subscription>, messages: usize) {
    let (sender, mut handled) = tokio::sync::mpsc::channel(messages);
    let mut tasks = tokio::task::JoinSet::new();
    for (member, mut share) in members.into_iter().enumerate() {
        let handled = sender.clone();
        tasks.spawn(async move {
            loop {
                let n = next_number(&mut share).await;
                handled.send((member, n)).await.unwrap();
            }
        });
    }
    let (mut seen, mut idle) = (HashSet::new(), (0..tasks.len()).collect::<HashSet<_>>());
    while seen.len() < messages {
        let (member, n) = guarded("a share of the work", handled.recv())
            .await
            .unwrap();
        assert!(seen.insert(n), "message {n} came twice");
        idle.remove(&member);
    }
    assert!(idle.is_empty(), "some got nothing: {idle:?}");
}

pub async fn a_group_is_one_receiver_whatever_its_patterns(transport: Opened) {
    let mut literal = subscribe(&transport, group("a.b", "g")).await;
    if !meets(&transport, MIXED_GROUPS) {
        let error = transport.subscribe(group("a.*", "g")).await.unwrap_err();
        assert!(
            matches!(error, TransportError::Unsupported { .. }),
            "{error}"
        );
        // Patterns that have nothing in common are two groups of one name.
        subscribe(&transport, group("b.*", "g")).await;
        return;
    }
    let mut wild = subscribe(&transport, group("a.*", "g")).await;
    for n in 0..10 {
        let receipt = publish(&transport, numbered("a.b", n)).await.unwrap();
        assert!(reached(receipt, 1), "{receipt:?}");
    }
    // Which of the two gets how many is the carrier's choice.
    let mut seen = Vec::new();
    while seen.len() < 10 {
        seen.push(tokio::select! {
            n = next_number(&mut literal) => n,
            n = next_number(&mut wild) => n,
        });
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
}

pub async fn work_is_left_to_the_group_when_a_member_goes(transport: Opened) {
    let idle = subscribe(&transport, one_at_a_time("left", "g")).await;
    let mut busy = subscribe(&transport, one_at_a_time("left", "g")).await;
    for n in 0..20 {
        publish(&transport, numbered("left", n)).await.unwrap();
    }
    drop(idle);
    publish(&transport, numbered("left", 99)).await.unwrap();
    let mut seen = Vec::new();
    while seen.last() != Some(&99) {
        seen.push(next_number(&mut busy).await);
    }
    // A remote carrier may have sent one ahead to the member that left; that one alone can be gone.
    if transport.capabilities().shared_queues {
        assert!(seen.len() >= 20, "more than one was lost: {seen:?}");
    }
    assert!(seen.is_sorted(), "the order is kept: {seen:?}");
}

pub async fn a_stopped_member_leaves_the_rest_to_its_group(transport: Opened) {
    let mut stopping = subscribe(&transport, one_at_a_time("rest", "g")).await;
    let mut staying = subscribe(&transport, one_at_a_time("rest", "g")).await;
    stopping.stop();
    let mut given = 0;
    while let Some(received) = super::guarded("the end", stopping.receive()).await {
        assert!(matches!(received, Received::Live(_)), "{received:?}");
        given += 1;
    }
    assert_eq!(given, 0, "nothing was there to be given out");
    for n in 0..10 {
        publish(&transport, numbered("rest", n)).await.unwrap();
        assert_eq!(next_number(&mut staying).await, n);
    }
}

pub async fn groups_of_different_names_each_get_everything(transport: Opened) {
    let mut one = subscribe(&transport, group("both", "one")).await;
    let mut two = subscribe(&transport, group("both", "two")).await;
    for n in 0..10 {
        let receipt = publish(&transport, numbered("both", n)).await.unwrap();
        assert!(reached(receipt, 2), "{receipt:?}");
    }
    for n in 0..10 {
        assert_eq!(next_number(&mut one).await, n);
        assert_eq!(next_number(&mut two).await, n);
    }
}
