//! Full queues, stopping and closing.

use std::time::Duration;

use super::needs::{BACKPRESSURE, meets};
use super::{Opened, next_number, number, numbered, pattern, publish, receive, subscribe};
use crate::{Overflow, Received, Subscribe, TransportError};

/// More messages than any carrier sends ahead of a subscriber who does not settle.
const MANY: u64 = 3000;

fn small(tail: &str, overflow: Overflow) -> Subscribe {
    let mut request = pattern(tail);
    request.capacity = 8;
    request.overflow = overflow;
    request
}

pub async fn a_full_queue_slows_its_publisher(transport: Opened) {
    if !meets(&transport, BACKPRESSURE) {
        return;
    }
    let mut slow = subscribe(&transport, small("slow", Overflow::Wait)).await;
    let publisher = {
        let transport = transport.clone();
        tokio::spawn(async move {
            for n in 0..MANY {
                publish(&transport, numbered("slow", n)).await.unwrap();
            }
        })
    };
    // Nothing is received, so the publisher must come to a stop.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!publisher.is_finished(), "the publisher did not wait");
    for n in 0..MANY {
        assert_eq!(next_number(&mut slow).await, n);
    }
    publisher.await.unwrap();
}

pub async fn a_full_queue_can_drop_its_oldest(transport: Opened) {
    let mut slow = subscribe(&transport, small("lossy", Overflow::DropOldest)).await;
    for n in 0..MANY {
        publish(&transport, numbered("lossy", n)).await.unwrap();
    }
    let (mut seen, mut missed, mut last) = (0, 0, None);
    while last != Some(MANY - 1) {
        let delivery = receive(&mut slow).await;
        let n = number(&delivery);
        assert!(last.is_none_or(|last| n > last), "{n} after {last:?}");
        last = Some(n);
        seen += 1;
        missed += delivery.missed();
        delivery.ack().await.unwrap();
    }
    assert!(missed > 0, "nothing was lost");
    assert_eq!(seen + missed, MANY, "every lost message is counted");
}

pub async fn a_full_queue_can_fail_the_publish(transport: Opened) {
    if !meets(&transport, BACKPRESSURE) {
        return;
    }
    let mut strict = subscribe(&transport, small("strict", Overflow::Fail)).await;
    let mut other = subscribe(&transport, pattern("strict")).await;
    let mut taken = 0;
    for n in 0..MANY {
        let published = publish(&transport, numbered("strict", n)).await;
        assert_eq!(
            next_number(&mut other).await,
            n,
            "others get it all the same"
        );
        match published {
            Ok(_) => taken += 1,
            Err(error) => {
                assert_eq!(
                    error.code(),
                    agentbus_protocol::ErrorCode::BackpressureDrop,
                    "{error}"
                );
                break;
            }
        }
    }
    assert!(taken < MANY, "the queue was never full");
    for n in 0..taken {
        assert_eq!(next_number(&mut strict).await, n);
    }
}

pub async fn one_slow_subscriber_does_not_starve_another(transport: Opened) {
    let slow = subscribe(&transport, small("mixed", Overflow::Wait)).await;
    let mut quick = subscribe(&transport, pattern("mixed")).await;
    let publisher = {
        let transport = transport.clone();
        tokio::spawn(async move {
            for n in 0..MANY {
                if publish(&transport, numbered("mixed", n)).await.is_err() {
                    break;
                }
            }
        })
    };
    // The quick one gets at least what fits into the slow one's queue, and the message at which
    // the publisher then waits.
    for n in 0..9 {
        assert_eq!(next_number(&mut quick).await, n);
    }
    drop(slow);
    for n in 9..MANY {
        assert_eq!(next_number(&mut quick).await, n);
    }
    publisher.await.unwrap();
}

pub async fn a_stopped_subscription_gives_out_what_it_has(transport: Opened) {
    let mut stopped = subscribe(&transport, pattern("stop")).await;
    for n in 0..5 {
        publish(&transport, numbered("stop", n)).await.unwrap();
    }
    stopped.stop();
    for n in 0..5 {
        assert_eq!(next_number(&mut stopped).await, n);
    }
    assert!(super::guarded("the end", stopped.receive()).await.is_none());
}

pub async fn a_closed_transport_takes_nothing(transport: Opened) {
    let mut open = subscribe(&transport, pattern("close")).await;
    for n in 0..3 {
        publish(&transport, numbered("close", n)).await.unwrap();
    }
    let reader = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Some(Received::Live(delivery)) = open.receive().await {
            seen.push(number(&delivery));
            delivery.ack().await.unwrap();
        }
        seen
    });
    super::guarded("the close", transport.close(Duration::from_secs(30))).await;
    assert_eq!(super::guarded("the end", reader).await.unwrap(), [0, 1, 2]);
    let closed = publish(&transport, numbered("close", 4)).await.unwrap_err();
    assert!(matches!(closed, TransportError::Closed), "{closed}");
    assert!(transport.subscribe(pattern("close")).await.is_err());
    assert!(transport.open_inbox().is_err());
    transport.close(Duration::ZERO).await;
}
