//! Pools of `agentbus serve`: over the command line, HTTP and metrics, as targets like any other.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::harness::*;
use crate::readme;
use crate::serving::{SERVE, Serving};

/// A bus that serves the pools of a file.
pub(crate) struct Host {
    serving: Serving,
    address: String,
    token: String,
    dir: tempfile::TempDir,
}

/// The file of one pool `p` of scripted workers.
fn file(instances: u32, more: &str) -> String {
    format!(
        "[[pools]]\nid = \"p\"\ncommand = {:?}\ninstances = {instances}\n{more}\n\
         [pool_limits]\nrestart_delay_ms = 1\nmax_restarts = 1000\ndrain_timeout_sec = 10\n",
        scripted_worker()
    )
}

impl Host {
    pub(crate) fn start(file: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("agentbus.toml"), file).unwrap();
        let mut serve = agentbus(&dir);
        let serving =
            Serving::start(
                serve
                    .args(SERVE)
                    .args(["--config", "agentbus.toml", "--log", "error"]),
            );
        Self {
            address: serving.address().to_owned(),
            token: serving.token(),
            serving,
            dir,
        }
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = agentbus(&self.dir);
        command.env("AGENTBUS_URL", format!("http://{}", self.address));
        command.args(args).output().unwrap()
    }

    /// Runs a line of a shell that finds `agentbus`, at this bus instead of the usual place.
    pub(crate) fn shell(&self, line: &str) -> Command {
        let url = format!("http://{}", self.address);
        readme::shell(line, self.dir.path(), &url, &[])
    }

    /// Runs a command that succeeds and returns what it printed.
    #[track_caller]
    fn says(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {error}");
        String::from_utf8(output.stdout)
            .unwrap()
            .trim_end()
            .to_owned()
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.says(args)).unwrap()
    }

    /// Makes an HTTP request and leaves its answer unread.
    fn open(&self, method: &str, path: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.address,
            self.token,
            body.len()
        )
        .unwrap();
        stream
    }

    /// Makes an HTTP request and returns its status and its body.
    fn http(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut answer = String::new();
        self.open(method, path, body)
            .read_to_string(&mut answer)
            .unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    pub(crate) fn workers(&self) -> Vec<u64> {
        let list = self.json(&["pool", "list", "--json"]);
        let workers = list["pools"][0]["workers"].as_array().unwrap();
        workers
            .iter()
            .filter_map(|worker| worker["pid"].as_u64())
            .collect()
    }
}

fn agentbus(dir: &tempfile::TempDir) -> Command {
    let mut command = program();
    command
        .current_dir(dir.path())
        .env("AGENTBUS_DATA_DIR", dir.path().join("data"))
        .env_remove("AGENTBUS_TOKEN")
        .env_remove("AGENTBUS_CONFIG");
    command
}

#[test]
fn a_pool_is_a_target_like_any_other() {
    let host = Host::start(&file(2, ""));
    let echo = r#"{"method":"echo","params":{"x":1}}"#;
    assert_eq!(host.says(&["invoke", "p", echo]), r#"{"x":1}"#);
    let (status, body) = host.http("POST", "/v1/agents/p/invoke", echo);
    assert_eq!((status, body.as_str()), (200, r#"{"x":1}"#));
    // A session keeps its worker; without one, work goes round.
    let who = |args: &[&str]| host.says(&[&["invoke", "p", r#"{"method":"who"}"#], args].concat());
    let of_session = who(&["--session", "s"]);
    assert_eq!(who(&["--session", "s"]), of_session);
    assert_ne!(who(&[]), who(&[]));
    // A session in the payload counts where the envelope has none.
    let who = r#"{"method":"who","sessionId":"s"}"#;
    assert_eq!(host.says(&["invoke", "p", who]), of_session);
}

#[test]
fn what_a_worker_says_meanwhile_is_streamed_and_its_text_is_gathered() {
    let host = Host::start(&file(1, ""));
    let chunks = r#"{"method":"chunks"}"#;
    let whole = json!({ "stopReason": "end_turn", "text": "Hello" });
    assert_eq!(host.json(&["invoke", "p", chunks]), whole);
    for session in [&[][..], &["--session", "s"]] {
        let said = host.says(&[&["invoke", "--stream", "p", chunks], session].concat());
        let frames: Vec<Value> = said
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(frames.len(), 3, "{said}");
        assert_eq!(frames[1]["params"]["update"]["content"]["text"], "lo");
        assert_eq!(frames[2], whole);
    }
    let (status, events) = host.http("POST", "/v1/agents/p/stream", chunks);
    assert_eq!(status, 200);
    assert_eq!(
        events.matches("event: agent.response.delta").count(),
        2,
        "{events}"
    );
    assert_eq!(
        events.matches("event: agent.response.final").count(),
        1,
        "{events}"
    );
}

#[test]
fn two_calls_at_a_time_hear_only_their_own_text() {
    let host = Host::start(&file(2, ""));
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..4)
            .map(|number| {
                let host = &host;
                let session = format!("s{number}");
                scope.spawn(move || {
                    host.json(&[
                        "invoke",
                        "p",
                        r#"{"method":"chunks"}"#,
                        "--session",
                        &session,
                    ])
                })
            })
            .collect();
        for call in calls {
            assert_eq!(call.join().unwrap()["text"], "Hello");
        }
    });
}

#[test]
fn errors_of_workers_and_of_the_pool_are_error_replies() {
    let host = Host::start(&file(1, ""));
    for (payload, exit, word) in [
        (r#"{"method":"refuse"}"#, 8, "no such thing"),
        (
            r#"{"method":"exit","params":{"code":3}}"#,
            8,
            "ended before it answered",
        ),
        (r#"{"x":1}"#, 8, "say which method of `p` to call"),
    ] {
        let output = host.run(&["invoke", "p", payload]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "{payload}: {said}");
        assert!(said.contains(word), "{payload}: {said}");
    }
    let (status, body) = host.http("POST", "/v1/agents/p/invoke", r#"{"method":"refuse"}"#);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["code"]), (400, &json!("INVALID_REQUEST")));
    assert_eq!(body["cause"]["code"], -32602);
}

#[test]
fn a_payload_of_params_calls_the_pools_own_method() {
    let host = Host::start(&file(1, "method = \"echo\""));
    assert_eq!(
        host.says(&["invoke", "p", r#"{"text":"hi"}"#]),
        r#"{"text":"hi"}"#
    );
    assert_eq!(host.says(&["invoke", "p", r#"{"method":"stdio/x"}"#]), "ok");
}

#[test]
fn a_call_that_is_given_up_is_taken_back_from_its_worker() {
    let host = Host::start(&file(1, ""));
    for (payload, notified, member) in [
        (
            r#"{"method":"silent"}"#,
            "notifications/cancelled",
            "requestId",
        ),
        (
            r#"{"method":"session/prompt","params":{"sessionId":"acp-1"}}"#,
            "session/cancel",
            "sessionId",
        ),
    ] {
        let caller = host.open("POST", "/v1/agents/p/stream", payload);
        let in_flight = |count: u64| {
            let list = host.json(&["pool", "list", "--json"]);
            (list["pools"][0]["workers"][0]["in_flight"] == count).then_some(())
        };
        eventually("the worker has it", || in_flight(1));
        drop(caller);
        eventually("nobody waits for it", || in_flight(0));
        let notes = host.json(&["invoke", "p", r#"{"method":"notes"}"#]);
        let last = notes.as_array().unwrap().last().unwrap();
        assert_eq!(last["method"], notified, "{notes}");
        assert!(last["params"].get(member).is_some(), "{notes}");
    }
}

#[test]
fn a_worker_that_asks_is_told_that_nobody_can_answer() {
    let host = Host::start(&file(1, ""));
    let said = host.says(&["invoke", "--stream", "p", r#"{"method":"asks"}"#]);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].contains("may_i"), "{said}");
    assert!(
        lines[1].contains("-32025") && lines[1].contains(r#""id":"q""#),
        "{said}"
    );
}

#[test]
fn pools_are_listed_restarted_drained_and_read() {
    let mut host = Host::start(&file(2, ""));
    let before = host.workers();
    assert_eq!(before.len(), 2);
    assert!(
        host.says(&["pool", "list"])
            .starts_with("p: running\n  0  running, process ")
    );
    host.says(&[
        "invoke",
        "p",
        r#"{"method":"complain","params":{"text":"ouch"}}"#,
    ]);
    eventually("the log has it", || {
        host.says(&["pool", "logs", "p"])
            .contains("ouch")
            .then_some(())
    });
    host.says(&["pool", "restart", "p"]);
    eventually("both are replaced", || {
        let now = host.workers();
        (now.len() == 2 && now.iter().all(|pid| !before.contains(pid))).then_some(())
    });
    assert_eq!(host.http("POST", "/v1/pools/p/drain", "").0, 200);
    let (_, list) = host.http("GET", "/v1/pools", "");
    assert_eq!(
        serde_json::from_str::<Value>(&list).unwrap()["pools"][0]["state"],
        "drained"
    );
    let refused = host.run(&["invoke", "p", r#"{"method":"m"}"#]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("agentbus pool restart p"));
    assert_eq!(host.http("POST", "/v1/pools/p/restart", "").0, 200);
    assert_eq!(host.says(&["invoke", "p", r#"{"method":"m"}"#]), "ok");
    assert_eq!(host.http("POST", "/v1/pools/q/restart", "").0, 400);
    let figures = host.http("GET", "/metrics", "").1;
    for figure in [
        r#"agentbus_pool_up{pool="p"} 1"#,
        r#"agentbus_pool_worker_state{pool="p",instance="0",state="running"} 1"#,
        r#"agentbus_pool_latency_seconds_count{pool="p",instance="#,
        r#"agentbus_pool_messages_total{pool="p",instance="1",direction="in"}"#,
    ] {
        assert!(figures.contains(figure), "{figure} is not in\n{figures}");
    }
    let workers = host.workers();
    let pid = host.serving.process.0.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    let ended = eventually("the bus ends", || {
        host.serving.process.0.try_wait().unwrap()
    });
    assert_eq!(ended.code(), Some(0));
    let gone = |pid: &u64| !std::path::Path::new(&format!("/proc/{pid}")).exists();
    eventually("no worker is left", || {
        workers.iter().all(gone).then_some(())
    });
}

#[test]
fn pools_of_a_file_that_nobody_named_are_not_started() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("agentbus.toml"), file(1, "")).unwrap();
    let output = agentbus(&dir)
        .args(["serve", "--listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(
        said.contains("`pools`") && said.contains("--config agentbus.toml"),
        "{said}"
    );
}
