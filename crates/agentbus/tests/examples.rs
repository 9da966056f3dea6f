//! The examples do what they say.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]
#![allow(
    clippy::duplicate_mod,
    reason = "the examples are compiled as modules here"
)]

macro_rules! example {
    ($name:ident, $path:literal) => {
        #[path = $path]
        mod $name;
    };
}

example!(cascade, "../../../examples/cascade.rs");
example!(echo, "../../../examples/echo.rs");
example!(fanout, "../../../examples/fanout.rs");
example!(stream, "../../../examples/stream.rs");

#[tokio::test]
async fn echo_answers() {
    assert_eq!(echo::run("memory://").await.unwrap(), r#"{"msg":"hello"}"#);
}

#[tokio::test]
async fn stream_speaks_word_by_word() {
    let said = stream::run("memory://").await.unwrap();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 7);
    assert_eq!(lines[1], r#"1 agent.response.delta {"delta":"one"}"#);
    assert_eq!(lines[6], r#"6 agent.response.final {"result":{"words":5}}"#);
}

#[tokio::test]
async fn fanout_shares_the_work() {
    let said = fanout::run("memory://").await.unwrap();
    assert!(said.starts_with("30 jobs seen"), "{said}");
    for worker in ["ann", "bob", "cleo"] {
        assert!(said.contains(worker), "{said}");
    }
}

#[tokio::test]
async fn cascade_keeps_one_trace() {
    let said = cascade::run("memory://").await.unwrap();
    assert_eq!(said, "planner, research, write in one trace: true");
}
