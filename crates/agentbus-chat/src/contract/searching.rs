//! Search.

use super::{At, Room, guarded};
use crate::model::{SearchCursor, SearchOrder, SearchPage, SearchQuery};
use crate::store::{Promise, perform};
use crate::{ChatError, Draft, Proof};

async fn search(room: &Room, text: &str) -> SearchPage {
    let query = SearchQuery {
        text: text.to_owned(),
        limit: 50,
        ..SearchQuery::default()
    };
    room.chat.search(query).await.unwrap()
}

async fn seqs(room: &Room, text: &str) -> Vec<i64> {
    search(room, text)
        .await
        .hits
        .iter()
        .map(|hit| hit.seq)
        .collect()
}

pub async fn searches_find_words_phrases_and_characters(at: At) {
    let room = Room::open(&at).await;
    let thread = room.thread("t").await;
    for text in [
        "urgent please",
        "deploy the service",
        "the urgent deploy",
        "我们今天部署服务",
        "<b>urgent</b>",
    ] {
        room.say(&thread, text).await;
    }
    assert_eq!(seqs(&room, "urgent").await, [5, 3, 1], "the newest first");
    assert_eq!(seqs(&room, "\"urgent deploy\"").await, [3]);
    assert_eq!(seqs(&room, "depl*").await, [3, 2]);
    assert_eq!(seqs(&room, "please OR service").await, [2, 1]);
    assert_eq!(
        seqs(&room, "部署").await,
        [4],
        "two characters, in a script without spaces"
    );
    assert_eq!(seqs(&room, "今天部").await, [4]);
    assert!(seqs(&room, "nothing").await.is_empty());
    let page = search(&room, "urgent").await;
    assert_eq!(page.hits[0].snippet, "<b><mark>urgent</mark></b>");
    assert_eq!(
        page.hits[0].snippet_html,
        "&lt;b&gt;<mark>urgent</mark>&lt;/b&gt;"
    );
    assert_eq!(page.hits[2].thread_topic, "t");
    assert_eq!(
        search(&room, "部署").await.hits[0].snippet,
        "我们今天<mark>部署</mark>服务"
    );
}

pub async fn searches_that_cannot_be_read_are_taken_literally(at: At) {
    let room = Room::open(&at).await;
    let thread = room.thread("t").await;
    room.say(&thread, "a foo-bar here, \"unbalanced too").await;
    for text in ["foo-bar", "\"unbalanced", "foo AND"] {
        let page = search(&room, text).await;
        assert!(page.query_error.is_some(), "{text}");
        assert_eq!(page.hits.len(), usize::from(text != "foo AND"), "{text}");
    }
    assert!(search(&room, "*").await.query_error.is_some());
    assert_eq!(search(&room, "foo").await.query_error, None);
    let blank = SearchQuery {
        text: "  ".into(),
        ..SearchQuery::default()
    };
    assert!(matches!(
        room.chat.search(blank).await,
        Err(ChatError::Invalid(_))
    ));
}

pub async fn searches_can_be_narrowed_and_ranked(at: At) {
    let room = Room::open(&at).await;
    let (a, b) = (room.thread("a").await, room.thread("b").await);
    room.say(&a, "word word word").await;
    room.clock.advance(std::time::Duration::from_secs(60));
    let middle = room.chat.now();
    room.chat
        .post(Draft::new(
            b.clone(),
            "ann",
            "word and many others beside it",
        ))
        .await
        .unwrap();
    room.chat.archive(b.clone()).await.unwrap();
    let find = |change: &dyn Fn(&mut SearchQuery)| {
        let mut query = SearchQuery {
            text: "word".into(),
            limit: 10,
            ..SearchQuery::default()
        };
        change(&mut query);
        let chat = room.chat.clone();
        async move {
            let page = chat.search(query).await.unwrap();
            page.hits.iter().map(|hit| hit.seq).collect::<Vec<_>>()
        }
    };
    assert_eq!(find(&|_| ()).await, [2, 1]);
    assert_eq!(
        find(&|query| query.order = SearchOrder::Ranked).await,
        [1, 2]
    );
    assert_eq!(find(&|query| query.thread_id = Some(a.clone())).await, [1]);
    assert_eq!(find(&|query| query.author = Some("ann".into())).await, [2]);
    assert_eq!(
        find(&|query| query.role = Some("assistant".into())).await,
        [0; 0]
    );
    assert_eq!(find(&|query| query.after = Some(middle)).await, [2]);
    assert_eq!(find(&|query| query.before = Some(middle)).await, [1]);
    assert_eq!(
        find(&|query| query.status = Some("archived".into())).await,
        [2]
    );
    assert_eq!(find(&|query| query.limit = 1).await, [2]);
}

pub async fn the_index_follows_edits_and_deletions(at: At) {
    let room = Room::open(&at).await;
    let thread = room.thread("t").await;
    let message = room.say(&thread, "before 之前").await;
    let edit = |text: &str| {
        room.chat.edit(
            message.id.clone(),
            text.into(),
            "human".into(),
            Proof::Nothing,
        )
    };
    edit("after 之后").await.unwrap();
    assert!(seqs(&room, "before").await.is_empty());
    assert!(seqs(&room, "之前").await.is_empty());
    assert_eq!(seqs(&room, "之后").await, [1]);
    edit("plain").await.unwrap();
    assert!(seqs(&room, "之后").await.is_empty());
    assert_eq!(seqs(&room, "plain").await, [1]);
    assert_eq!(room.chat.check_search().await.unwrap(), None);
    room.chat.delete_thread(thread).await.unwrap();
    assert!(seqs(&room, "plain").await.is_empty());
    assert_eq!(room.chat.check_search().await.unwrap(), None);
}

/// A job that looks into the index, changes something, and fails, leaves the words of those before
/// it in their place.
pub async fn the_index_survives_a_failed_job(at: At) {
    let room = Room::open(&at).await;
    let thread = room.thread("t").await;
    let store = std::sync::Arc::clone(room.chat.store());
    let (entered, inside) = std::sync::mpsc::channel();
    let (go_on, waits) = std::sync::mpsc::channel::<()>();
    let holding = std::sync::Arc::clone(&store);
    let holder = tokio::spawn(async move {
        perform(&*holding, Promise::Stored, move |_| {
            entered.send(()).unwrap();
            waits.recv().unwrap();
            Ok(())
        })
        .await
    });
    let inside = tokio::task::spawn_blocking(move || inside.recv());
    guarded("the first job", inside).await.unwrap().unwrap();
    // What is handed over now is done together, and in this order.
    let (post, fail) = (
        room.chat
            .post(Draft::new(thread.clone(), "human", "needle")),
        perform::<()>(&*store, Promise::Stored, |tx| {
            let query = SearchQuery {
                text: "needle".into(),
                ..SearchQuery::default()
            };
            tx.catch_up()?;
            assert_eq!(tx.search(&query)?.hits.len(), 1, "jobs see earlier jobs");
            Err(ChatError::KeyReused)
        }),
    );
    let (posted, failed, ()) = tokio::join!(biased; post, fail, async { go_on.send(()).unwrap() });
    posted.unwrap();
    assert!(matches!(failed, Err(ChatError::KeyReused)), "{failed:?}");
    holder.await.unwrap().unwrap();
    assert_eq!(seqs(&room, "needle").await, [1]);
    assert_eq!(room.chat.check_search().await.unwrap(), None);
}

pub async fn a_search_has_pages_that_hold_still(at: At) {
    let room = Room::open(&at).await;
    let thread = room.thread("t").await;
    for n in 0..7 {
        // The fewer words beside it, the better the match.
        room.say(&thread, &format!("needle{} 部署", " hay".repeat(n)))
            .await;
    }
    for (text, order, expected) in [
        ("needle", SearchOrder::Newest, [7, 6, 5, 4, 3, 2, 1]),
        ("部署", SearchOrder::Newest, [7, 6, 5, 4, 3, 2, 1]),
        ("部署", SearchOrder::Ranked, [7, 6, 5, 4, 3, 2, 1]),
        ("needle", SearchOrder::Ranked, [1, 2, 3, 4, 5, 6, 7]),
    ] {
        let (mut found, mut from, mut pages) = (Vec::new(), None, 0);
        loop {
            let query = SearchQuery {
                text: text.to_owned(),
                order,
                from,
                limit: 3,
                ..SearchQuery::default()
            };
            let page = room.chat.search(query).await.unwrap();
            found.extend(page.hits.iter().map(|hit| hit.seq));
            pages += 1;
            // What comes in meanwhile moves nothing.
            let late = room.say(&thread, "needle 部署").await;
            let Some(next) = page.next else {
                break;
            };
            assert_eq!(SearchCursor::parse(&next.to_string()), Some(next));
            assert!(next.upto < late.seq);
            from = Some(next);
        }
        // Those of the rounds before come first, and are the same in every round.
        found.retain(|seq| *seq <= 7);
        assert_eq!(found, expected, "{text} {order:?}");
        assert!(pages >= 3, "{text} {order:?}");
    }
    for text in ["", "7", "x~0", "-1~0", "1~-1", "1~999999"] {
        assert_eq!(SearchCursor::parse(text), None, "{text}");
    }
}
