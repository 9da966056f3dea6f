//! Lines come whole, in order, and in linear time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail the test"
)]

use agentbus_process::{LineError, Lines};
use bytes::Bytes;
use tokio::io::AsyncWriteExt;

async fn check(input: &[u8], limit: usize, expected: &[&str]) {
    // One byte at a time and all at once must look alike.
    for chunk in [1, input.len().max(1)] {
        let (mut writer, reader) = tokio::io::duplex(chunk);
        let (written, lines) = tokio::join!(
            async {
                writer.write_all(input).await.unwrap();
                drop(writer);
            },
            async {
                let mut lines = Lines::new(reader, limit);
                let mut seen = Vec::new();
                while let Some(line) = lines.next().await.unwrap() {
                    seen.push(line);
                }
                assert_eq!(lines.next().await.unwrap(), None, "the end stays the end");
                seen
            }
        );
        let () = written;
        assert_eq!(
            lines,
            expected
                .iter()
                .map(|line| Bytes::from(line.to_string()))
                .collect::<Vec<_>>()
        );
    }
}

#[tokio::test]
async fn splits_at_newlines_and_nowhere_else() {
    check(b"", 9, &[]).await;
    check(b"\n", 9, &[""]).await;
    check(b"a", 9, &["a"]).await;
    check(b"a\n", 9, &["a"]).await;
    check(b"a\r\n\nb\rc", 9, &["a\r", "", "b\rc"]).await;
    check(b"123456789\n123456789", 9, &["123456789", "123456789"]).await;
}

#[tokio::test]
async fn a_line_over_the_limit_ends_it() {
    for input in ["ok\n1234567890\nafter\n", "ok\n1234567890"] {
        let mut lines = Lines::new(input.as_bytes(), 9);
        assert_eq!(lines.next().await.unwrap().unwrap(), "ok");
        assert!(matches!(
            lines.next().await,
            Err(LineError::TooLong { limit: 9 })
        ));
        assert_eq!(lines.next().await.unwrap(), None);
    }
}

#[tokio::test]
async fn an_abandoned_wait_loses_nothing() {
    let (mut writer, reader) = tokio::io::duplex(64);
    let mut lines = Lines::new(reader, 64);
    writer.write_all(b"half").await.unwrap();
    let waited = tokio::select! {
        biased;
        line = lines.next() => Some(line),
        () = std::future::ready(()) => None,
    };
    assert!(waited.is_none());
    writer.write_all(b" and half\n").await.unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap(), "half and half");
}
