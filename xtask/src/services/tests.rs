//! Records of processes, and names of services.

use std::process::{Command, Stdio};

use super::choose;
use super::ended::last_words;
use super::process::{Record, start};

fn names(arguments: &[&str]) -> Result<Vec<&'static str>, String> {
    let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
    match choose(&arguments) {
        Ok(chosen) => Ok(chosen.iter().map(|service| service.name).collect()),
        Err(failure) => Err(failure.to_string()),
    }
}

#[test]
fn services_are_chosen_by_name_and_all_without() {
    assert_eq!(names(&["nats"]), Ok(vec!["nats"]));
    assert!(names(&[]).unwrap().len() >= 4);
    let unknown = names(&["nats", "nuts"]).unwrap_err();
    assert!(
        unknown.contains("nuts") && unknown.contains("redis"),
        "{unknown}"
    );
}

#[test]
fn a_recorded_process_is_found_again_and_ended() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("sleep");
    command.arg("600");
    let mut child = start(command, folder.path()).unwrap();
    Record::of(child.id(), 4222, "nats://x")
        .write(folder.path())
        .unwrap();
    // Another command, later.
    let record = Record::read(folder.path()).unwrap();
    assert_eq!((record.pid, record.port), (child.id(), 4222));
    assert!(record.is_alive());
    assert_eq!(record.stop(), Ok(true));
    assert!(!record.is_alive());
    assert_eq!(record.stop(), Ok(false));
    assert!(!child.wait().unwrap().success());
}

#[test]
fn a_service_that_ended_too_early_has_last_words() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(last_words("kafka", folder.path()), None, "it never ran");
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "seq 40; echo No space left on device >&2; exec sleep 600",
    ]);
    let mut child = start(command, folder.path()).unwrap();
    let record = Record::of(child.id(), 9092, "kafka://x");
    record.write(folder.path()).unwrap();
    assert_eq!(last_words("kafka", folder.path()), None, "it runs");
    let said = || std::fs::read_to_string(folder.path().join("log")).unwrap();
    while !said().contains("No space") {
        std::thread::yield_now();
    }
    assert_eq!(record.stop(), Ok(true));
    let words = last_words("kafka", folder.path()).unwrap();
    assert!(words.starts_with("kafka ended"), "{words}");
    assert!(words.ends_with("\n40\nNo space left on device"), "{words}");
    assert!(!words.contains("\n26\n"), "only the end is shown: {words}");
    child.wait().unwrap();
}

#[test]
fn a_process_that_took_over_the_number_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new("sleep")
        .arg("600")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let text = format!("{} 1 4222 nats://x\n", child.id());
    std::fs::write(folder.path().join("process"), text).unwrap();
    let record = Record::read(folder.path()).unwrap();
    assert!(!record.is_alive());
    assert_eq!(record.stop(), Ok(false));
    assert_eq!(child.try_wait().unwrap(), None, "it still runs");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_record_that_cannot_be_read_is_none() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(Record::read(folder.path()), None);
    std::fs::write(folder.path().join("process"), "what").unwrap();
    assert_eq!(Record::read(folder.path()), None);
}
