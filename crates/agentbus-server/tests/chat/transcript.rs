//! A thread as people read it.

use serde_json::{Value, json};

use super::client::{Host, quiet};

async fn post(host: &Host, thread: &str, text: &str, for_people: bool) {
    let mut new = json!({ "content": text });
    if for_people {
        new["metadata"] = json!({ "visibility": "human_only" });
    }
    let path = format!("/api/threads/{thread}/messages");
    let posted = host.json("POST", &path, new).await;
    assert_eq!(posted.status, 201, "{}", posted.text);
}

/// Text, kind, place and anchor of each entry.
async fn places(host: &Host, path: &str) -> Vec<Value> {
    let page = host.get(path).await;
    assert_eq!(page.status, 200, "{}", page.text);
    let entries = page.body.as_array().unwrap();
    let place = |one: &Value| {
        json!([
            one["content"],
            one["entry_kind"],
            one["transcript_index"],
            one["anchor_seq"]
        ])
    };
    entries.iter().map(place).collect()
}

#[tokio::test]
async fn a_transcript_has_what_is_for_people_in_its_place() {
    let host = Host::start(quiet()).await;
    let thread = host.thread("t").await;
    // Numbers count over all threads, places over one.
    let other = host.thread("other").await;
    post(&host, &other, "elsewhere", false).await;
    for (text, for_people) in [("a", true), ("b", false), ("c", true), ("d", true)] {
        post(&host, &thread, text, for_people).await;
    }
    let path = format!("/api/threads/{thread}/transcript");
    let all = [
        json!(["a", "human_only", 0, 0]),
        json!(["b", "message", 1, null]),
        json!(["c", "human_only", 2, 3]),
        json!(["d", "human_only", 3, 3]),
    ];
    assert_eq!(places(&host, &path).await, all);
    assert_eq!(
        places(&host, &format!("{path}?after_seq=3&limit=1")).await,
        all[2..3]
    );
    assert_eq!(
        places(&host, &format!("{path}?tail=1&limit=1")).await,
        all[3..]
    );
    assert!(
        places(&host, &format!("{path}?after_seq=5"))
            .await
            .is_empty()
    );
    host.server.shutdown().await;
}

#[tokio::test]
async fn a_transcript_of_nothing_is_refused() {
    let host = Host::start(quiet()).await;
    let thread = host.thread("t").await;
    let unknown = host.get("/api/threads/nope/transcript").await;
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.body, json!({ "detail": "Thread not found" }));
    for wrong in ["after_seq=x", "limit=many", "tail=maybe", "metadata=odd"] {
        let path = format!("/api/threads/{thread}/transcript?{wrong}");
        let refused = host.get(&path).await;
        assert_eq!(refused.status, 422, "{wrong}: {}", refused.text);
    }
    host.server.shutdown().await;
}
