//! Dead letters and durable names from the command line, over a log that outlives its bus.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

#[path = "support/serving.rs"]
mod serving;

use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;

use serving::{SERVE, Serving, agentbus};

/// How long anything may take that is awaited; nothing here takes a fraction of it.
const GUARD: Duration = Duration::from_secs(120);

fn serve(dir: &Path) -> Serving {
    let mut serve = agentbus(dir);
    let options = ["--log", "warn", "--transport", "sqlite://bus.db"];
    Serving::start(serve.args(SERVE).args(options))
}

fn run(dir: &Path, bus: &Serving, args: &[&str]) -> Output {
    let mut command = agentbus(dir);
    command.env("AGENTBUS_URL", &bus.url).args(args);
    command.output().unwrap()
}

fn says(dir: &Path, bus: &Serving, args: &[&str]) -> String {
    let output = run(dir, bus, args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {error}");
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}

/// What a command prints, once it prints something.
fn eventually_says(dir: &Path, bus: &Serving, args: &[&str]) -> String {
    let begun = Instant::now();
    loop {
        let said = says(dir, bus, args);
        if !said.is_empty() {
            return said;
        }
        assert!(begun.elapsed() < GUARD, "{args:?} prints nothing");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn refuses(dir: &Path, bus: &Serving, args: &[&str], why: &str) {
    let output = run(dir, bus, args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
    assert!(error.contains(why), "{args:?}: {error}");
}

/// Publishes an event that has expired when this returns. On a busy machine it may have expired
/// before the bus takes it; it gets more time then.
fn publish_expired(dir: &Path, bus: &Serving, publish: &[&str]) {
    let mut ttl = 1;
    loop {
        let seconds = ttl.to_string();
        let published = run(dir, bus, &[publish, &["--ttl", seconds.as_str()]].concat());
        if published.status.success() {
            break std::thread::sleep(Duration::from_secs(ttl) + Duration::from_millis(500));
        }
        let error = String::from_utf8_lossy(&published.stderr);
        assert!(error.contains("had expired"), "{error}");
        ttl *= 2;
    }
}

#[test]
fn a_letter_outlives_its_bus_and_is_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let bus = serve(dir);
    let next = ["sub", "job.*", "--durable", "jobs", "--count", "1"];
    says(dir, &bus, &["pub", "job.made", "1"]);
    let first = [&next[..], &["--from", "beginning"]].concat();
    assert_eq!(says(dir, &bus, &first), "job.made 1");
    publish_expired(dir, &bus, &["pub", "job.late", "\"x\""]);
    says(dir, &bus, &["pub", "job.made", "2"]);
    assert_eq!(says(dir, &bus, &next), "job.made 2");
    let shown = eventually_says(dir, &bus, &["dead-letters"]);
    assert!(shown.contains("  job.late  expired after "), "{shown}");
    assert!(shown.ends_with("\n  \"x\""), "{shown}");
    drop(bus);

    let bus = serve(dir);
    let list = ["dead-letters", "list", "--type", "job.late", "--json"];
    let listed = eventually_says(dir, &bus, &list);
    let letter: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(letter["subject"], "acp.v1.events.job.late");
    let id = letter["id"].as_str().unwrap();
    let sent = says(dir, &bus, &["dead-letters", "redrive", id]);
    assert_eq!(sent, format!("sent {id} again"));
    assert_eq!(says(dir, &bus, &["dead-letters"]), "");
    assert_eq!(says(dir, &bus, &next), "job.late \"x\"");
    for verb in ["redrive", "drop"] {
        let unknown = ["dead-letters", verb, id];
        refuses(dir, &bus, &unknown, "there is no dead letter");
    }
    let all = says(dir, &bus, &["dead-letters", "redrive", "--all"]);
    assert_eq!(all, "sent 0 again");
}

#[test]
fn a_durable_name_is_removed_and_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let bus = serve(dir);
    let begin = ["sub", "job.*", "--durable", "jobs", "--count", "1"];
    let begin = [&begin[..], &["--from", "beginning"]].concat();
    for n in ["1", "2"] {
        says(dir, &bus, &["pub", "job.made", n]);
    }
    assert_eq!(says(dir, &bus, &["durable", "list"]), "");
    assert_eq!(says(dir, &bus, &begin), "job.made 1");
    let listed = says(dir, &bus, &["durable", "list"]);
    assert!(
        listed.starts_with("jobs  acp.v1.events.job.*: "),
        "{listed}"
    );
    let listed = says(dir, &bus, &["durable", "list", "--json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["name"], "jobs", "{listed}");
    let remove = ["durable", "remove", "jobs"];
    let begun = Instant::now();
    // The bus may not have heard yet that its subscriber has left.
    let removed = loop {
        let removed = run(dir, &bus, &remove);
        if removed.status.success() || begun.elapsed() > GUARD {
            break removed;
        }
        let error = String::from_utf8_lossy(&removed.stderr);
        assert!(error.contains("in use"), "{error}");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(
        String::from_utf8_lossy(&removed.stdout),
        "removed jobs\n",
        "{removed:?}"
    );
    refuses(dir, &bus, &remove, "does not exist");
    assert_eq!(says(dir, &bus, &begin), "job.made 1", "from the beginning");
}
