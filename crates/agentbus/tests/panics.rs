//! What the log says of a handler that panicked.
//!
//! One test in a program of its own: `tracing` asks the first thread that comes by a line whether
//! anybody wants it, and another test's thread would say no for all.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use std::io;
use std::sync::{Arc, Mutex};

use agentbus::{Bus, Request};

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[inline(never)]
fn runs_out_of_ink() {
    panic!("out of ink");
}

#[tokio::test]
async fn a_panic_is_logged_with_its_place_and_its_backtrace() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone());
    // For this thread alone, on which the whole test runs.
    let _logging = tracing::subscriber::set_default(subscriber.finish());
    let bus = Bus::builder("t").connect().await.unwrap();
    bus.handle("prints", |_: Request| async {
        runs_out_of_ink();
        Ok(())
    })
    .await
    .unwrap();
    let error = bus.invoke("prints", &1).await.unwrap_err();
    assert!(error.to_string().contains("out of ink"), "{error}");
    let said = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for part in ["handler panicked", "out of ink", file!(), "runs_out_of_ink"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
