//! The in-memory broker with more publishers than room, and receivers and publishers that give up.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use agentbus_protocol::{
    Envelope, EventId, EventType, Pattern, Payload, Stamp, Subject, Timestamp,
};
use agentbus_transport::{
    MemoryTransport, Message, Overflow, PublishOptions, Received, Subscribe, Transport,
    TransportError, limits,
};
use tokio::time::timeout;

const PUBLISHERS: u32 = 8;
const MESSAGES: u32 = 2000;
const GUARD: Duration = Duration::from_secs(60);

fn message(publisher: u32, number: u32) -> Arc<Message> {
    let stamp = Stamp {
        event_id: EventId::v7(u64::from(number), &[0; 10]),
        occurred_at: Timestamp::UNIX_EPOCH,
    };
    let mut envelope = Envelope::new(stamp, EventType::from("job"));
    envelope.payload = Some(Payload::json(&(publisher, number)).unwrap());
    Arc::new(Message::new(Subject::parse("jobs").unwrap(), envelope))
}

/// Publishes in order; gives up a wait now and then and counts what was taken.
async fn publish(broker: Arc<MemoryTransport>, publisher: u32) -> u32 {
    let mut taken = 0;
    for number in 0..MESSAGES {
        let sent = broker.publish(message(publisher, number), PublishOptions::default());
        if number % 97 == 13 {
            taken += u32::from(matches!(timeout(Duration::ZERO, sent).await, Ok(Ok(_))));
        } else {
            sent.await.unwrap();
            taken += 1;
        }
    }
    taken
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_message_that_was_taken_arrives_once() {
    let broker = Arc::new(MemoryTransport::new());
    let mut request = Subscribe::new(Pattern::parse("jobs").unwrap());
    request.group = Some("workers".into());
    request.capacity = 3;
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(broker.subscribe(request.clone()).await.unwrap());
    }
    let (seen, mut all) = tokio::sync::mpsc::unbounded_channel();
    let receivers: Vec<_> = members
        .into_iter()
        .map(|mut member| {
            let seen = seen.clone();
            tokio::spawn(async move {
                loop {
                    // A wait that is given up must not take a wake-up with it.
                    let Ok(received) = timeout(Duration::from_micros(50), member.receive()).await
                    else {
                        continue;
                    };
                    let Some(Received::Live(delivery)) = received else {
                        return;
                    };
                    let payload = delivery.envelope().payload.clone().unwrap();
                    seen.send(payload.decode::<(u32, u32)>().unwrap()).unwrap();
                    delivery.ack().await.unwrap();
                }
            })
        })
        .collect();
    drop(seen);
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| tokio::spawn(publish(Arc::clone(&broker), publisher)))
        .collect();
    let mut taken = 0;
    for publisher in publishers {
        taken += timeout(GUARD, publisher).await.unwrap().unwrap();
    }
    assert_eq!(broker.close(GUARD).await.abandoned, 0);
    for receiver in receivers {
        timeout(GUARD, receiver).await.unwrap().unwrap();
    }
    let mut counts: HashMap<(u32, u32), u32> = HashMap::new();
    while let Some(job) = all.recv().await {
        *counts.entry(job).or_default() += 1;
    }
    assert!(counts.values().all(|count| *count == 1));
    // One that gave up may have been taken in the very moment; none that was taken is missing.
    let arrived = u32::try_from(counts.len()).unwrap();
    assert!(arrived >= taken, "{arrived} of {taken}");
    assert!(arrived <= PUBLISHERS * MESSAGES);
}

/// Messages that were given back for later are still in the queue: they cannot become more than
/// it holds, and they come back in their time.
#[tokio::test(start_paused = true)]
async fn messages_that_were_given_back_keep_their_places() {
    const CAPACITY: usize = 4;
    let broker = MemoryTransport::new();
    let mut request = Subscribe::new(Pattern::parse("jobs").unwrap());
    request.capacity = CAPACITY;
    request.overflow = Overflow::Fail;
    let mut subscription = broker.subscribe(request).await.unwrap();
    for number in 0..4 {
        let sent = broker.publish(message(0, number), PublishOptions::default());
        sent.await.unwrap();
        let Some(Received::Live(delivery)) = subscription.receive().await else {
            panic!("nothing came");
        };
        delivery.nak(Duration::from_secs(60)).await.unwrap();
    }
    let refused = broker.publish(message(0, 4), PublishOptions::default());
    let refused = refused.await.unwrap_err();
    assert!(
        matches!(refused, TransportError::QueueFull { .. }),
        "{refused}"
    );

    let mut attempts = Vec::new();
    for _ in 0..CAPACITY {
        let Some(Received::Live(delivery)) = subscription.receive().await else {
            panic!("it did not come back");
        };
        attempts.push(delivery.attempt());
        delivery.ack().await.unwrap();
    }
    assert_eq!(attempts, [2; CAPACITY]);
    let taken = broker.publish(message(0, 5), PublishOptions::default());
    taken.await.unwrap();
}

/// A subscriber that holds a queue full and takes nothing slows its publishers once, and not for
/// ever; what it lost in the meantime it is told.
#[tokio::test(start_paused = true)]
async fn a_stuck_subscriber_does_not_stop_the_others() {
    let broker = MemoryTransport::new();
    let mut request = Subscribe::new(Pattern::parse("jobs").unwrap());
    request.capacity = 1;
    let mut stuck = broker.subscribe(request).await.unwrap();
    let begun = tokio::time::Instant::now();
    for number in 0..100 {
        let sent = broker.publish(message(0, number), PublishOptions::default());
        sent.await.unwrap();
    }
    let waited = begun.elapsed();
    assert!(
        waited >= limits::STALL_MAX && waited < limits::STALL_MAX * 2,
        "{waited:?}"
    );
    let Some(Received::Live(delivery)) = stuck.receive().await else {
        panic!("nothing is left");
    };
    assert_eq!(delivery.missed(), 99);
    // It takes again, so it is waited for again.
    broker
        .publish(message(0, 100), PublishOptions::default())
        .await
        .unwrap();
    let held = broker.publish(message(0, 101), PublishOptions::default());
    assert!(timeout(limits::STALL_MAX / 2, held).await.is_err());
}

/// Members of a group are waited for, however long they work.
#[tokio::test(start_paused = true)]
async fn a_group_is_waited_for() {
    let broker = MemoryTransport::new();
    let mut request = Subscribe::new(Pattern::parse("jobs").unwrap());
    request.capacity = 1;
    request.group = Some("workers".into());
    let _busy = broker.subscribe(request).await.unwrap();
    broker
        .publish(message(0, 0), PublishOptions::default())
        .await
        .unwrap();
    let held = broker.publish(message(0, 1), PublishOptions::default());
    assert!(timeout(limits::STALL_MAX * 10, held).await.is_err());
}

/// However many messages a queue may hold, it holds no more bytes than it may.
#[tokio::test]
async fn a_queue_is_full_of_bytes_too() {
    const BYTES: usize = 4 * 1024 * 1024;
    const FIT: usize = limits::QUEUE_BYTES_MAX / BYTES;
    let broker = MemoryTransport::new();
    let mut request = Subscribe::new(Pattern::parse("jobs").unwrap());
    request.overflow = Overflow::DropOldest;
    let mut slow = broker.subscribe(request).await.unwrap();
    let mut large = (*message(0, 0)).clone();
    large.envelope.payload = Some(Payload::text(&"x".repeat(BYTES - 2)));
    let large = Arc::new(large);
    for _ in 0..FIT + 3 {
        let sent = broker.publish(Arc::clone(&large), PublishOptions::default());
        sent.await.unwrap();
    }
    let mut batch = Vec::new();
    slow.receive_many(&mut batch, usize::MAX).await;
    assert_eq!(batch.len(), FIT);
    let Received::Live(first) = &batch[0] else {
        panic!("{:?}", batch[0]);
    };
    assert_eq!(first.missed(), 3);
}
