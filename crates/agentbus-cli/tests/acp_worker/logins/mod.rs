//! Logins for the agents of a registry, at a real provider.

mod agents;
mod attacks;
mod provider;
mod tokens;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use self::provider::Provider;
use crate::registry::{Launcher, binary};
use crate::script;
use crate::tap::PROGRAM;

/// A provider, and a directory with an index whose agents get its tokens.
struct Home {
    provider: Provider,
    directory: TempDir,
}

impl Home {
    fn new() -> Self {
        let provider = Provider::start();
        let directory = tempfile::tempdir().unwrap();
        let of = |name: &str| json!({ "issuer": provider.url, "clientId": "client", "scopes": ["read", "write"], "agents": [name] });
        let providers = json!({ "providers": { "work": of("free"), "other": of("nobody") } });
        let agent = |id: &str, words: &[&str]| {
            let mut args = vec![script("agent.py").display().to_string()];
            args.push(directory.path().display().to_string());
            args.extend(words.iter().map(ToString::to_string));
            let args: Vec<_> = args.iter().map(String::as_str).collect();
            binary(id, "python3", &args)
        };
        let mut locked = agent("locked", &[]);
        locked["authRequired"] = true.into();
        locked["authMethods"] = json!([{ "id": "o", "type": "oauth2", "providerId": "work" }]);
        let agents = json!([
            locked,
            agent("free", &[]),
            agent("many", &["--many"]),
            agent("own", &[]),
            agent("terminal", &["--terminal-only"])
        ]);
        let index = json!({ "version": "1", "agents": agents });
        let home = Self {
            provider,
            directory,
        };
        home.write("providers.json", &providers);
        home.write("index.json", &index);
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, value: &Value) {
        std::fs::write(self.path(name), value.to_string()).unwrap();
    }

    /// The command with nobody before a screen.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(["worker", "registry", "--registry", "index.json"])
            .args(["--providers", "providers.json", "--data-dir", "registry"])
            .args(words)
            .current_dir(self.directory.path())
            .env("HEADLESS", "1");
        command
    }

    /// The command with a browser.
    fn at_a_screen(&self, words: &[&str]) -> Command {
        let mut command = self.command(words);
        for away in ["HEADLESS", "CI", "SSH_TTY", "SSH_CONNECTION"] {
            command.env_remove(away);
        }
        command
            .env("BROWSER", script("logins/browser.py"))
            .env("BROWSED", self.path("browsed"));
        command
    }

    fn launcher(&self, words: &[&str]) -> Launcher {
        Launcher::of(self.command(words))
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Begins a login; returns it with the address that the person is told.
    fn begin(&self, words: &[&str]) -> (Login, String) {
        Self::begun(self.command(words))
    }

    fn begun(mut command: Command) -> (Login, String) {
        // A file, because nobody reads a pipe while the person is away.
        let stderr = tempfile::NamedTempFile::new().unwrap();
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(stderr.reopen().unwrap())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let url = line.trim().rsplit(' ').next().unwrap().to_owned();
        (
            Login {
                child,
                stdout,
                stderr,
            },
            url,
        )
    }

    /// Logs in, and means it.
    fn log_in(&self, name: &str) {
        let (login, url) = self.begin(&["--login", name]);
        assert_eq!(follow(&url).0, 200);
        let (done, said) = login.end();
        assert_eq!(done, Some(0), "{said}");
    }
}

/// A login that waits for its person.
struct Login {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
    stderr: tempfile::NamedTempFile,
}

impl Login {
    /// Waits for its end; returns the exit code and everything it said since.
    fn end(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.stdout.read_to_string(&mut said).unwrap();
        let done = self.child.wait().unwrap().code();
        self.stderr.read_to_string(&mut said).unwrap();
        (done, said)
    }
}

/// Gets an address as a browser does, without going where it leads; returns status, where it leads
/// and the text.
fn get(url: &str) -> (u16, Option<String>, String) {
    exchange(url, "GET", None)
}

fn exchange(url: &str, method: &str, form: Option<&str>) -> (u16, Option<String>, String) {
    let (host, path) = url
        .strip_prefix("http://")
        .unwrap()
        .split_once('/')
        .unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let form = form.unwrap_or_default();
    write!(
        stream,
        "{method} /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut leads = head
        .lines()
        .filter_map(|line| line.strip_prefix("location: "));
    (status, leads.next().map(str::to_owned), text.to_owned())
}

/// Goes where an address leads; returns what the last page says.
fn follow(url: &str) -> (u16, String) {
    let (_, leads, _) = get(url);
    let (status, _, text) = get(&leads.unwrap());
    (status, text)
}

/// Asks an agent what it got; returns its answer.
fn ask(launcher: &mut Launcher, agent: &str) -> Value {
    launcher.ask("q", agent, "_token", &json!({}))
}

fn words(output: &Output) -> String {
    let both = [output.stdout.clone(), output.stderr.clone()].concat();
    String::from_utf8(both).unwrap()
}

fn sealed(home: &Home) -> PathBuf {
    home.path("registry/auth/tokens.sealed")
}

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}
