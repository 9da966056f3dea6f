//! A Kafka broker of a test's own, and buses of their own on a shared one.

#![allow(dead_code, reason = "each test program uses a part of it")]

#[path = "../../../agentbus-transport-redis/tests/support/amb.rs"]
pub(crate) mod amb;
#[path = "../../../agentbus-transport-redis/tests/support/messages.rs"]
pub(crate) mod messages;
#[path = "../../../agentbus-transport-redis/tests/support/ports.rs"]
mod ports;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use ports::free_port;

/// Longest time that a broker may take to answer.
const START: Duration = Duration::from_secs(180);

/// A bus that no other test knows, on a broker that all tests of a program share.
pub(crate) fn url() -> String {
    static BUSES: AtomicU64 = AtomicU64::new(0);
    let number = BUSES.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    // Processes come again with the same number; a broker may outlive them.
    let since = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
    format!("{}?namespace=test-{process}-{since}-{number}", shared())
}

/// The broker that `cargo xtask test` has started, or one for this program alone.
fn shared() -> &'static str {
    static SHARED: OnceLock<String> = OnceLock::new();
    SHARED.get_or_init(|| {
        std::env::var("AGENTBUS_KAFKA_URL").unwrap_or_else(|_| {
            let (sender, started) = mpsc::channel();
            // A broker goes with the thread that started it, so this one stays.
            std::thread::spawn(move || {
                let broker = Broker::start();
                sender.send(broker.url()).unwrap();
                loop {
                    std::thread::park();
                }
            });
            started.recv().unwrap()
        })
    })
}

/// A running broker with a data directory and ports of its own. Dropping it kills it.
pub(crate) struct Broker {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Broker {
    pub(crate) fn start() -> Self {
        let port = free_port();
        Self::start_at(port, port)
    }

    /// Starts one that tells its clients to come to another port, where something passes them on.
    pub(crate) fn start_behind(advertised: u16) -> Self {
        Self::start_at(free_port(), advertised)
    }

    fn start_at(port: u16, advertised: u16) -> Self {
        let controller = free_port();
        let folder = tempfile::tempdir().unwrap();
        let properties = properties([port, advertised, controller], &folder.path().join("log"));
        std::fs::write(folder.path().join("properties"), properties).unwrap();
        let mut format = java("-Xmx128m");
        format.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c"]);
        format.arg(folder.path().join("properties"));
        let formatted = format.output().unwrap();
        assert!(formatted.status.success(), "{formatted:?}");
        let child = launch(folder.path());
        let mut broker = Self {
            child,
            port,
            folder,
        };
        broker.wait();
        broker
    }

    /// Waits until the process that was started here answers at its port.
    fn wait(&mut self) {
        let begun = Instant::now();
        while !answers(self.port) {
            let log = self.folder.path().join("output");
            if self.child.try_wait().unwrap().is_some() {
                panic!("Kafka ended: {}", std::fs::read_to_string(log).unwrap());
            }
            assert!(begun.elapsed() < START, "Kafka does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("kafka://127.0.0.1:{}", self.port)
    }

    /// Kills it as a power cut would, as far as a process can tell.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same ports with the same data.
    pub(crate) fn restart(&mut self) {
        self.child = launch(self.folder.path());
        self.wait();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The name of the cluster; any will do.
const CLUSTER: &str = "YWdlbnRidXMtdGVzdHMtMQ";

fn properties([port, advertised, controller]: [u16; 3], data: &Path) -> String {
    let data = data.display();
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{advertised}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
log.index.size.max.bytes=65536
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
group.initial.rebalance.delay.ms=0
"
    )
}

fn launch(folder: &Path) -> Child {
    let log = std::fs::File::create(folder.join("output")).unwrap();
    let mut command = java("-Xmx384m");
    command.arg("kafka.Kafka").arg(folder.join("properties"));
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    command.spawn().unwrap()
}

/// Java with Kafka's classes, which goes with the thread that started it.
fn java(heap: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "java", heap]);
    command.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
    command.arg(format!("{}/*", library().display()));
    command
}

/// Where Kafka is. A test without it fails, because it would prove nothing.
fn library() -> PathBuf {
    let services = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/services/kafka");
    let found = services.read_dir().into_iter().flatten().flatten();
    let mut found = found.filter(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with("lib-") && name != "lib-partial"
    });
    let found = found
        .next()
        .unwrap_or_else(|| panic!("Kafka is not there; run `cargo xtask services up kafka` once"));
    found.path()
}

/// Whether a broker at a port answers what it can do, under the number that was asked.
fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
        return false;
    };
    let mut answer = [0; 8];
    let asked = stream
        .set_read_timeout(Some(Duration::from_secs(2)))
        .and_then(|()| stream.write_all(b"\x00\x00\x00\x0a\x00\x12\x00\x00busy\xff\xff"))
        .and_then(|()| stream.read_exact(&mut answer));
    asked.is_ok() && &answer[4..] == b"busy"
}
