//! Programs as agents: what they are given, what becomes of what they say, and who ends them.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::bus::{Background, Bus, PATIENCE, eventually, signal};

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
    let next = || told.recv_timeout(PATIENCE).unwrap();
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
fn each_group_of_agents_is_asked() {
    let bus = Bus::start();
    let _agents = [("left", "right"), ("right", "left")].map(|(own, other)| {
        // It answers only when the other group has been asked too.
        let script = format!("touch {own}; until [ -e {other} ]; do sleep 0.01; done; echo both");
        let handle = ["handle", "job", "--queue", own, "--", "sh", "-c", &script];
        bus.background(&handle, "serving")
    });
    bus.says(&["invoke", "job"], "both");
    let targets = String::from_utf8(bus.run(&["targets"]).stdout).unwrap();
    for group in ["in the group left", "in the group right"] {
        assert!(targets.contains(group), "{targets}");
    }
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
