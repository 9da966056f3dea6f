//! An agent that others have written behind a running bus: added to the configuration, prompted,
//! asked for permission, given the tools of the bus.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should say where"
)]

#[path = "support/readme.rs"]
mod readme;
#[path = "support/serving.rs"]
mod serving;
#[path = "../../agentbus-acp/tests/support/mod.rs"]
mod support;
#[path = "support/tap.rs"]
mod tap;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use serving::{SERVE, Serving, agentbus};
use support::frames::python;
use tap::Tap;

struct Bus {
    serving: Serving,
    /// What stands between the bus and its agents; all that passed is checked at the end.
    tap: Tap,
    dir: tempfile::TempDir,
}

impl Bus {
    /// A bus with the agent, which was added by the command that people use.
    fn start(python: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let agent =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../agentbus-acp/tests/driving/agent.py");
        let tap = Tap::new().around(&[python, &agent].map(|part| part.to_str().unwrap()));
        let added = agentbus(dir.path())
            .args(["agent", "add", "helper", "--root", ".", "--"])
            .arg(tap.command())
            .output()
            .unwrap();
        assert!(added.status.success(), "{added:?}");
        Self::serve(dir, tap)
    }

    /// A bus with the agents that are configured in a directory, behind this tap.
    fn serve(dir: tempfile::TempDir, tap: Tap) -> Self {
        let mut serve = agentbus(dir.path());
        serve
            .args(SERVE)
            .args(["--config", "agentbus.toml", "--log", "error"])
            // Agents among themselves are quicker than people.
            .env("AGENTCHATBUS_RATE_LIMIT", "0");
        let serving = Serving::start(&mut serve);
        Self { serving, tap, dir }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = agentbus(self.dir.path());
        command
            .args(["--json", "--url", &self.serving.url])
            .args(words);
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    fn prompt(&self, text: &str) -> String {
        let payload = Value::from(text).to_string();
        let output = self.run(&[
            "invoke",
            "helper",
            &payload,
            "--session",
            "s",
            "--timeout",
            "100",
        ]);
        let reply: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        assert!(output.status.success(), "{text}: {output:?}");
        reply["payload"]["text"].as_str().unwrap().to_owned()
    }

    /// Waits until there is an open question and returns it.
    fn question(&self) -> Value {
        let begun = Instant::now();
        loop {
            let listed = self.run(&["decisions", "list"]);
            if let Ok(question) = serde_json::from_slice(&listed.stdout) {
                return question;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(100),
                "nobody asked: {listed:?}"
            );
        }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        // A test that has failed says why, and nothing else.
        if !std::thread::panicking() {
            self.serving.process.end();
            assert!(self.tap.check() > 0, "no agent was asked for anything");
        }
    }
}

#[test]
fn an_agent_is_added_prompted_and_given_the_tools_of_the_bus() {
    let Some(python) = python() else { return };
    let bus = Bus::start(&python);
    assert_eq!(bus.prompt("stream"), "one two three");
    assert_eq!(bus.prompt("count"), "2");
    let tools = bus.prompt("tools");
    for tool in ["msg_post", "msg_wait"] {
        assert!(tools.contains(tool), "{tools}");
    }
    let frames = bus.run(&[
        "invoke",
        "--stream",
        "helper",
        "\"stream\"",
        "--session",
        "s",
    ]);
    let frames = String::from_utf8(frames.stdout).unwrap();
    assert!(
        frames.contains("agent_thought_chunk") && frames.contains("\"stop_reason\":\"end_turn\""),
        "{frames}"
    );
}

#[test]
fn a_permission_is_given_over_http_and_the_first_answer_counts() {
    let Some(python) = python() else { return };
    let bus = Bus::start(&python);
    let asking = bus
        .command(&[
            "invoke",
            "helper",
            "\"permission\"",
            "--session",
            "s",
            "--timeout",
            "100",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let question = bus.question();
    let id = question["id"].as_str().unwrap();
    assert_eq!(
        (&question["asker"]["name"], &question["session"]),
        (&"helper".into(), &"s".into())
    );
    assert_eq!(question["options"][0]["id"], "allow");
    assert!(question["since"].as_str() < question["until"].as_str());
    let wrong = bus.run(&["decisions", "answer", id, "perhaps"]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    assert!(
        bus.run(&["decisions", "answer", id, "allow"])
            .status
            .success()
    );
    let again = bus.run(&["decisions", "answer", id, "allow"]);
    assert!(
        again.status.success(),
        "the same answer once more: {again:?}"
    );
    let second = bus.run(&["decisions", "answer", id, "reject"]);
    assert_eq!(second.status.code(), Some(10), "{second:?}");
    let unknown = bus.run(&["decisions", "answer", "nothing", "allow"]);
    assert_eq!(unknown.status.code(), Some(2), "{unknown:?}");
    let answered = asking.wait_with_output().unwrap();
    let answered = String::from_utf8(answered.stdout).unwrap();
    assert!(answered.contains("allowed with allow"), "{answered}");
}

#[test]
fn whoever_attaches_again_gets_exactly_the_rest() {
    let Some(python) = python() else { return };
    let bus = Bus::start(&python);
    bus.prompt("stream");
    let attached = |words: &[&str]| {
        let output = bus.run(&[&["attach", "s"], words].concat());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    // It was opened, prompted, said seven things and ended.
    let all = attached(&["--count", "10"]);
    let events: Vec<Value> = all
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let offsets: Vec<u64> = events
        .iter()
        .map(|event| event["offset"].as_u64().unwrap())
        .collect();
    assert_eq!(offsets, (1..=10).collect::<Vec<_>>());
    assert_eq!(
        (&events[1]["event"], &events[9]["event"]),
        (&"prompt".into(), &"ended".into())
    );
    let parts = [
        attached(&["--count", "4"]),
        attached(&["--after", "4", "--count", "6"]),
    ];
    assert_eq!(parts.concat(), all);
    // Two who watch while it happens see the same.
    let watch = || {
        let mut watch = bus.command(&["attach", "helper:s", "--after", "10", "--count", "3"]);
        watch.stdout(Stdio::piped()).spawn().unwrap()
    };
    let watching = [watch(), watch()];
    assert_eq!(bus.prompt("count"), "2");
    let [one, two] = watching.map(|child| child.wait_with_output().unwrap().stdout);
    assert_eq!(one, two);
    assert!(String::from_utf8(one).unwrap().contains("\"text\":\"2\""));
    assert_eq!(bus.run(&["attach", "nobody"]).status.code(), Some(2));
    let listed: Value = serde_json::from_slice(&bus.run(&["attach"]).stdout).unwrap();
    assert_eq!(
        (&listed["id"], &listed["last"]),
        (&"helper:s".into(), &13.into())
    );
}

#[test]
fn two_agents_and_a_person_talk_as_the_readme_shows() {
    const HEADING: &str = "Live agents and people.";
    let Some(python) = python() else { return };
    let python = [python.parent().unwrap()];
    let dir = tempfile::tempdir().unwrap();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    std::os::unix::fs::symlink(examples, dir.path().join("examples")).unwrap();
    let block = readme::block(HEADING, "sh");
    let (add, serve) = block.rsplit_once("agentbus serve").unwrap();
    assert_eq!(serve.trim(), "--config agentbus.toml");
    let added = readme::shell(add, dir.path(), "", &python).output();
    assert!(added.as_ref().unwrap().status.success(), "{added:?}");
    // The agents find their interpreter where the bus was started.
    let file = dir.path().join("agentbus.toml");
    let written = std::fs::read_to_string(&file).unwrap();
    let tap = Tap::new().around(&[python[0].join("python").to_str().unwrap()]);
    let written = written.replace("\"python\"", &format!("{:?}", tap.command()));
    std::fs::write(&file, written).unwrap();
    let bus = Bus::serve(dir, tap);
    let run = |command: &str| readme::shell(command, bus.dir.path(), &bus.serving.url, &python);
    readme::follow(&readme::block(HEADING, "console"), run);
}
