//! A RabbitMQ broker of a test's own.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::messages::within;
use super::ports::free_port;

/// The script that starts the broker as whoever calls it; the one on the path changes the user.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const CONTROL: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";

/// Longest time that a broker may take to answer.
const START: Duration = Duration::from_secs(240);

/// A running broker with a data directory and ports of its own. Dropping it kills it.
pub(crate) struct Broker {
    node: Child,
    /// The name daemon without which no node starts. Started here, so that none is left behind.
    names: Child,
    ports: Ports,
    folder: tempfile::TempDir,
    /// Settings of the port that is encrypted; without any there is none.
    tls: String,
}

#[derive(Clone, Copy)]
struct Ports {
    clients: u16,
    sealed: u16,
    names: u16,
    nodes: u16,
}

impl Broker {
    pub(crate) fn start() -> Self {
        Self::with(String::new())
    }

    /// Starts a broker that also speaks TLS, with these of its `ssl_options`.
    pub(crate) fn encrypted(options: &[(&str, String)]) -> Self {
        let lines = options
            .iter()
            .map(|(name, value)| format!("ssl_options.{name} = {value}\n"));
        Self::with(lines.collect())
    }

    fn with(tls: String) -> Self {
        let ports = Ports {
            clients: free_port(),
            sealed: free_port(),
            names: free_port(),
            nodes: free_port(),
        };
        let folder = tempfile::tempdir().unwrap();
        let names = mortal("epmd")
            .args(["-address", "127.0.0.1", "-port", &ports.names.to_string()])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let node = launch(ports, folder.path(), &tls);
        let mut broker = Self {
            node,
            names,
            ports,
            folder,
            tls,
        };
        broker.wait();
        broker
    }

    pub(crate) fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}", self.ports.clients)
    }

    /// The host and the port that are encrypted.
    pub(crate) fn sealed(&self) -> String {
        format!("127.0.0.1:{}", self.ports.sealed)
    }

    /// Kills it as a power cut would, as far as a process can tell.
    pub(crate) fn kill(&mut self) {
        self.node.kill().unwrap();
        self.node.wait().unwrap();
    }

    /// Starts it again on the same ports with the same data.
    pub(crate) fn restart(&mut self) {
        self.node = launch(self.ports, self.folder.path(), &self.tls);
        self.wait();
    }

    /// Waits until there are these queues and no other.
    pub(crate) async fn keeps(&self, queues: &[&str]) {
        within("the end of all other queues", async {
            while self.queues() != queues {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// The names of all queues.
    fn queues(&self) -> Vec<String> {
        let mut command = Command::new(CONTROL);
        command.args(["--quiet", "list_queues", "name", "--no-table-headers"]);
        let listed = self.environment(&mut command).output().unwrap();
        let said = String::from_utf8(listed.stdout).unwrap();
        assert!(listed.status.success(), "{said}");
        said.lines().map(str::to_owned).collect()
    }

    fn environment<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        environment(command, self.ports, self.folder.path())
    }

    fn wait(&mut self) {
        let begun = Instant::now();
        // The encrypted port is opened after the other.
        let sealed = || self.tls.is_empty() || connect(self.ports.sealed).is_some();
        while !(answers(self.ports.clients) && sealed()) {
            let ended = self.node.try_wait().unwrap();
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap();
            assert!(ended.is_none(), "the broker ended: {}", log());
            assert!(begun.elapsed() < START, "no answer: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        for child in [&mut self.node, &mut self.names] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A command whose process goes with the thread that starts it, also when that is killed.
fn mortal(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command.stdin(Stdio::null());
    command
}

fn launch(ports: Ports, folder: &Path, tls: &str) -> Child {
    assert!(
        Path::new(SERVER).exists(),
        "rabbitmq-server is not installed; run `cargo xtask services up rabbitmq` once"
    );
    let sealed = match tls {
        "" => String::new(),
        options => format!("listeners.ssl.1 = 127.0.0.1:{}\n{options}", ports.sealed),
    };
    let config = format!("listeners.tcp.1 = 127.0.0.1:{}\n{sealed}", ports.clients);
    std::fs::write(folder.join("rabbitmq.conf"), config).unwrap();
    std::fs::write(folder.join("enabled_plugins"), "[].\n").unwrap();
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let mut command = mortal(SERVER);
    command
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        // The script becomes the node instead of waiting for it, so that there is one process.
        .env("RABBITMQ_ALLOW_INPUT", "1")
        .env("RABBITMQ_SERVER_START_ARGS", "-noinput");
    environment(&mut command, ports, folder).spawn().unwrap()
}

fn environment<'a>(command: &'a mut Command, ports: Ports, folder: &Path) -> &'a mut Command {
    command
        .env("HOME", folder)
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("ERL_EPMD_PORT", ports.names.to_string())
        .env(
            "RABBITMQ_NODENAME",
            format!("agentbus-test-{}@localhost", ports.clients),
        )
        .env("RABBITMQ_DIST_PORT", ports.nodes.to_string())
        .env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-kernel inet_dist_use_interface {127,0,0,1}",
        )
        .env("RABBITMQ_MNESIA_BASE", folder.join("mnesia"))
        .env("RABBITMQ_LOG_BASE", folder.join("logs"))
        .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"))
        .env(
            "RABBITMQ_ENABLED_PLUGINS_FILE",
            folder.join("enabled_plugins"),
        )
}

/// Whether a broker answers the protocol's header with a method.
fn answers(port: u16) -> bool {
    let Some(mut stream) = connect(port) else {
        return false;
    };
    let mut answer = [0; 3];
    let asked = stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .and_then(|()| stream.write_all(b"AMQP\x00\x00\x09\x01"))
        .and_then(|()| stream.read_exact(&mut answer));
    asked.is_ok() && answer == [1, 0, 0]
}

fn connect(port: u16) -> Option<TcpStream> {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
}
