//! Letters that are kept, looked at and sent again.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

#[cfg(feature = "sqlite")]
use agentbus::Start;
use agentbus::dead_letters::{Filter, RedriveError};
use agentbus::middleware::{DeadLetter, RateLimit, Retry};
use agentbus::{Bus, DeadLetters, Error, Request, limits};
use tokio::sync::Semaphore;

/// How long an event may wait that is meant to expire: long enough to be published on a busy machine.
const LIFE: Duration = Duration::from_secs(1);

/// A log may round its times.
const ROUNDING: Duration = Duration::from_millis(50);

/// A bus whose orders fail until they are repaired.
async fn failing() -> (Bus, DeadLetters, Arc<AtomicBool>) {
    let bus = Bus::builder("t").layer(DeadLetter).connect().await.unwrap();
    let letters = DeadLetters::collect(&bus).await.unwrap();
    let repaired = Arc::new(AtomicBool::new(false));
    let works = Arc::clone(&repaired);
    bus.on("order.*", move |_: Request| {
        let outcome = match works.load(Ordering::SeqCst) {
            true => Ok(()),
            false => Err(Error::agent("out of paper")),
        };
        std::future::ready(outcome)
    })
    .await
    .unwrap();
    (bus, letters, repaired)
}

async fn eventually(condition: impl Fn() -> bool) {
    let waited = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited)
        .await
        .unwrap();
}

fn of(event_type: &str) -> Filter {
    Filter {
        event_type: Some(event_type.to_owned()),
        ..Filter::default()
    }
}

#[tokio::test]
async fn letters_are_listed_counted_and_cleared() {
    let (bus, letters, _) = failing().await;
    for n in 0..3 {
        bus.publish("order.paid", &n).await.unwrap();
    }
    bus.publish("order.sent", &3).await.unwrap();
    eventually(|| letters.stats().entries == 4).await;
    let all = letters.entries(&Filter::default());
    assert_eq!(all[0].event_type, "order.sent", "newest first");
    assert_eq!(
        (all[0].reason.as_str(), all[0].attempts),
        ("handler_error", 1)
    );
    assert!(all[0].error.contains("out of paper"));
    let page = Filter {
        offset: 1,
        limit: 2,
        ..Filter::default()
    };
    assert_eq!(letters.entries(&page), all[1..3]);
    let stats = letters.stats();
    assert_eq!(stats.by_event_type["order.paid"], 3);
    assert_eq!(stats.by_reason["handler_error"], 4);
    let id = &all[0].letter.event_id;
    assert!(letters.remove(id) && !letters.remove(id));
    assert_eq!(letters.clear(&of("order.paid")), 3);
    assert_eq!(letters.stats().entries, 0);
}

#[tokio::test]
async fn a_letter_is_sent_again_until_it_is_handled_or_has_failed_too_often() {
    let (bus, letters, repaired) = failing().await;
    bus.publish("order.paid", &1).await.unwrap();
    eventually(|| letters.stats().entries == 1).await;
    let id = letters.entries(&Filter::default())[0]
        .letter
        .event_id
        .clone();
    for tried in 1..=limits::REDRIVES_MAX {
        let outcome = letters.redrive(&id).await;
        assert!(
            matches!(outcome, Err(RedriveError::Failed(_))),
            "{outcome:?}"
        );
        eventually(|| {
            letters
                .get(&id)
                .is_some_and(|entry| entry.redrives == tried)
        })
        .await;
    }
    assert_eq!(letters.get(&id).unwrap().reason, "max_retries");
    let outcome = letters.redrive(&id).await;
    assert_eq!(outcome, Err(RedriveError::Exhausted(limits::REDRIVES_MAX)));
    bus.publish("order.sent", &2).await.unwrap();
    eventually(|| letters.stats().entries == 2).await;
    repaired.store(true, Ordering::SeqCst);
    let outcomes = letters.redrive_all(&of("order.sent")).await;
    assert!(matches!(outcomes.as_slice(), [(_, Ok(()))]), "{outcomes:?}");
    assert_eq!(letters.stats().entries, 1);
    let gone = &outcomes[0].0;
    assert_eq!(letters.redrive(gone).await, Err(RedriveError::Unknown));
}

#[tokio::test]
async fn an_event_that_expires_before_its_handler_takes_it_is_buried() {
    // A retry, to show that nobody tries again what came too late, and a limit that it does not
    // count towards.
    let builder = Bus::builder("t").layer(DeadLetter);
    let builder = builder.layer(Retry::attempts(3));
    let limit = RateLimit::per_second(NonZeroU32::MIN);
    let bus = builder.layer(limit).connect().await.unwrap();
    let letters = DeadLetters::collect(&bus).await.unwrap();
    let (gate, seen) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU32::new(0)));
    let (entered, handled) = (Arc::clone(&gate), Arc::clone(&seen));
    let registration = bus.on("order.*", move |_: Request| {
        let (entered, handled) = (Arc::clone(&entered), Arc::clone(&handled));
        async move {
            handled.fetch_add(1, Ordering::SeqCst);
            entered.acquire().await.unwrap().forget();
            Ok(())
        }
    });
    let _registration = registration.await.unwrap();
    bus.publish("order.paid", &1).await.unwrap();
    eventually(|| seen.load(Ordering::SeqCst) == 1).await;
    bus.publish("order.late", &2).ttl(LIFE).await.unwrap();
    tokio::time::sleep(LIFE + ROUNDING).await;
    bus.publish("order.sent", &3).await.unwrap();
    gate.add_permits(2);
    eventually(|| letters.stats().entries == 1).await;
    eventually(|| seen.load(Ordering::SeqCst) == 2).await;
    let entry = letters.entries(&Filter::default()).remove(0);
    assert_eq!(entry.event_type, "order.late");
    assert_eq!((entry.reason.as_str(), entry.attempts), ("expired", 0));
    assert!(entry.error.contains("expired"), "{}", entry.error);
    bus.shutdown().await;
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn an_event_that_expires_before_its_durable_name_takes_it_is_buried() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", dir.path().join("bus.db").display());
    let bus = Bus::builder("t").transport(url).connect().await.unwrap();
    let letters = DeadLetters::collect(&bus).await.unwrap();
    drop(bus.subscribe("job.*").durable("jobs").await.unwrap());
    bus.publish("job.late", &1).ttl(LIFE).await.unwrap();
    bus.publish("job.made", &2).await.unwrap();
    tokio::time::sleep(LIFE + ROUNDING).await;
    let mut again = bus
        .subscribe("job.*")
        .start(Start::Beginning)
        .await
        .unwrap();
    let mut jobs = bus.subscribe("job.*").durable("jobs").await.unwrap();
    for events in [&mut again, &mut jobs] {
        let next = tokio::time::timeout(Duration::from_secs(20), events.next());
        let delivery = next.await.unwrap().unwrap();
        assert_eq!(delivery.envelope().event_type.as_str(), "job.made");
        delivery.ack().await.unwrap();
    }
    eventually(|| letters.stats().entries > 0).await;
    let entries = letters.entries(&Filter::default());
    let told: Vec<_> = entries
        .iter()
        .map(|entry| (entry.event_type.as_str(), entry.reason.as_str()))
        .collect();
    assert_eq!(told, [("job.late", "expired")]);
    drop(again);
    let id = &entries[0].letter.event_id;
    letters.redrive(id).await.unwrap();
    let next = tokio::time::timeout(Duration::from_secs(20), jobs.next());
    let late = next.await.unwrap().unwrap();
    assert_eq!(&late.envelope().event_id, id);
}

/// A bus over a log, whose orders are handled or not, with the letters that the log has.
#[cfg(feature = "sqlite")]
async fn over_log(url: &str, works: bool) -> (Bus, DeadLetters) {
    let builder = Bus::builder("t").transport(url).layer(DeadLetter);
    let bus = builder.connect().await.unwrap();
    let letters = DeadLetters::resume(&bus).await.unwrap();
    bus.on("order.*", move |_: Request| {
        let outcome = match works {
            true => Ok(()),
            false => Err(Error::agent("out of paper")),
        };
        std::future::ready(outcome)
    })
    .await
    .unwrap();
    (bus, letters)
}

#[cfg(feature = "sqlite")]
fn numbers(letters: &DeadLetters) -> Vec<u32> {
    let entries = letters.entries(&Filter::default());
    let payloads = entries.iter().map(|entry| entry.letter.payload.as_ref());
    payloads.map(|it| it.unwrap().decode().unwrap()).collect()
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn letters_of_a_log_survive_a_restart_until_they_are_done_with() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", dir.path().join("bus.db").display());
    let (bus, letters) = over_log(&url, false).await;
    for n in 0..3 {
        bus.publish("order.paid", &n).await.unwrap();
    }
    eventually(|| letters.stats().entries == 3).await;
    bus.shutdown().await;
    drop((bus, letters));

    let (bus, letters) = over_log(&url, true).await;
    eventually(|| letters.stats().entries == 3).await;
    assert_eq!(numbers(&letters), [2, 1, 0]);
    let entries = letters.entries(&Filter::default());
    assert!(letters.discard(&entries[0].letter.event_id).await.unwrap());
    let redriven = &entries[1].letter.event_id;
    letters.redrive(redriven).await.unwrap();
    assert!(!letters.discard(redriven).await.unwrap());
    assert_eq!(numbers(&letters), [0]);
    bus.shutdown().await;
    drop((bus, letters));

    let (bus, letters) = over_log(&url, false).await;
    // Behind the marks in the log, so that they have been read when it is here.
    bus.publish("order.paid", &3).await.unwrap();
    eventually(|| numbers(&letters).first() == Some(&3)).await;
    assert_eq!(numbers(&letters), [3, 0]);
    bus.shutdown().await;
}
