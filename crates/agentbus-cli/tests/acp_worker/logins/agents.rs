//! Agents that log people in themselves, the passphrase, the keychain, and the set-up.

use std::os::unix::process::CommandExt;
use std::process::Stdio;

use super::*;
use crate::serving::Running;

/// Runs the command in a terminal, with these words typed into it.
fn in_terminal(
    home: &Home,
    words: &str,
    typed: &str,
    variables: &[(&str, &str)],
) -> (Option<i32>, String) {
    let command = format!(
        "'{PROGRAM}' worker registry --registry index.json --providers providers.json --data-dir registry {words}"
    );
    let mut child = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .current_dir(home.directory.path())
        .env("HEADLESS", "1")
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(typed.as_bytes()).unwrap();
    let mut said = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    drop(stdin);
    (child.wait().unwrap().code(), said)
}

#[test]
fn an_agent_that_logs_people_in_itself_is_asked_to() {
    let home = Home::new();
    let output = home.run(&["--login", "own"]);
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    assert_eq!(lines(&home.path("logged-in")), ["agent own"]);
    let output = home.run(&["--login", "own", "--method", "nothing"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(
        words(&output).contains("it has no method nothing; there is: own"),
        "{}",
        words(&output)
    );
}

#[test]
fn so_many_methods_of_an_agent_are_looked_at_and_no_more() {
    let home = Home::new();
    let output = home.run(&["--login", "many", "--method", "m48"]);
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    assert_eq!(lines(&home.path("logged-in")), ["agent m48"]);
    // The first is none: nobody calls a method by so long a name.
    let output = home.run(&["--login", "many", "--method", "m49"]);
    assert_eq!(output.status.code(), Some(5));
    let said = words(&output);
    assert!(said.contains("no method m49; there is: m0, m1,"), "{said}");
    assert!(said.contains("m48") && !said.contains("xxx"), "{said}");
}

#[test]
fn an_agent_with_a_login_in_a_terminal_gets_one() {
    let home = Home::new();
    let (done, said) = in_terminal(&home, "--login terminal", "secret\n", &[]);
    assert_eq!(done, Some(0), "{said}");
    assert_eq!(lines(&home.path("logged-in")), ["terminal yes secret"]);
    let (done, said) = in_terminal(
        &home,
        "--login own --method tui",
        "again\n",
        &[("TUI_EXIT", "3")],
    );
    assert_eq!(done, Some(5), "{said}");
    assert!(said.contains("was not logged in: exit code 3"), "{said}");
    // The agent does not even name it where there is none.
    let output = home.run(&["--login", "terminal"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(
        words(&output).contains("no login that can be done here"),
        "{}",
        words(&output)
    );
}

#[test]
fn the_setup_shows_what_there_is_and_logs_in_to_what_is_chosen() {
    let home = Home::new();
    let (done, said) = in_terminal(&home, "--setup", "99\n6\n\n", &[]);
    assert_eq!(done, Some(0), "{said}");
    assert!(
        said.contains("1  other (provider): nobody is logged in"),
        "{said}"
    );
    assert!(said.contains("There is no such number."), "{said}");
    assert!(said.contains("Logged in at own."), "{said}");
    assert_eq!(lines(&home.path("logged-in")), ["agent own"]);
}

#[test]
fn a_passphrase_keeps_the_tokens_and_another_one_does_not_open_them() {
    let home = Home::new();
    let status = |words: &str| {
        let mut command = home.command(&["--auth-status"]);
        command
            .env("AGENTBUS_REGISTRY_PASSPHRASE", words)
            .output()
            .unwrap()
    };
    let mut login = home.command(&["--login", "work"]);
    login.env("AGENTBUS_REGISTRY_PASSPHRASE", "correct horse");
    let mut login = login.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(login.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(follow(line.trim().rsplit(' ').next().unwrap()).0, 200);
    assert!(login.wait().unwrap().success());
    assert!(!home.path("registry/auth/key").exists());
    assert!(words(&status("correct horse")).contains("work (provider): logged in"));
    let wrong = status("wrong horse");
    assert_eq!(wrong.status.code(), Some(5));
    assert!(
        words(&wrong).contains("the key is another one"),
        "{}",
        words(&wrong)
    );
}

/// A keychain of the test's own, in a session of its own; nobody else's is touched.
struct Keychain {
    session: Running,
    address: String,
}

impl Keychain {
    /// None where the system has no keychain to run.
    fn start(home: &Home) -> Option<Self> {
        let there = |program: &str| Command::new(program).arg("--version").output().is_ok();
        if !there("dbus-run-session") || !there("gnome-keyring-daemon") {
            println!("SKIPPED: no keychain can be run here; install gnome-keyring and dbus");
            return None;
        }
        let script = "printf words | gnome-keyring-daemon --unlock --components=secrets >&2; \
                      echo $DBUS_SESSION_BUS_ADDRESS; exec sleep 600";
        let mut session = Command::new("dbus-run-session");
        let session = session.args(["--", "sh", "-c", script]);
        let session = session
            .env("HOME", home.directory.path())
            .stdin(Stdio::null());
        let spawned = session.stdout(Stdio::piped()).process_group(0).spawn();
        let mut session = Running(spawned.unwrap());
        let mut address = String::new();
        let stdout = session.0.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut address).unwrap();
        Some(Self {
            session,
            address: address.trim().to_owned(),
        })
    }
}

impl Drop for Keychain {
    fn drop(&mut self) {
        // The daemon is a child of the session, and would outlive it.
        let group = format!("-{}", self.session.0.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
    }
}

#[test]
fn the_keychain_of_the_system_keeps_the_key() {
    let home = Home::new();
    let Some(keychain) = Keychain::start(&home) else {
        return;
    };
    let kept = |words: &[&str]| {
        let mut command = home.command(&[&["--keychain"], words].concat());
        command.env("DBUS_SESSION_BUS_ADDRESS", &keychain.address);
        command
    };
    let (login, url) = Home::begun(kept(&["--login", "work"]));
    assert_eq!(follow(&url).0, 200);
    let (done, said) = login.end();
    assert_eq!(done, Some(0), "{said}");
    assert!(!home.path("registry/auth/key").exists());
    let said = words(&kept(&["--auth-status"]).output().unwrap());
    assert!(said.contains("work (provider): logged in"), "{said}");
    let mut launcher = Launcher::of(kept(&[]));
    assert_eq!(
        ask(&mut launcher, "locked")["result"]["authorization"],
        "Bearer access-1"
    );
    launcher.end();
    // The tokens are worth nothing without it.
    let said = words(&home.run(&["--auth-status"]));
    assert!(said.contains("its key is a keychain"), "{said}");
    drop(keychain);
    let output = home.run(&["--keychain", "--auth-status"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(words(&output).contains("--key-file"), "{}", words(&output));
}

#[test]
fn nobody_is_sent_to_log_in_where_no_key_can_be_kept() {
    let home = Home::new();
    let mut command = home.command(&["--keychain", "--login", "work"]);
    let nowhere = format!("unix:path={}", home.path("nowhere").display());
    let output = command.env("DBUS_SESSION_BUS_ADDRESS", nowhere).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(5));
    let said = words(&output);
    assert!(
        said.contains("unlock the keychain, or keep the key in a file"),
        "{said}"
    );
    assert!(!said.contains("http"), "{said}");
    assert_eq!(home.provider.desk().issued, 0);
}
