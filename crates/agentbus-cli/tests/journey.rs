//! What the program does, with real processes. `first_lines.rs` types what the README shows.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

#[path = "support/serving.rs"]
mod serving;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use serving::{SERVE, Serving};

/// A bus of its own on a free port, ended with the test.
struct Bus {
    server: Serving,
    dir: tempfile::TempDir,
}

impl Bus {
    fn start() -> Self {
        Self::configured(tempfile::tempdir().unwrap(), "")
    }

    fn configured(dir: tempfile::TempDir, config: &str) -> Self {
        let file = dir.path().join("bus.toml");
        std::fs::write(&file, config).unwrap();
        let mut serve = agentbus(dir.path());
        serve
            .args(SERVE)
            .args(["--log", "warn", "--config"])
            .arg(file);
        let server = Serving::start(&mut serve);
        Self { server, dir }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = agentbus(self.dir.path());
        command.env("AGENTBUS_URL", &self.server.url).args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn says(&self, args: &[&str], want: &str) {
        let output = self.run(args);
        let said = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said.trim_end(), want, "{args:?}: {error}");
        assert!(output.status.success(), "{args:?}: {error}");
    }

    /// Starts a program that stays, and waits until it says that it is ready.
    fn background(&self, args: &[&str], ready: &str) -> Background {
        let mut child = self
            .command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains(ready) {
            line.clear();
            assert_ne!(
                stderr.read_line(&mut line).unwrap(),
                0,
                "{args:?} ended early"
            );
        }
        Background { child }
    }

    fn stop(mut self) -> i32 {
        terminate(&self.server.process.0);
        self.server.process.0.wait().unwrap().code().unwrap()
    }
}

struct Background {
    child: Child,
}

impl Background {
    fn output(mut self) -> String {
        let mut text = String::new();
        self.child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        text
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn agentbus(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentbus"));
    command
        .env_remove("AGENTBUS_TOKEN")
        .env("AGENTBUS_DATA_DIR", dir.join("data"))
        .current_dir(dir);
    command
}

fn terminate(child: &Child) {
    signal(child, "TERM");
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn a_program_becomes_an_agent() {
    let bus = Bus::start();
    let _agent = bus.background(&["handle", "wordcount", "--", "wc", "-w"], "serving");
    bus.says(&["invoke", "wordcount", "\"one two three\""], "3");
    let targets = String::from_utf8(bus.run(&["targets"]).stdout).unwrap();
    assert!(targets.starts_with("wordcount  wordcount-"), "{targets}");
    let json = bus.run(&["--json", "invoke", "wordcount", "\"one two\""]);
    let reply: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(
        (&reply["payload"], &reply["is_final"]),
        (&Value::from(2), &Value::from(true))
    );
}

#[test]
fn the_lines_of_a_program_become_frames() {
    let bus = Bus::start();
    let _agent = bus.background(
        &["handle", "--stream", "count", "--", "seq", "1", "5"],
        "serving",
    );
    bus.says(&["invoke", "--stream", "count"], "1\n2\n3\n4\n5");
    // Its last frame says nothing, so the others are the reply.
    bus.says(&["invoke", "count"], "1\n2\n3\n4\n5");
}

#[test]
fn an_empty_line_of_a_program_is_a_frame() {
    let bus = Bus::start();
    let script = "printf 'a\\n\\n  \\nnull\\nb\\n'";
    let blank = ["handle", "--stream", "blank", "--", "sh", "-c", script];
    let _agent = bus.background(&blank, "serving");
    bus.says(&["invoke", "--stream", "blank"], "a\n\n  \nb");
    let json = bus.run(&["--json", "invoke", "--stream", "blank"]);
    let said: Vec<Value> = String::from_utf8(json.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|frame| frame["event_type"] == "agent.response.delta")
        .map(|frame| frame["payload"].clone())
        .collect();
    let mut wanted = ["a", "", "  ", "null", "b"].map(Value::from);
    wanted[3] = Value::Null;
    assert_eq!(said, wanted);
}

#[test]
fn a_line_is_a_frame_before_the_next_one_is_written() {
    let bus = Bus::start();
    let go = bus.dir.path().join("go");
    let script = format!(
        "echo 1; until [ -e {} ]; do sleep 0.01; done; echo 2",
        go.display()
    );
    let slow = ["handle", "--stream", "slow", "--", "sh", "-c", &script];
    let _agent = bus.background(&slow, "serving");
    let mut call = bus.command(&["invoke", "--stream", "slow"]);
    let mut call = Background {
        child: call.stdout(Stdio::piped()).spawn().unwrap(),
    };
    let stdout = BufReader::new(call.child.stdout.take().unwrap());
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let lines = stdout.lines().map_while(Result::ok);
        lines.for_each(|line| drop(tell.send(line)));
    });
    let next = || told.recv_timeout(Duration::from_secs(30)).unwrap();
    // The program goes on only when its first line was read at the other end.
    assert_eq!(next(), "1");
    std::fs::write(go, "").unwrap();
    assert_eq!(next(), "2");
    assert!(call.child.wait().unwrap().success());
}

#[test]
fn a_failing_program_answers_with_its_last_words() {
    let bus = Bus::start();
    let script = [
        "handle",
        "bad",
        "--",
        "sh",
        "-c",
        "echo it is broken >&2; exit 7",
    ];
    let _agent = bus.background(&script, "serving");
    let output = bus.run(&["--json", "invoke", "bad"]);
    assert_eq!(output.status.code(), Some(8));
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["error"]["code"], "AGENT_UNAVAILABLE");
    assert!(
        error["error"]["message"]
            .as_str()
            .unwrap()
            .contains("it is broken"),
        "{error}"
    );
}

#[test]
fn a_program_that_says_too_much_is_told_what_helps_here() {
    let bus = Bus::start();
    let program = ["--", "head", "-c", "5000000", "/dev/zero"];
    let handle = |words: &[&str]| bus.background(&[words, &program].concat(), "serving");
    let _handlers = [
        handle(&["handle", "loud"]),
        handle(&["handle", "long", "--stream"]),
    ];
    for (call, hint) in [
        (["invoke", "loud"].as_slice(), "with --stream"),
        (&["invoke", "long", "--stream"], "shorter lines"),
    ] {
        let output = bus.run(call);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(8), "{said}");
        // `handle` has no option for that.
        assert!(said.contains(hint) && !said.contains("raise"), "{said}");
    }
}

#[test]
fn a_token_that_cannot_be_read_is_not_called_missing() {
    let dir = tempfile::tempdir().unwrap();
    let said = |data: &Path| {
        let mut token = agentbus(dir.path());
        let output = token.env("AGENTBUS_DATA_DIR", data).arg("token").output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(5), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let missing = said(&dir.path().join("data"));
    assert!(missing.contains("there is no token yet"), "{missing}");
    // A file where the directory should be, which stops root too.
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let unread = said(&file);
    assert!(
        unread.contains("cannot be read: Not a directory"),
        "{unread}"
    );
    assert!(!unread.contains("no token yet"), "{unread}");
}

#[test]
fn the_token_does_not_reach_the_program() {
    let bus = Bus::start();
    let mut token = String::from_utf8(bus.run(&["token"]).stdout).unwrap();
    token.truncate(token.trim_end().len());
    let mut agent = bus.command(&["handle", "env", "--", "env"]);
    let mut agent = agent
        .env("AGENTBUS_TOKEN", &token)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(agent.stderr.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let said = bus.run(&["invoke", "env"]).stdout;
    let said = String::from_utf8_lossy(&said);
    assert!(
        said.contains("AGENTBUS_TARGET=env") && !said.contains(&token),
        "{said}"
    );
    agent.kill().unwrap();
    agent.wait().unwrap();
}

#[test]
fn an_event_reaches_a_subscriber_in_another_process() {
    let bus = Bus::start();
    let listener = bus.background(&["sub", "order.>", "--count", "1"], "listening");
    assert!(
        bus.run(&["pub", "order.paid", "{\"n\":1}", "--confirm"])
            .status
            .success()
    );
    assert_eq!(listener.output(), "order.paid {\"n\":1}\n");
}

#[test]
fn mistakes_have_their_exit_code_and_a_next_step() {
    let bus = Bus::start();
    let check = |args: &[&str], code: i32, hint: &str| {
        let output = bus.run(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(hint), "{args:?}: {said}");
    };
    check(&["invoke", "nobody"], 6, "agentbus handle nobody");
    check(&["invoke", "x", "{bad"], 2, "not valid JSON");
    check(&["pub", "a..b", "1"], 2, "empty token");
    check(&["sub", "a.>.b"], 2, "last token");
    check(&["handle", "x", "--"], 2, "required");
    check(&["invoke", "nobody"], 6, "`agentbus targets`");
    let alone = ["--transport", "memory://"];
    check(
        &[&alone[..], &["handle", "x", "--", "cat"]].concat(),
        2,
        "agentbus serve",
    );
    check(&[&alone[..], &["sub", ">"]].concat(), 2, "agentbus serve");
    check(
        &["pub", "a.b", "1", "--confirm"],
        6,
        "nobody subscribes to `a.b`",
    );
    check(
        &["sub", ">", "--durable", "x"],
        2,
        "--transport sqlite://PATH",
    );
    let _stuck = bus.background(&["handle", "stuck", "--", "sleep", "1000"], "serving");
    check(
        &["invoke", "stuck", "--timeout", "0.1"],
        7,
        "no reply from `stuck` within 0.1 s",
    );
    let silent = ["invoke", "--stream", "stuck", "--timeout", "0.1"];
    check(&silent, 7, "stuck");
    // Over before anybody could have taken it.
    let late = ["pub", "order.paid", "1", "--ttl", "0"];
    check(&late, 10, "had expired before it was published");
    check(
        &["--url", "http://127.0.0.1:1", "invoke", "x"],
        4,
        "agentbus serve",
    );
    check(&["serve", "--listen", "0.0.0.0:0"], 3, "--allow-host");
    check(&["serve", "--listen", "127.0.0.1:0"], 9, "--data-dir");
    let file = ["serve", "--data-dir", "bus.toml"];
    check(&file, 3, "bus.toml is no directory");
    let open = ["serve", "--auth", "off", "--allow-host", "a.example"];
    check(&open, 3, "drop --auth off");
    let refused = bus
        .command(&["invoke", "x"])
        .env("AGENTBUS_TOKEN", "wrong")
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(5));
    std::fs::write(bus.dir.path().join("agentbus.toml"), "lisen = 1\n").unwrap();
    check(&["serve"], 3, "did you mean `listen`?");
    std::fs::write(bus.dir.path().join("agentbus.toml"), "auth = \"off\"\n").unwrap();
    check(&["serve"], 3, "--config agentbus.toml");
}

#[test]
fn a_wrong_command_line_is_told_in_json_where_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let told = |args: &[&str]| {
        let output = agentbus(dir.path()).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    for (args, says) in [
        (["--json", "frobnicate"].as_slice(), "'frobnicate'"),
        (&["--json"], "subcommand"),
        (&["--json", "pool"], "command"),
        (&["pub", "--json"], "<EVENT_TYPE>"),
        (&["invoke", "x", "--nope", "--json"], "'--nope'"),
        (&["sub", ">", "--count", "many", "--json"], "'many'"),
        (
            &["handle", "--json", "x", "--nope", "--", "cat"],
            "'--nope'",
        ),
    ] {
        let said = told(args);
        let error: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(error["error"]["exit"], 2, "{said}");
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains(says), "{args:?}: {said}");
        assert!(message.contains("`--help`"), "{args:?}: {said}");
    }
    // What follows `--` is for the program.
    let plain = told(&["handle", "x", "--nope", "--", "cat", "--json"]);
    assert!(plain.starts_with("error: "), "{plain}");
    let help = agentbus(dir.path()).args(["--json", "--help"]).output();
    assert!(help.unwrap().status.success());
}

#[test]
fn a_wrong_variable_is_blamed_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let told = |args: &[&str]| {
        let mut serve = agentbus(dir.path());
        serve.args(["serve", "--listen", "127.0.0.1:0"]).args(args);
        let output = serve.env("AGENTBUS_DRAIN_S", "soon").output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let variable = told(&[]);
    assert!(
        variable.contains("'soon' for 'AGENTBUS_DRAIN_S'"),
        "{variable}"
    );
    let in_json = told(&["--json"]);
    assert!(
        in_json.contains("'soon' for 'AGENTBUS_DRAIN_S'"),
        "{in_json}"
    );
    let flag = told(&["--drain", "later"]);
    assert!(flag.contains("'later' for '--drain <SECONDS>'"), "{flag}");
}

#[test]
fn a_wrong_configuration_has_its_exit_code_and_names_the_entry() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bus.toml");
    let check = |text: &str, args: &[&str], says: &str| {
        std::fs::write(&file, text).unwrap();
        let mut serve = agentbus(dir.path());
        serve.args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--log",
            "warn",
            "--config",
        ]);
        let output = serve.arg(&file).args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{text}: {said}");
        assert!(said.contains(says), "{text}: {said}");
    };
    check("transport = \"foo\"\n", &[], "transport: `foo`");
    check(
        "transport = \"memory://x\"\n",
        &[],
        "transport: `memory://x`",
    );
    let agent = "[[agents]]\nname = \"a\"\ncommand = [\"cat\"]\n";
    check(
        &format!("{agent}root = \"/no/such\"\n"),
        &[],
        "agents.a: root /no/such",
    );
    check(&format!("{agent}{agent}"), &[], "agents[0] and agents[1]");
    let pool = "[[pools]]\nid = \"b c\"\ncommand = \"cat\"\ninstances = 1\n";
    check(pool, &[], "pools[0] \"b c\"");
    check("", &["--chat-store", "foo"], "conversations in foo: ");
    let missing = "chat_store = \"sqlite:///no/such/chat.db\"\n";
    check(missing, &[], "/no/such/chat.db");
}

#[test]
fn a_caller_that_is_killed_cancels_the_program() {
    let bus = Bus::start();
    let file = bus.dir.path().join("pid");
    let script = format!(
        "echo $$ > {f}.new; mv {f}.new {f}; exec sleep 1000",
        f = file.display()
    );
    let _agent = bus.background(&["handle", "stuck", "--", "sh", "-c", &script], "serving");
    let mut caller = bus.command(&["invoke", "stuck"]).spawn().unwrap();
    eventually(|| file.exists());
    let pid = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    let lives = || Path::new("/proc").join(&pid).exists();
    assert!(lives());
    caller.kill().unwrap();
    caller.wait().unwrap();
    eventually(|| !lives());
}

#[test]
fn a_call_that_is_stopped_has_no_success() {
    let bus = Bus::start();
    let script = "touch started-$AGENTBUS_SESSION_ID; exec sleep 1000";
    let _agent = bus.background(&["handle", "stuck", "--", "sh", "-c", script], "serving");
    let cases = [
        ("single-int", &[][..], "INT", 130),
        ("single-term", &[], "TERM", 143),
        ("stream-int", &["--stream"], "INT", 130),
        ("stream-term", &["--stream"], "TERM", 143),
    ];
    for (session, how, name, code) in cases {
        let mut call = bus.command(&["invoke", "stuck", "--session", session]);
        let caller = call.args(how).stderr(Stdio::piped()).spawn().unwrap();
        let started = bus.dir.path().join(format!("started-{session}"));
        eventually(|| started.exists());
        signal(&caller, name);
        let output = caller.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{session}: {said}");
        assert!(said.contains("before the reply"), "{session}: {said}");
    }
}

#[test]
fn refusals_of_the_bus_are_not_errors_of_an_agent() {
    let dir = tempfile::tempdir().unwrap();
    let schema = dir.path().join("schema.json");
    std::fs::write(&schema, r#"{"type":"object"}"#).unwrap();
    let log = format!("sqlite://{}", dir.path().join("bus.db").display());
    let bus = Bus::configured(
        dir,
        &format!(
            "transport = {log:?}\n[[schemas]]\nevent = \"order.paid\"\nfile = {schema:?}\n\
             [[pools]]\nid = \"echo\"\ncommand = {:?}\nargs = [\"worker\", \"echo\"]\ninstances = 1\n",
            env!("CARGO_BIN_EXE_agentbus")
        ),
    );
    let _holder = bus.background(&["sub", "order.>", "--durable", "billing"], "listening");
    let check = |args: &[&str], hint: &str| {
        let output = bus.run(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(hint), "{args:?}: {said}");
    };
    check(&["pub", "order.paid", "1"], "does not match its schema");
    check(&["sub", "other.>", "--durable", "billing"], "`billing`");
    check(&["pool", "logs", "nope"], "no pool `nope`; there is echo");
}

#[test]
fn a_start_says_how_the_bus_is_reached_from_another_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = agentbus(dir.path())
        .args(["serve", "--listen", "127.0.0.1:0", "--log", "warn"])
        .args(["--data-dir", "my data"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    let first = next();
    let url = first.rsplit(' ').next().unwrap().to_owned();
    let mut tried = [(); 4].map(|()| next()).into_iter().skip(2);
    let line = tried.next().unwrap();
    let data = dir.path().canonicalize().unwrap().join("my data");
    let command = format!(
        "AGENTBUS_DATA_DIR='{}' agentbus --url {url}",
        data.display()
    );
    assert_eq!(
        line,
        format!("  try      {command} handle wordcount -- wc -w")
    );
    assert!(
        tried
            .next()
            .unwrap()
            .contains(&format!("{command} invoke wordcount"))
    );
    terminate(&server);
    assert_eq!(server.wait().unwrap().code(), Some(0));
}

#[test]
fn a_bus_ends_whose_standard_error_nobody_reads() {
    let dir = tempfile::tempdir().unwrap();
    let (_unread, full) = std::io::pipe().unwrap();
    let mut fill = Command::new("head");
    let fill = fill.args(["-c", "65536", "/dev/zero"]);
    assert!(
        fill.stdout(full.try_clone().unwrap())
            .status()
            .unwrap()
            .success()
    );
    let mut server = agentbus(dir.path())
        .args(["serve", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(full)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("listens at"));
    // It says that it stops, and what it did, on a pipe that takes nothing any more.
    terminate(&server);
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = server.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > Duration::from_secs(30) {
            server.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_port_in_use_leaves_no_data_directory_behind() {
    let bus = Bus::start();
    let address = bus.server.url.strip_prefix("http://").unwrap();
    let serve = ["serve", "--listen", address, "--data-dir", "another"];
    let output = bus.run(&serve);
    assert_eq!(output.status.code(), Some(9), "{output:?}");
    assert!(!bus.dir.path().join("another").exists());
}

#[test]
fn a_start_that_hangs_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let script = format!(
        "echo $$ > {f}.new; mv {f}.new {f}; exec sleep 1000",
        f = file.display()
    );
    let config = format!(
        "[[pools]]\nid = \"mute\"\ncommand = \"sh\"\nargs = [\"-c\", {script:?}]\ninstances = 1\n\
         handshake.method = \"initialize\"\nhandshake.timeout_sec = 600\n"
    );
    std::fs::write(dir.path().join("bus.toml"), config).unwrap();
    let mut serve = agentbus(dir.path());
    serve.args(["serve", "--listen", "127.0.0.1:0", "--config", "bus.toml"]);
    let mut server = serve.stderr(Stdio::null()).spawn().unwrap();
    eventually(|| file.exists());
    signal(&server, "INT");
    assert_eq!(server.wait().unwrap().code(), Some(130));
    let pid = std::fs::read_to_string(&file).unwrap();
    eventually(|| !Path::new("/proc").join(pid.trim()).exists());
}

#[test]
fn a_second_signal_does_not_wait_for_what_was_accepted() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("bus.toml"), "drain_s = 6000\n").unwrap();
    let mut serve = agentbus(dir.path());
    serve.args(SERVE).args(["--config", "bus.toml"]);
    let server = Serving::start(serve.stderr(Stdio::piped()));
    let bus = Bus { server, dir };
    let mut agent = bus.command(&["handle", "stuck", "--", "sleep", "1000"]);
    let mut agent = Background {
        child: agent.stderr(Stdio::null()).spawn().unwrap(),
    };
    eventually(|| bus.run(&["targets"]).stdout.starts_with(b"stuck "));
    let mut caller = bus
        .command(&["invoke", "stuck", "--timeout", "6000"])
        .spawn()
        .unwrap();
    eventually(|| queue(&bus, "stuck").0 == 1);
    terminate(&bus.server.process.0);
    // It waits for the call, and takes no connection meanwhile.
    eventually(|| bus.run(&["targets"]).status.code() == Some(4));
    let mut bus = bus;
    assert_eq!(bus.server.process.0.try_wait().unwrap(), None);
    terminate(&bus.server.process.0);
    assert_eq!(bus.server.process.0.wait().unwrap().code(), Some(143));
    assert_ne!(caller.wait().unwrap().code(), Some(0));
    agent.child.kill().unwrap();
}

#[test]
fn the_configuration_that_is_printed_is_the_one_that_counts() {
    let dir = tempfile::tempdir().unwrap();
    let pool = "[[pools]]\nid = \"p\"\ncommand = \"cat\"\n";
    std::fs::write(dir.path().join("bus.toml"), format!("drain_s = 3\n{pool}")).unwrap();
    let mut config = agentbus(dir.path());
    config.args(["config", "--config", "bus.toml", "--log", "debug"]);
    config
        .env("AGENTCHATBUS_RATE_LIMIT", "7")
        .env("AGENTBUS_LISTEN", "127.0.0.1:1");
    config.env("AGENTBUS_CHAT_STORE", "postgresql://ann:hunter2@db/bus");
    let output = config.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("# bus.toml, "), "{said}");
    assert!(said.contains("\n# chat_database is not set: "), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    for line in [
        "drain_s = 3",
        "chat_rate_limit = 7",
        "listen = \"127.0.0.1:1\"",
        "log = \"debug\"",
        "chat_store = \"postgresql://…@db/bus\"",
    ] {
        assert!(said.lines().any(|one| one == line), "{line}: {said}");
    }
    // It is a file as it stands.
    std::fs::write(dir.path().join("printed.toml"), &said).unwrap();
    let mut again = agentbus(dir.path());
    again.args(["config", "--config", "printed.toml"]);
    assert!(again.output().unwrap().status.success());
}

#[test]
fn a_completion_script_may_be_read_in_part() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = agentbus(dir.path())
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Longer than the pipe holds, so that it is being written when the reader goes.
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    stdout.read_line(&mut first).unwrap();
    assert!(first.contains("_agentbus"), "{first}");
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn an_agent_that_is_killed_is_not_waited_for() {
    let bus = Bus::start();
    let file = bus.dir.path().join("started");
    let script = format!("touch {}; exec sleep 1000", file.display());
    let mut agent = bus.background(&["handle", "stuck", "--", "sh", "-c", &script], "serving");
    let caller = bus
        .command(&["invoke", "stuck", "--timeout", "600"])
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    eventually(|| file.exists());
    agent.child.kill().unwrap();
    let output = caller.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("ended before it answered"), "{said}");
    assert_ne!(output.status.code(), Some(0));
}

#[test]
fn a_terminated_bus_exits_zero_and_its_agents_notice() {
    let bus = Bus::start();
    let mut agent = bus.background(&["handle", "x", "--", "cat"], "serving");
    assert_eq!(bus.stop(), 0);
    assert_eq!(agent.child.wait().unwrap().code(), Some(4));
}

#[test]
fn no_accepted_request_is_lost_when_the_bus_is_terminated() {
    let bus = Bus::configured(tempfile::tempdir().unwrap(), "drain_s = 60\n");
    let go = bus.dir.path().join("go");
    let script = format!("until [ -e {} ]; do sleep 0.01; done; cat", go.display());
    let two = ["handle", "slow", "--concurrency", "2", "--"];
    let _agent = bus.background(&[&two[..], &["sh", "-c", &script]].concat(), "serving");
    let callers: Vec<_> = (0..6)
        .map(|n| {
            let mut call = bus.command(&["invoke", "slow", &n.to_string()]);
            call.stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    // All are accepted: two are being worked on, four wait for their turn.
    eventually(|| queue(&bus, "slow") == (2, 4));
    terminate(&bus.server.process.0);
    // It stops, and nobody else gets in, before any of them can be answered.
    eventually(|| bus.run(&["targets"]).status.code() == Some(4));
    std::fs::write(go, "").unwrap();
    for (n, caller) in callers.into_iter().enumerate() {
        let output = caller.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).trim(),
            n.to_string(),
            "{error}"
        );
    }
}

/// Asks the bus how many requests it has handed to a target's agents, and how many wait.
fn queue(bus: &Bus, target: &str) -> (u64, u64) {
    use std::io::Write;
    let token = String::from_utf8(bus.run(&["token"]).stdout).unwrap();
    let host = bus.server.url.strip_prefix("http://").unwrap();
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    let token = token.trim();
    write!(stream, "GET /v1/targets HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let found = body["targets"]
        .as_array()
        .unwrap()
        .iter()
        .find(|t| t["name"] == target);
    let figure = |of: &str| found.map_or(0, |target| target[of].as_u64().unwrap());
    (figure("delivered"), figure("waiting"))
}

fn eventually(condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "the condition did not come to hold"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}
