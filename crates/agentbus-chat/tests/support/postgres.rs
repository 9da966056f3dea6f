//! A PostgreSQL server for tests: the one that a variable names, or one of the test's own.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};

/// Longest time that a server may take to answer.
const START: Duration = Duration::from_secs(60);

/// Where a server is that was started for all tests; `cargo xtask test` sets it.
const VARIABLE: &str = "AGENTBUS_POSTGRESQL_URL";

/// A running server with a data directory and a port of its own. Dropping it ends it.
pub(crate) struct Server {
    child: Child,
    url: String,
    /// Removed with the server.
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // At once, with the processes of its connections, which die with the first one.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    pub(crate) fn start() -> Self {
        let programs = programs();
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        give_away(folder.path());
        give_away(&data);
        let made = run_as(&programs.join("initdb"))
            .args([
                "--username",
                "postgres",
                "--auth",
                "trust",
                "--encoding",
                "UTF8",
            ])
            .args(["--locale", "C.UTF-8", "--no-sync", "--pgdata"])
            .arg(&data)
            .current_dir("/")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "initdb: {said}");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let mut command = run_as(&programs.join("postgres"));
        command.arg("-D").arg(&data);
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-k"]);
        command.arg(&data).current_dir("/");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = launch(command);
        let url = format!("postgresql://postgres@127.0.0.1:{port}/postgres");
        let begun = Instant::now();
        while Client::connect(&url, NoTls).is_err() {
            assert!(begun.elapsed() < START, "PostgreSQL does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self {
            child,
            url,
            _folder: folder,
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

/// Starts a process that ends with the tests, however they end. The system ties it to the thread
/// that starts it, so that thread stays.
fn launch(mut command: Command) -> Child {
    let (started, child) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        started.send(command.spawn().unwrap()).unwrap();
        loop {
            std::thread::park();
        }
    });
    child.recv().unwrap()
}

/// The folder of the newest version that is installed.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let folders = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    let mut folders: Vec<_> = folders.filter(|bin| bin.join("initdb").exists()).collect();
    folders.sort();
    folders.pop().unwrap_or_else(|| {
        panic!(
            "there is no PostgreSQL; run `cargo xtask services up postgresql`, which installs it, \
             or set {VARIABLE}"
        )
    })
}

/// PostgreSQL refuses to run as root, so it runs as the user that its package made.
fn run_as(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid",
        "postgres",
        "--regid",
        "postgres",
        "--clear-groups",
    ]);
    command.arg("--pdeathsig").arg("KILL").arg(program);
    command
}

/// Lets the server own a folder or a file of its own.
pub(crate) fn give_away(path: &Path) {
    if is_root() {
        let owned = Command::new("chown").arg("postgres").arg(path).status();
        assert!(owned.unwrap().success());
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// The URL of an empty schema of its own, on a server that all tests of this program share.
pub(crate) fn schema() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let url = shared();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("case_{}_{number}", std::process::id());
    let mut client = Client::connect(&url, NoTls).unwrap();
    client
        .batch_execute(&format!(
            "DROP SCHEMA IF EXISTS {name} CASCADE; CREATE SCHEMA {name}"
        ))
        .unwrap();
    format!("{url}?options=-csearch_path%3D{name}")
}

fn shared() -> String {
    static OWN: OnceLock<Mutex<Server>> = OnceLock::new();
    if let Ok(url) = std::env::var(VARIABLE) {
        return url;
    }
    let own = OWN.get_or_init(|| Mutex::new(Server::start()));
    own.lock().unwrap().url().to_owned()
}
