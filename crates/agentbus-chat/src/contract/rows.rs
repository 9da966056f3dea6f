//! What a store promises of its jobs.

use std::sync::Arc;

use super::{At, Room, guarded};
use crate::model::NewEvent;
use crate::store::{Promise, Store, StoreError, look, perform};
use crate::{ChatError, Stamp, limits};

fn event(kind: &'static str) -> NewEvent {
    NewEvent {
        kind,
        thread_id: None,
        payload: serde_json::json!({}),
    }
}

const NOW: Stamp = Stamp::from_micros(1);

async fn kinds(store: &Arc<dyn Store>) -> Vec<String> {
    let events = look(&**store, |tx| Ok(tx.events_after(0, None, 0)?))
        .await
        .unwrap();
    events.iter().map(|event| event.kind.to_string()).collect()
}

async fn append(store: &Arc<dyn Store>, kind: &'static str) {
    let job = move |tx: &mut dyn crate::store::Tx| Ok(tx.append_event(event(kind), NOW)?);
    perform(&**store, Promise::Stored, job).await.unwrap();
}

pub async fn a_failed_job_leaves_nothing(at: At) {
    let store = at.open().await;
    let failed = perform::<()>(&*store, Promise::Stored, |tx| {
        tx.append_event(event("undone"), NOW)?;
        Err(ChatError::KeyReused)
    });
    assert!(matches!(failed.await, Err(ChatError::KeyReused)));
    append(&store, "kept").await;
    assert_eq!(kinds(&store).await, ["kept"]);
}

pub async fn a_panicking_job_leaves_nothing_and_others_go_on(at: At) {
    let store = at.open().await;
    let panicked = perform::<()>(&*store, Promise::Stored, |tx| {
        tx.append_event(event("undone"), NOW)?;
        panic!("on purpose");
    });
    assert!(matches!(
        panicked.await,
        Err(ChatError::Store(StoreError::Failed(_)))
    ));
    append(&store, "kept").await;
    assert_eq!(kinds(&store).await, ["kept"]);
}

pub async fn panicking_looks_cost_no_reader(at: At) {
    let store = at.open().await;
    append(&store, "kept").await;
    for _ in 0..=limits::READERS {
        let panicked = look::<()>(&*store, |_| panic!("on purpose"));
        assert!(matches!(
            panicked.await,
            Err(ChatError::Store(StoreError::Failed(_)))
        ));
    }
    assert_eq!(kinds(&store).await, ["kept"]);
}

pub async fn jobs_see_what_earlier_jobs_did(at: At) {
    let store = at.open().await;
    for n in 1..=3_usize {
        // Soon is enough for the next job, if not yet for a crash.
        let seen = perform(&*store, Promise::Soon, |tx| {
            tx.append_event(event("one"), NOW)?;
            Ok(tx.events_after(0, None, 0)?.len())
        });
        assert_eq!(seen.await.unwrap(), n);
    }
}

pub async fn readers_see_only_what_is_committed(at: At) {
    let store = at.open().await;
    let (entered, inside) = std::sync::mpsc::channel();
    let (go_on, waits) = std::sync::mpsc::channel::<()>();
    let writing = Arc::clone(&store);
    let writer = tokio::spawn(async move {
        perform(&*writing, Promise::Stored, move |tx| {
            tx.append_event(event("later"), NOW)?;
            entered.send(()).unwrap();
            waits.recv().unwrap();
            Ok(())
        })
        .await
    });
    let inside = tokio::task::spawn_blocking(move || inside.recv());
    guarded("the write", inside).await.unwrap().unwrap();
    assert!(kinds(&store).await.is_empty());
    go_on.send(()).unwrap();
    writer.await.unwrap().unwrap();
    assert_eq!(kinds(&store).await, ["later"]);
}

pub async fn numbers_are_never_given_out_twice(at: At) {
    let room = Room::open(&at).await;
    let thread = room.thread("first").await;
    let first = room.say(&thread, "one").await;
    room.chat.delete_thread(thread).await.unwrap();
    let events = room.chat.last_event().await.unwrap();
    room.chat.close().await;

    let room = Room::open(&at).await;
    assert_eq!(room.chat.last_event().await.unwrap(), events);
    let thread = room.thread("second").await;
    assert_eq!(room.say(&thread, "two").await.seq, first.seq + 1);
    assert!(room.chat.last_event().await.unwrap() > events);
}

pub async fn the_feed_tells_when_readers_can_see(at: At) {
    let store = at.open().await;
    let mut feed = store.feed().events();
    for n in 1..=20 {
        append(&store, "one").await;
        let told = guarded("the event", feed.recv()).await.unwrap();
        let seen = look(&*store, |tx| Ok(tx.event_range()?)).await.unwrap();
        assert_eq!((told.id, seen.1), (n, n));
    }
}

pub async fn a_closed_store_takes_nothing(at: At) {
    let room = Room::open(&at).await;
    let thread = room.thread("t").await;
    room.chat.close().await;
    let draft = crate::Draft::new(thread, "human", "late");
    let refused = room.chat.post(draft).await;
    assert!(
        matches!(refused, Err(ChatError::Store(StoreError::Closed))),
        "{refused:?}"
    );
}
