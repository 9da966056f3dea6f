//! How a bus and what was begun at it start and end.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::bus::{Background, Bus, PATIENCE, eventually, queue, signal, terminate};
use crate::serving::{SERVE, Serving, agentbus};

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
        if begun.elapsed() > PATIENCE {
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
