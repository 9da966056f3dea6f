//! Workers that speak first.

use super::*;

const OPEN: &str = r#"{"id":1,"method":"m","sessionId":"s"}"#;

#[test]
fn every_client_of_a_session_hears_its_notifications() {
    let mut bench = Bench::one();
    let (a, b, c) = (bench.client(), bench.client(), bench.client());
    bench.says(a, OPEN);
    bench.says(b, OPEN);
    bench.says(c, r#"{"id":1,"method":"m"}"#);
    let news = r#"{"method":"n","sessionId":"s"}"#;
    bench.replies(0, news);
    let want = [(a, news.to_owned()), (b, news.to_owned())];
    assert_eq!(bench.sent_to_clients(), want);
    bench.leaves(a);
    bench.replies(0, news);
    assert_eq!(bench.sent_to_clients(), [(b, news.to_owned())]);
}

#[test]
fn notifications_without_a_known_session_are_dropped_and_counted() {
    let mut bench = Bench::new(&[2], "");
    let client = bench.client();
    bench.says(client, OPEN);
    bench.replies(0, r#"{"method":"n"}"#);
    bench.replies(0, r#"{"method":"n","sessionId":"other"}"#);
    bench.replies(1, r#"{"method":"n","sessionId":"s"}"#);
    assert!(bench.sent_to_clients().is_empty());
    assert_eq!(bench.core.counters.dropped, 3);
}

#[test]
fn a_workers_request_is_answered_by_the_first_client() {
    let mut bench = Bench::new(&[2], "");
    let (a, b) = (bench.client(), bench.client());
    bench.says(a, OPEN);
    bench.says(b, OPEN);
    bench.sent_to_workers();
    let ask = r#"{"id":7,"method":"may_i","sessionId":"s"}"#;
    bench.replies(0, ask);
    assert_eq!(bench.sent_to_clients().len(), 2);
    let yes = r#"{"id":7,"result":"yes","sessionId":"s"}"#;
    bench.says(b, yes);
    bench.says(a, r#"{"id":7,"result":"no","sessionId":"s"}"#);
    assert_eq!(bench.sent_to_workers(), [(0, yes.to_owned())]);
    assert_eq!(bench.core.counters.dropped, 1);
}

#[test]
fn an_answer_finds_the_asking_worker_without_its_session() {
    let mut bench = Bench::new(&[2], "");
    let (a, stranger) = (bench.client(), bench.client());
    bench.says(a, OPEN);
    bench.sent_to_workers();
    bench.replies(0, r#"{"id":7,"method":"may_i","sessionId":"s"}"#);
    bench.says(stranger, r#"{"id":7,"result":"forged"}"#);
    bench.says(a, r#"{"id":7,"result":"yes"}"#);
    assert_eq!(
        bench.sent_to_workers(),
        [(0, r#"{"id":7,"result":"yes"}"#.to_owned())]
    );
}

#[test]
fn a_worker_that_nobody_can_answer_is_told_so() {
    let mut bench = Bench::one();
    let client = bench.client();
    bench.replies(0, r#"{"id":7,"method":"may_i","sessionId":"s"}"#);
    bench.replies(0, r#"{"id":8,"method":"may_i"}"#);
    let told = bench.sent_to_workers();
    assert!(told[0].1.contains("\"id\":7") && told[0].1.contains("NO_CLIENT"));
    assert!(told[1].1.contains("\"id\":8") && told[1].1.contains("SESSION_REQUIRED"));
    bench.says(client, OPEN);
    bench.replies(0, r#"{"id":9,"method":"may_i","sessionId":"s"}"#);
    bench.sent_to_workers();
    bench.leaves(client);
    let told = bench.sent_to_workers();
    assert!(told[0].1.contains("\"id\":9") && told[0].1.contains("NO_CLIENT"));
}

#[test]
fn a_call_hears_what_belongs_to_it() {
    let mut bench = Bench::one();
    let older = bench.core.open_client(ClientKind::Call).unwrap();
    let newer = bench.core.open_client(ClientKind::Call).unwrap();
    bench.says(older, r#"{"id":"a","method":"m","sessionId":"s"}"#);
    bench.says(newer, r#"{"id":"b","method":"m","sessionId":"s"}"#);
    let news = r#"{"method":"n","sessionId":"s"}"#.to_owned();
    bench.replies(0, &news);
    assert_eq!(bench.sent_to_clients(), [(older, news.clone())]);
    bench.leaves(older);
    bench.replies(0, &news);
    assert_eq!(bench.sent_to_clients(), [(newer, news)]);
    // With one call under way, even what names no session is its own.
    let progress = r#"{"method":"progress"}"#.to_owned();
    bench.replies(0, &progress);
    assert_eq!(bench.sent_to_clients(), [(newer, progress)]);
}
