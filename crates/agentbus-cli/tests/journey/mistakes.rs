//! Mistakes and refusals: each has its exit code and says what to do next.

use std::path::Path;

use serde_json::Value;

use crate::bus::Bus;
use crate::serving::agentbus;

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
    for asking in [
        &["durable", "remove", "x"][..],
        &["attach"],
        &["decisions", "list"],
        &["dead-letters"],
        &["thread", "list"],
        &["post", "x", "y"],
        &["wait", "x"],
        &["search", "x"],
        &["targets"],
        &["agents"],
    ] {
        check(&[asking, &alone].concat(), 2, "name the bus with --url");
    }
    let with_variable = bus
        .command(&["targets"])
        .env("AGENTBUS_TRANSPORT", "memory://")
        .output();
    assert!(with_variable.unwrap().status.success());
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
