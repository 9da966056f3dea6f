//! Following events.

use std::time::Duration;

use super::{At, Room, guarded};
use crate::{Draft, EventId, EventReader, Followed, limits};

async fn next(reader: &mut EventReader) -> Followed {
    guarded("an event", reader.next()).await.unwrap().unwrap()
}

async fn numbers(reader: &mut EventReader, upto: EventId) -> Vec<EventId> {
    let mut seen = Vec::new();
    while seen.last() != Some(&upto) {
        match next(reader).await {
            Followed::Event(event) => seen.push(event.id),
            Followed::Gap(upto) => panic!("a gap up to {upto}"),
        }
    }
    seen
}

pub async fn events_come_in_order_and_survive_a_restart(at: At) {
    let room = Room::open(&at).await;
    let thread = room.thread("t").await;
    let mut live = room.chat.follow(None, None).await.unwrap();
    let message = room.say(&thread, "hello").await;
    let Followed::Event(event) = next(&mut live).await else {
        panic!("a gap");
    };
    assert_eq!(&*event.kind, "msg.new");
    assert!(event.payload.contains(message.id.as_str()));
    let upto = event.id;
    room.chat.close().await;

    let room = Room::open(&at).await;
    let mut again = room.chat.follow(Some(upto - 1), None).await.unwrap();
    assert_eq!(next(&mut again).await, Followed::Event(event));
    room.say(&thread, "more").await;
    assert_eq!(numbers(&mut again, upto + 1).await, [upto + 1]);
}

pub async fn readers_resume_without_loss(at: At) {
    let room = Room::open(&at).await;
    let (thread, other) = (room.thread("t").await, room.thread("o").await);
    let start = room.chat.last_event().await.unwrap();
    let posts = 3 * i64::try_from(limits::EVENTS_PAGE).unwrap() / 2;
    // A reader that does not read falls behind the feed and the page at once.
    let mut slow = room.chat.follow(Some(start), None).await.unwrap();
    let mut own = room
        .chat
        .follow(Some(start), Some(other.clone()))
        .await
        .unwrap();
    let together = (0..posts).map(|_| {
        let (chat, draft) = (room.chat.clone(), Draft::new(thread.clone(), "human", "x"));
        tokio::spawn(async move { chat.post(draft).await.unwrap() })
    });
    for post in together.collect::<Vec<_>>() {
        post.await.unwrap();
    }
    room.say(&other, "mine").await;
    let newest = room.chat.last_event().await.unwrap();
    let seen = numbers(&mut slow, newest).await;
    assert_eq!(seen, (start + 1..=newest).collect::<Vec<_>>());
    assert_eq!(
        numbers(&mut own, newest).await,
        [newest],
        "only its own thread"
    );
    // In the middle, and from a number that never was.
    let mut resumed = room.chat.follow(Some(newest - 2), None).await.unwrap();
    assert_eq!(numbers(&mut resumed, newest).await, [newest - 1, newest]);
    let mut future = room.chat.follow(Some(EventId::MAX), None).await.unwrap();
    room.say(&thread, "y").await;
    assert_eq!(numbers(&mut future, newest + 1).await, [newest + 1]);
}

pub async fn forgotten_events_are_announced(at: At) {
    let room = Room::open(&at).await;
    let thread = room.thread("t").await;
    room.say(&thread, "old").await;
    let old = room.chat.last_event().await.unwrap();
    room.clock
        .advance(limits::EVENTS_KEPT + Duration::from_secs(1));
    assert_eq!(
        room.chat.prune().await.unwrap(),
        usize::try_from(old).unwrap()
    );
    room.say(&thread, "new").await;
    let mut reader = room.chat.follow(Some(1), None).await.unwrap();
    assert_eq!(next(&mut reader).await, Followed::Gap(old));
    assert_eq!(numbers(&mut reader, old + 1).await, [old + 1]);
}
