//! Journeys of the README, word for word.

use std::path::Path;
use std::process::Command;

/// The first block of this kind behind a heading of the README.
pub(crate) fn block(heading: &str, kind: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, journey) = text.split_once(&format!("**{heading}**")).unwrap();
    let (_, rest) = journey.split_once(&format!("```{kind}\n")).unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

/// Takes a transcript apart into commands and what they print.
pub(crate) fn steps(transcript: &str) -> Vec<(String, String)> {
    let mut steps: Vec<(String, String)> = Vec::new();
    for line in transcript.lines() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push((command.to_owned(), String::new())),
            (None, Some((_, output))) => *output += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    steps
}

/// A shell that runs a command of the README in `dir`, with these programs, against the bus at
/// `url` whose data is in `dir/data`.
pub(crate) fn shell(command: &str, dir: &Path, url: &str, programs: &[&Path]) -> Command {
    let agentbus = Path::new(env!("CARGO_BIN_EXE_agentbus")).parent().unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let mut places = vec![agentbus.to_owned()];
    places.extend(programs.iter().map(|place| (*place).to_owned()));
    places.extend(std::env::split_paths(&path));
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &command.replace("http://127.0.0.1:39765", url)])
        .env("PATH", std::env::join_paths(places).unwrap())
        .env("AGENTBUS_DATA_DIR", dir.join("data"))
        .env("AGENTBUS_URL", url)
        .env_remove("AGENTBUS_TOKEN")
        .current_dir(dir);
    shell
}

/// Runs a transcript step by step; each must print what it shows.
pub(crate) fn follow(transcript: &str, run: impl Fn(&str) -> Command) {
    for (command, wanted) in steps(transcript) {
        let output = run(&command).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {said}{error}");
        // A shell adds no line end to what curl prints.
        assert_eq!(said.trim_end(), wanted.trim_end(), "{command}: {error}");
    }
}
