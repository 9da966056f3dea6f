//! The first lines that anybody types: those of the README and those that the page shows, read from
//! where they stand and typed as they are.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

#[allow(
    dead_code,
    reason = "these are lines without a prompt, some of which stay in their terminal"
)]
#[path = "support/readme.rs"]
mod readme;
#[path = "support/serving.rs"]
mod serving;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

use serving::{Running, SERVE, Serving};

/// What the agents of these lines answer.
const WORDS: &str = "3";
const NUMBERS: &str = "1\n2\n3\n4\n5";

/// The event that is published, as a subscriber prints it.
const EVENT: &str = "order.paid {\"n\":1}";

/// Terminals in each of which one line was typed; what stays there ends with the test.
struct Terminals<F> {
    shell: F,
    open: Vec<(Running, BufReader<ChildStderr>)>,
    /// What the last subscriber prints.
    heard: Option<Receiver<String>>,
}

impl<F: Fn(&str) -> Command> Terminals<F> {
    fn new(shell: F) -> Self {
        Self {
            shell,
            open: Vec::new(),
            heard: None,
        }
    }

    /// Types a line and checks what it does.
    fn types(&mut self, line: &str) {
        let has = |word| line.split(' ').any(|one| one == word);
        if has("handle") {
            return self.stays(line, "serving");
        }
        if has("sub") {
            return self.stays(line, "listening");
        }
        let said = self.says(line);
        if has("pub") {
            return self.hears();
        }
        let streamed = line.contains("/count/stream");
        let answer = match streamed {
            true => deltas(&said),
            false => said.trim_end().to_owned(),
        };
        let wanted = match streamed || has("count") {
            true => NUMBERS,
            false => WORDS,
        };
        assert_eq!(answer, wanted, "{line}");
        // What a comment says that it prints.
        if let Some((_, shown)) = line.split_once(" # ") {
            let shown = shown.trim_start().split(',').next();
            assert_eq!(shown, Some(answer.as_str()), "{line}");
        }
    }

    /// Runs a line that ends, and returns what it prints.
    fn says(&self, line: &str) -> String {
        let output = (self.shell)(line).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts a line that stays, and waits until it says that it is ready.
    fn stays(&mut self, line: &str, ready: &str) {
        // In place of the shell, so that what ends is the program.
        let mut shell = (self.shell)(&format!("exec env {line}"));
        let shell = shell.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = shell.spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let running = Running(child);
        let mut said = String::new();
        while !said.contains(ready) {
            said.clear();
            let read = stderr.read_line(&mut said).unwrap();
            assert_ne!(read, 0, "{line} ended early");
        }
        let (tell, heard) = channel();
        std::thread::spawn(move || {
            let lines = stdout.lines().map_while(Result::ok);
            lines.for_each(|line| drop(tell.send(line)));
        });
        self.heard = Some(heard);
        self.open.push((running, stderr));
    }

    /// Waits until the last subscriber has printed the event.
    fn hears(&self) {
        let heard = self.heard.as_ref().unwrap();
        while heard.recv_timeout(Duration::from_secs(120)).unwrap() != EVENT {}
    }
}

/// The payloads of the deltas in an event stream, one a line.
fn deltas(stream: &str) -> String {
    let data = stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "));
    let frames: Vec<Value> = data
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    assert_eq!(frames.last().unwrap()["is_final"], true, "{stream}");
    let deltas = frames
        .iter()
        .filter(|frame| frame["event_type"] == "agent.response.delta");
    let payloads: Vec<_> = deltas.map(|frame| frame["payload"].to_string()).collect();
    payloads.join("\n")
}

/// A bus with its data in a directory of this name.
fn bus(dir: &Path, data: &str, how: &[&str]) -> Serving {
    let mut serve = Command::new(env!("CARGO_BIN_EXE_agentbus"));
    serve
        .args(SERVE)
        .args(["--log", "warn", "--data-dir"])
        .arg(dir.join(data))
        .args(how)
        .env_remove("AGENTBUS_TOKEN")
        .current_dir(dir);
    Serving::start(&mut serve)
}

#[test]
fn programs_become_agents_as_the_readme_shows() {
    let dir = tempfile::tempdir().unwrap();
    let bus = bus(dir.path(), "data", &[]);
    let shell = |line: &str| readme::shell(line, dir.path(), &bus.url, &[]);
    let mut terminals = Terminals::new(shell);
    let block = readme::block("Programs as agents.", "sh");
    assert_eq!(block.lines().count(), 6, "{block}");
    block.lines().for_each(|line| terminals.types(line));
}

#[test]
fn events_are_heard_and_kept_as_the_readme_shows() {
    let dir = tempfile::tempdir().unwrap();
    let block = readme::block("Events.", "sh");
    let [sub, publish, serve, durable] = block.lines().collect::<Vec<_>>()[..] else {
        panic!("{block}");
    };
    let first = bus(dir.path(), "data", &[]);
    let mut terminals =
        Terminals::new(|line: &str| readme::shell(line, dir.path(), &first.url, &[]));
    terminals.types(sub);
    terminals.types(publish);
    drop(terminals);
    // The next one serves the same data directory.
    let mut first = first;
    first.process.end();
    let mut again = readme::shell(&format!("exec {serve}"), dir.path(), "", &[]);
    again.env("AGENTBUS_LISTEN", "127.0.0.1:0");
    let mut again = Running(again.stdout(Stdio::piped()).spawn().unwrap());
    let mut told = BufReader::new(again.0.stdout.as_mut().unwrap()).lines();
    let told = told.next().unwrap().unwrap();
    let url = told.rsplit(' ').next().unwrap();
    assert!(dir.path().join("bus.db").exists(), "{told}");
    let mut terminals = Terminals::new(|line: &str| readme::shell(line, dir.path(), url, &[]));
    terminals.says(publish);
    terminals.types(durable);
    terminals.hears();
}

#[test]
fn the_lines_of_the_page_reach_the_bus_that_shows_them() {
    let open = &["--auth", "off"][..];
    for (data, how) in [("my data", &[][..]), ("data", open)] {
        let dir = tempfile::tempdir().unwrap();
        let bus = bus(dir.path(), data, how);
        // Another terminal, in which nothing is set.
        let shell = |line: &str| {
            let mut shell = readme::shell(line, dir.path(), &bus.url, &[]);
            for set in ["AGENTBUS_DATA_DIR", "AGENTBUS_URL", "XDG_DATA_HOME"] {
                shell.env_remove(set);
            }
            shell.env("HOME", dir.path());
            shell
        };
        let mut terminals = Terminals::new(shell);
        let ask = match how {
            [] => format!("-H 'Authorization: Bearer {}'", bus.token()),
            _ => String::new(),
        };
        let shown = terminals.says(&format!("curl -s {ask} {}/v1/connect", bus.url));
        let shown: Value = serde_json::from_str(&shown).unwrap();
        let lines: Vec<_> = shown["lines"].as_array().unwrap().iter().collect();
        let (rust, lines) = lines.split_last().unwrap();
        assert!(rust.as_str().unwrap().contains(&bus.url), "{rust}");
        assert_eq!(lines.len(), 8, "{lines:?}");
        for line in lines {
            terminals.types(line.as_str().unwrap());
        }
    }
}
