//! The real AMB package, driven line by line, for every carrier whose peers speak AMB.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use agentbus::Bus;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::messages::within;

/// What is installed, exactly.
const PACKAGES: [&str; 5] = [
    "amb-core==0.3.0",
    "redis==8.1.0",
    "aiokafka==0.12.0",
    "aio-pika==9.6.2",
    "nats-py==2.16.0",
];

/// A peer in a process of its own.
pub(crate) struct Peer {
    child: Child,
    input: ChildStdin,
    answers: mpsc::UnboundedReceiver<Value>,
    messages: mpsc::UnboundedReceiver<Value>,
}

impl Peer {
    pub(crate) async fn start(url: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../agentbus-transport-redis/tests/amb/peer.py");
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(python())
            .args([&*script, Path::new(url)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (answer, answers) = mpsc::unbounded_channel();
        let (heard, messages) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let mut line: Value = serde_json::from_str(&line).unwrap();
                let sent = match line.get_mut("heard") {
                    Some(message) => heard.send(message.take()),
                    None => answer.send(line["done"].take()),
                };
                if sent.is_err() {
                    return;
                }
            }
        });
        let mut peer = Self {
            child,
            input,
            answers,
            messages,
        };
        assert_eq!(peer.answer().await, "ready");
        peer
    }

    /// Gives an order and returns what came of it.
    pub(crate) async fn run(&mut self, order: Value) -> Value {
        writeln!(self.input, "{order}").unwrap();
        self.answer().await
    }

    async fn answer(&mut self) -> Value {
        let answer = within("the peer's answer", self.answers.recv()).await;
        answer.unwrap()
    }

    /// The next message that it heard.
    pub(crate) async fn heard(&mut self) -> Value {
        within("a message at the peer", self.messages.recv())
            .await
            .unwrap()
    }
}

/// A bus that names a topic of its peers in its URL publishes to it and hears it, by its own name.
pub(crate) async fn a_bus_shares(url: &str, peer: &mut Peer, topic: &str) {
    let bus = Bus::builder("till").transport(url).connect().await.unwrap();
    let mut heard = bus.subscribe(topic).await.unwrap();
    peer.run(json!({"publish": topic, "payload": {"n": 3}}))
        .await;
    let delivery = within("their event at the bus", heard.next())
        .await
        .unwrap();
    let payload: Value = delivery
        .envelope()
        .payload
        .as_ref()
        .unwrap()
        .decode()
        .unwrap();
    assert_eq!(payload, json!({"n": 3}));
    delivery.ack().await.unwrap();
    peer.run(json!({"subscribe": topic})).await;
    // Again and again, because a subscription of theirs may begin some time after it says so; what
    // was said again before that on another topic may still come.
    let theirs = within("our event at the peer", async {
        loop {
            bus.publish(topic, &json!({"n": 4})).await.unwrap();
            let patience = Duration::from_millis(500);
            let heard = tokio::time::timeout(patience, peer.messages.recv()).await;
            if let Some(message) = heard.ok().map(Option::unwrap)
                && message["topic"] == topic
            {
                return message;
            }
        }
    });
    let theirs = theirs.await;
    assert_eq!(theirs["payload"], json!({"n": 4}));
    assert_eq!(theirs["sender"], "till");
    bus.shutdown().await;
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The interpreter of an environment that has the packages.
fn python() -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let folder = target.join("amb-core-0.3.0");
    let python = folder.join("bin/python");
    // Written last, so that an installation that was cut short, or was another, is made again.
    let complete = folder.join("complete");
    let wanted = PACKAGES.join("\n");
    std::fs::create_dir_all(&target).unwrap();
    // The tests of other carriers share it, and are processes of their own.
    let one_at_a_time = File::create(target.join("amb-core.lock")).unwrap();
    one_at_a_time.lock().unwrap();
    if std::fs::read_to_string(&complete).ok().as_deref() != Some(&wanted) {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
        run(Command::new(&python)
            .args(["-m", "pip", "install", "-q"])
            .args(PACKAGES));
        std::fs::write(complete, wanted).unwrap();
    }
    python
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {said}");
}
