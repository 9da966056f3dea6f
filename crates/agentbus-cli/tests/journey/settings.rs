//! Flags, variables and the configuration file: what counts, and what is said of a wrong one.

use std::io::Write;
use std::net::TcpStream;

use crate::serving::{SERVE, Serving, agentbus};

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
fn pages_of_an_allowed_origin_may_call_and_others_may_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut serve = agentbus(dir.path());
    serve.args(SERVE).args(["--log", "warn"]);
    let bus = Serving::start(serve.args(["--allow-origin", "https://console.example"]));
    let (host, token) = (bus.address(), bus.token());
    for (origin, status) in [
        ("https://console.example", 200),
        ("http://console.example", 403),
        ("https://other.example", 403),
    ] {
        let mut asked = TcpStream::connect(host).unwrap();
        let request = format!(
            "GET /v1/targets HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n\
             Authorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        asked.write_all(request.as_bytes()).unwrap();
        let answer = std::io::read_to_string(asked).unwrap();
        let wanted = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&wanted), "{origin}: {answer}");
        // Without this header a browser keeps the answer from the page.
        let told = format!("access-control-allow-origin: {origin}\r\n");
        assert_eq!(answer.contains(&told), status == 200, "{origin}: {answer}");
    }
}
