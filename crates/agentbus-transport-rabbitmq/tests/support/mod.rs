//! Brokers for the tests.

#![allow(dead_code, reason = "each test program uses a part of it")]

#[path = "../../../agentbus-transport-redis/tests/support/amb.rs"]
pub(crate) mod amb;
pub(crate) mod broker;
#[path = "../../../agentbus-transport-redis/tests/support/certificates.rs"]
pub(crate) mod certificates;
#[path = "../../../agentbus-transport-redis/tests/support/messages.rs"]
pub(crate) mod messages;
#[path = "../../../agentbus-transport-redis/tests/support/ports.rs"]
mod ports;
pub(crate) mod proxy;
#[path = "../../../agentbus-transport-redis/tests/support/sealed.rs"]
pub(crate) mod sealed;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use broker::Broker;

/// Where a broker is that was started for all tests; `cargo xtask test` sets it.
const VARIABLE: &str = "AGENTBUS_RABBITMQ_URL";

/// The URL of the broker that all tests share; one of this program's own where none was started.
pub(crate) fn shared() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| std::env::var(VARIABLE).unwrap_or_else(|_| keep_broker()))
}

/// Starts a broker that ends with this program. It belongs to a thread that never ends before.
fn keep_broker() -> String {
    let (started, url) = mpsc::channel();
    std::thread::spawn(move || {
        let broker = Broker::start();
        started.send(broker.url()).unwrap();
        loop {
            std::thread::park();
        }
    });
    url.recv().unwrap()
}

/// A namespace of a test's own at a shared broker.
pub(crate) fn namespace() -> String {
    static NUMBERS: AtomicU64 = AtomicU64::new(0);
    let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
    // Processes come again with the same number; a broker may outlive them, and so do its queues.
    let since = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
    format!("t{}-{since}-{number}", std::process::id())
}

/// The URL of a bus of a test's own at the shared broker.
pub(crate) fn alone() -> String {
    format!("{}?namespace={}", shared(), namespace())
}

/// The host and the port of the shared broker.
pub(crate) fn place() -> &'static str {
    let (_, place) = shared().rsplit_once('@').unwrap();
    place
}
