//! `agentbus init` in a home directory of its own.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::sdk::PROGRAM;

/// A home with these files.
fn home(files: &[(&str, &str)]) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let file = home.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    home
}

fn init(home: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.arg("init").args(arguments).env("HOME", home);
    command
        .env_remove("AGENTBUS_URL")
        .env_remove("AGENTBUS_DATA_DIR");
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn read(home: &Path, file: &str) -> String {
    std::fs::read_to_string(home.join(file)).unwrap()
}

const ZED: &str = "// my settings\n{\n  \"theme\": \"One\",\n  \"context_servers\": {},\n}\n";
const CODEX: &str = "model = \"x\" # mine\n";

#[test]
fn hosts_that_are_there_are_found_changed_and_restored() {
    let home = home(&[
        (".claude.json", "{\"numStartups\": 3}"),
        (".codex/config.toml", CODEX),
        (".cursor/extensions.json", "[]"),
        (".config/zed/settings.json", ZED),
    ]);
    let home = home.path();
    let looked = said(&init(home, &["--dry-run"]));
    assert!(looked.contains("+ [mcp_servers.agentbus]"), "{looked}");
    assert!(!looked.contains("Gemini"), "{looked}");
    assert_eq!(read(home, ".codex/config.toml"), CODEX);
    said(&init(home, &["--yes"]));
    let claude: Value = serde_json::from_str(&read(home, ".claude.json")).unwrap();
    assert_eq!(claude["numStartups"], 3);
    assert_eq!(claude["mcpServers"]["agentbus"]["command"], PROGRAM);
    let cursor: Value = serde_json::from_str(&read(home, ".cursor/mcp.json")).unwrap();
    assert_eq!(cursor["mcpServers"]["agentbus"]["args"][0], "mcp");
    assert!(read(home, ".config/zed/settings.json").starts_with("// my settings\n"));
    let again = said(&init(home, &["--yes"]));
    assert_eq!(again.matches("is set up already").count(), 4, "{again}");
    std::fs::write(home.join(".claude.json"), claude.to_string()).unwrap();
    let undone = said(&init(home, &["--undo", "--yes"]));
    assert!(
        undone.contains("Claude Code: has changed since"),
        "{undone}"
    );
    assert_eq!(read(home, ".codex/config.toml"), CODEX);
    assert_eq!(read(home, ".config/zed/settings.json"), ZED);
    assert!(!home.join(".cursor/mcp.json").exists());
}

#[test]
fn the_bus_that_was_named_is_entered() {
    let home = home(&[
        (".codex/config.toml", CODEX),
        (".config/zed/settings.json", ZED),
    ]);
    let home = home.path();
    let url = "http://127.0.0.1:4321";
    let mut command = Command::new(PROGRAM);
    command
        .args(["init", "--yes", "--url", url])
        .env("HOME", home);
    said(
        &command
            .env("AGENTBUS_DATA_DIR", "data")
            .current_dir(home)
            .output()
            .unwrap(),
    );
    let data = home.canonicalize().unwrap().join("data");
    let zed = read(home, ".config/zed/settings.json");
    assert!(zed.contains(&format!("\"AGENTBUS_URL\": {url:?}")), "{zed}");
    let codex: toml::Table = read(home, ".codex/config.toml").parse().unwrap();
    let env = &codex["mcp_servers"]["agentbus"]["env"];
    assert_eq!(env["AGENTBUS_URL"].as_str(), Some(url));
    assert_eq!(env["AGENTBUS_DATA_DIR"].as_str(), data.to_str());
    // Also where the variables are not set any more.
    said(&init(home, &["--undo", "--yes"]));
    assert_eq!(read(home, ".codex/config.toml"), CODEX);
    assert_eq!(read(home, ".config/zed/settings.json"), ZED);
}

#[test]
fn one_broken_file_does_not_stop_the_others() {
    let broken = "{ \"mcpServers\": ";
    let home = home(&[(".claude.json", broken), (".codex/config.toml", CODEX)]);
    let output = init(home.path(), &["--yes"]);
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("not set up: Claude Code"), "{said}");
    assert_eq!(read(home.path(), ".claude.json"), broken);
    assert!(read(home.path(), ".codex/config.toml").contains("[mcp_servers.agentbus]"));
}

#[test]
fn nobody_to_ask_is_an_error_and_nothing_is_written() {
    let home = home(&[(".codex/config.toml", CODEX)]);
    let output = init(home.path(), &[]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(read(home.path(), ".codex/config.toml"), CODEX);
}

#[test]
fn a_file_that_cannot_be_read_is_left_alone() {
    let home = home(&[(".gemini/settings.json", "{ \"mcpServers\": ")]);
    let output = init(home.path(), &["--yes"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(
        read(home.path(), ".gemini/settings.json"),
        "{ \"mcpServers\": "
    );
    assert_eq!(init(home.path(), &["emacs"]).status.code(), Some(2));
}

#[test]
fn every_host_gets_an_entry_of_its_own_form() {
    const VSCODE: &str = ".config/Code/User/mcp.json";
    const GEMINI: &str = ".gemini/settings.json";
    let gemini = "{\n  // mine\n  \"theme\": \"x\",\n  \"mcpServers\": { \"other\": { \"command\": \"o\" } }\n}\n";
    let home = home(&[(GEMINI, gemini), (".config/Code/User/settings.json", "{}")]);
    let home = home.path();
    let looked = said(&init(home, &["--dry-run"]));
    for name in ["Gemini CLI", "VS Code", "agentbus"] {
        assert!(looked.contains(name), "{looked}");
    }
    assert!(
        looked
            .lines()
            .any(|line| line.trim_start().starts_with('+')),
        "{looked}"
    );
    assert_eq!(read(home, GEMINI), gemini, "only looked");
    assert!(!home.join(VSCODE).exists(), "only looked");

    said(&init(home, &["vscode", "--yes"]));
    assert_eq!(read(home, GEMINI), gemini, "only the one that was named");
    let code: Value = serde_json::from_str(&read(home, VSCODE)).unwrap();
    let entry = &code["servers"]["agentbus"];
    assert_eq!(
        (&entry["type"], &entry["command"]),
        (&"stdio".into(), &PROGRAM.into())
    );
    said(&init(home, &["gemini", "--yes"]));
    let written = read(home, GEMINI);
    assert!(written.contains("// mine"), "{written}");
    let plain: Value = serde_json::from_str(&written.replace("// mine", "")).unwrap();
    assert_eq!(plain["mcpServers"]["other"]["command"], "o");
    assert_eq!(plain["mcpServers"]["agentbus"]["command"], PROGRAM);
    assert_eq!(plain["mcpServers"]["agentbus"]["args"][0], "mcp");

    said(&init(home, &["--undo", "--yes"]));
    assert_eq!(read(home, GEMINI), gemini);
    assert!(!home.join(VSCODE).exists(), "there was none");
}
