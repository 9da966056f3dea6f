//! Reading the past.

use std::time::{Duration, SystemTime};

use super::abilities::if_able;
use super::{Opened, durable, next_number, numbered, pattern, publish, receive, subscribe};
use crate::{Start, Subscribe};

fn from(tail: &str, start: Start) -> Subscribe {
    let mut request = pattern(tail);
    request.start = start;
    request
}

pub async fn a_replay_begins_at_the_beginning(transport: Opened) {
    for n in 0..30 {
        publish(&transport, numbered("past", n)).await.unwrap();
    }
    let Some(mut all) = if_able(&transport, from("past", Start::Beginning)).await else {
        return;
    };
    for n in 0..30 {
        assert_eq!(next_number(&mut all).await, n);
    }
}

pub async fn a_replay_begins_at_a_number(transport: Opened) {
    let mut sequences = Vec::new();
    for n in 0..10 {
        let receipt = publish(&transport, numbered("number", n)).await.unwrap();
        sequences.push(receipt.sequence.unwrap_or(n));
    }
    let start = Start::Sequence(sequences[6]);
    let Some(mut all) = if_able(&transport, from("number", start)).await else {
        return;
    };
    let first = receive(&mut all).await;
    assert_eq!(first.sequence(), Some(sequences[6]));
    assert_eq!(super::number(&first), 6);
    assert_eq!(next_number(&mut all).await, 7);
}

pub async fn a_replay_begins_at_a_time(transport: Opened) {
    for n in 0..5 {
        publish(&transport, numbered("time", n)).await.unwrap();
    }
    // Times are kept to the millisecond, so the clock must have moved on before and after.
    let pause = Duration::from_millis(5);
    tokio::time::sleep(pause).await;
    let start = Start::Time(SystemTime::now());
    tokio::time::sleep(pause).await;
    for n in 5..10 {
        publish(&transport, numbered("time", n)).await.unwrap();
    }
    let Some(mut all) = if_able(&transport, from("time", start)).await else {
        return;
    };
    for n in 5..10 {
        assert_eq!(next_number(&mut all).await, n);
    }
}

pub async fn a_replay_goes_over_into_the_present_without_a_gap(transport: Opened) {
    for n in 0..200 {
        publish(&transport, numbered("flow", n)).await.unwrap();
    }
    let publisher = {
        let transport = transport.clone();
        tokio::spawn(async move {
            for n in 200..400 {
                publish(&transport, numbered("flow", n)).await.unwrap();
            }
        })
    };
    if let Some(mut all) = if_able(&transport, from("flow", Start::Beginning)).await {
        for n in 0..400 {
            assert_eq!(next_number(&mut all).await, n);
        }
    }
    publisher.await.unwrap();
}

pub async fn a_replay_gets_only_what_matches(transport: Opened) {
    for n in 0..40 {
        let tail = if n % 4 == 0 { "mixed.yes" } else { "mixed.no" };
        publish(&transport, numbered(tail, n)).await.unwrap();
    }
    let Some(mut all) = if_able(&transport, from("*.yes", Start::Beginning)).await else {
        return;
    };
    for n in (0..40).step_by(4) {
        assert_eq!(next_number(&mut all).await, n);
    }
}

pub async fn a_replay_settles_nothing_for_others(transport: Opened) {
    let Some(kept) = if_able(&transport, durable("others", "d")).await else {
        return;
    };
    drop(kept);
    for n in 0..10 {
        publish(&transport, numbered("others", n)).await.unwrap();
    }
    for _ in 0..2 {
        let request = from("others", Start::Beginning);
        let Some(mut reader) = if_able(&transport, request).await else {
            break;
        };
        for n in 0..10 {
            assert_eq!(next_number(&mut reader).await, n);
        }
    }
    let mut kept = subscribe(&transport, durable("others", "d")).await;
    for n in 0..10 {
        let delivery = receive(&mut kept).await;
        assert_eq!((super::number(&delivery), delivery.attempt()), (n, 1));
        delivery.ack().await.unwrap();
    }
}

pub async fn a_number_that_is_not_there_yet_begins_with_the_next(transport: Opened) {
    publish(&transport, numbered("future", 1)).await.unwrap();
    let Some(mut all) = if_able(&transport, from("future", Start::Sequence(1 << 40))).await else {
        return;
    };
    super::expect_nothing_before(&transport, &mut all, "future", 2).await;
}
