//! Another user of the machine who was first to open the bus's port.
//!
//! To be somebody else takes the rights of root; without them the test says so and ends.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

const NOBODY: u32 = 65_534;

/// What a stranger runs: a listener that would print whatever it is sent.
const LISTENER: &str = r#"
import socket
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen()
print(s.getsockname()[1], flush=True)
s.settimeout(120)
try:
    c, _ = s.accept(); print(c.recv(65536).decode(errors="replace"), flush=True)
except OSError: pass
"#;

#[test]
fn a_stranger_on_the_port_is_not_shown_the_token() {
    let listener = Command::new("/usr/bin/python3")
        .args(["-c", LISTENER])
        .uid(NOBODY)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut listener) = listener else {
        writeln!(
            std::io::stderr(),
            "skipped: needs root and /usr/bin/python3"
        )
        .unwrap();
        return;
    };
    let mut said = BufReader::new(listener.stdout.take().unwrap());
    let mut port = String::new();
    if said.read_line(&mut port).unwrap() == 0 {
        writeln!(
            std::io::stderr(),
            "skipped: python3 cannot be run by others"
        )
        .unwrap();
        listener.wait().unwrap();
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let token = data.path().join("token");
    std::fs::write(&token, "a-secret-of-this-machine-0123456789abcdef\n").unwrap();
    std::fs::set_permissions(&token, PermissionsExt::from_mode(0o600)).unwrap();

    let refused = Command::new(env!("CARGO_BIN_EXE_agentbus"))
        .env("AGENTBUS_URL", format!("http://127.0.0.1:{}", port.trim()))
        .env("AGENTBUS_DATA_DIR", data.path())
        .env_remove("AGENTBUS_TOKEN")
        .args(["pub", "order.paid", "1"])
        .output()
        .unwrap();
    listener.kill().unwrap();
    listener.wait().unwrap();

    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(error.contains("another user"), "{error}");
    assert_eq!(refused.status.code(), Some(5), "{error}");
    let mut heard = String::new();
    said.read_line(&mut heard).unwrap();
    assert_eq!(heard, "", "the stranger heard something");
}
