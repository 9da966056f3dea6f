//! Two `agentbus serve` on one PostgreSQL, one of which is killed: whoever listens at the other hears
//! everything that was acknowledged, once and in order. And two over one bus, which hears it once.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    dead_code,
    reason = "a test that cannot go on should say where; the server's support has more than is used"
)]

#[path = "../../agentbus-chat/tests/support/postgres.rs"]
mod postgresql;
#[path = "support/serving.rs"]
mod serving;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use agentbus::Bus;
use agentbus_server::{AuthMode, RunningServer, Server, ServerConfig};
use serde_json::{Value, json};

use serving::{Running, SERVE, Serving};

/// Longest silence before something is broken.
const GUARD: Duration = Duration::from_secs(120);

/// Posts at the first node before it is killed, and at the second one afterwards.
const BEFORE: usize = 60;
const AFTER: usize = 40;

/// What ends the listening.
const END: &str = "the end";

struct Node {
    process: Running,
    address: String,
    directory: tempfile::TempDir,
}

impl Node {
    fn start(database: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut serve = serving::agentbus(directory.path());
        serve
            .args(SERVE)
            .args(["--auth", "off", "--chat-store", database])
            .env("AGENTCHATBUS_RATE_LIMIT", "0")
            .stderr(Stdio::null());
        let serving = Serving::start(&mut serve);
        Self {
            address: serving.address().to_owned(),
            process: serving.process,
            directory,
        }
    }
}

/// Sends a request whose answer ends with its connection. The token is that of an agent.
fn request(
    address: &str,
    (method, path, token): (&str, &str, &str),
    body: &Value,
) -> std::io::Result<TcpStream> {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(GUARD))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         x-agent-token: {token}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    Ok(stream)
}

/// The status and the body; an error when the node is gone, or goes meanwhile.
fn call(address: &str, method: &str, path: &str, body: &Value) -> std::io::Result<(u16, Value)> {
    call_as(address, (method, path, ""), body)
}

fn call_as(address: &str, what: (&str, &str, &str), body: &Value) -> std::io::Result<(u16, Value)> {
    let mut answer = String::new();
    request(address, what, body)?.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
    let status = status.ok_or(std::io::ErrorKind::InvalidData)?;
    Ok((status, serde_json::from_str(body)?))
}

/// Posts, and returns the number of what was acknowledged.
fn post(address: &str, thread: &str, text: &str) -> std::io::Result<i64> {
    let path = format!("/api/threads/{thread}/messages");
    let (status, posted) = call(address, "POST", &path, &json!({ "content": text }))?;
    assert_eq!(status, 201, "{posted}");
    Ok(posted["seq"].as_i64().unwrap())
}

fn thread(address: &str) -> String {
    let agent = json!({ "ide": "IDE", "model": "m" });
    let (_, agent) = call(address, "POST", "/api/agents/register", &agent).unwrap();
    let new = json!({ "topic": "t", "creator_agent_id": agent["agent_id"] });
    let token = agent["token"].as_str().unwrap();
    let (_, made) = call_as(address, ("POST", "/api/threads", token), &new).unwrap();
    made["id"]
        .as_str()
        .unwrap_or_else(|| panic!("{made}"))
        .to_owned()
}

/// What a listener heard: the numbers in the order in which they came.
type Heard = JoinHandle<Vec<i64>>;

/// Waits again and again, as `after` tells what came since.
fn listen(mut after: impl FnMut(i64) -> Vec<Value> + Send + 'static) -> Heard {
    spawn(move || {
        let mut heard = Vec::new();
        loop {
            let messages = after(heard.last().copied().unwrap_or(0));
            for message in &messages {
                heard.push(message["seq"].as_i64().unwrap());
            }
            if messages.iter().any(|message| message["content"] == END) {
                return heard;
            }
        }
    })
}

fn over_http(node: &Node, thread: &str) -> Heard {
    let (address, path) = (node.address.clone(), format!("/api/threads/{thread}/wait"));
    listen(move |seq| {
        let asked = json!({ "after_seq": seq, "timeout_ms": 60_000 });
        let (status, waited) = call(&address, "POST", &path, &asked).unwrap();
        assert_eq!(status, 200, "{waited}");
        waited["messages"].as_array().unwrap().clone()
    })
}

/// Reads the stream of events on one connection from its beginning to the end.
fn over_events(node: &Node, ready: Sender<()>) -> Heard {
    let stream = request(&node.address, ("GET", "/events", ""), &Value::Null).unwrap();
    spawn(move || {
        let mut heard = Vec::new();
        let mut ready = Some(ready);
        for line in BufReader::new(stream).lines() {
            let line = line.unwrap();
            // The first comment tells that from here on nothing is missed.
            if let Some(ready) = ready.take_if(|_| line.starts_with(':')) {
                ready.send(()).unwrap();
            }
            let Some(data) = line.strip_prefix("data: ") else {
                continue;
            };
            let event: Value = serde_json::from_str(data).unwrap();
            assert_ne!(event["type"], "events.gap", "something was missed");
            if event["type"] == "msg.new" {
                heard.push(event["payload"]["seq"].as_i64().unwrap());
            }
            if event["payload"]["content"] == END {
                return heard;
            }
        }
        panic!("the stream ended early");
    })
}

/// An MCP client over lines; it ends with its input.
struct Mcp {
    child: Child,
    lines: Receiver<Value>,
    next: u64,
}

impl Mcp {
    fn open(node: &Node) -> Self {
        let mut child = serving::agentbus(node.directory.path())
            .args(["--url", &format!("http://{}", node.address), "mcp"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = channel();
        spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if send.send(serde_json::from_str(&line).unwrap()).is_err() {
                    return;
                }
            }
        });
        let mut mcp = Self {
            child,
            lines,
            next: 0,
        };
        let us = json!({ "name": "test", "version": "1" });
        let hello =
            json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": us });
        mcp.call("initialize", &hello);
        mcp.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        mcp
    }

    fn send(&mut self, message: &Value) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{message}").unwrap();
    }

    fn call(&mut self, method: &str, params: &Value) -> Value {
        self.next += 1;
        let id = self.next;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        loop {
            let message = self.lines.recv_timeout(GUARD).unwrap();
            if message["id"] == id {
                return message["result"].clone();
            }
        }
    }
}

impl Drop for Mcp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn over_mcp(node: &Node, thread: &str) -> Heard {
    let (mut mcp, thread) = (Mcp::open(node), thread.to_owned());
    listen(move |seq| {
        let asked = json!({ "thread_id": thread, "after_seq": seq, "timeout_ms": 60_000 });
        let call = json!({ "name": "msg_wait", "arguments": asked });
        let waited = mcp.call("tools/call", &call);
        let messages = waited["structuredContent"]["messages"].as_array();
        messages.unwrap_or_else(|| panic!("{waited}")).clone()
    })
}

/// Posts until the node is gone; what it acknowledged.
fn poster(node: &Node, thread: &str, enough: Sender<()>) -> JoinHandle<Vec<i64>> {
    let (address, thread) = (node.address.clone(), thread.to_owned());
    spawn(move || {
        let mut acknowledged = Vec::new();
        // It is killed in the middle of one of these.
        while let Ok(seq) = post(&address, &thread, "from the first") {
            acknowledged.push(seq);
            if acknowledged.len() == BEFORE {
                enough.send(()).unwrap();
            }
        }
        acknowledged
    })
}

/// Everything that is in the thread.
fn kept(node: &Node, thread: &str) -> Vec<i64> {
    let mut all: Vec<i64> = Vec::new();
    loop {
        let after = all.last().copied().unwrap_or(0);
        let path = format!("/api/threads/{thread}/messages?after_seq={after}&limit=100");
        let (_, page) = call(&node.address, "GET", &path, &Value::Null).unwrap();
        let page = page.as_array().unwrap().clone();
        let seqs = page.iter().map(|message| message["seq"].as_i64().unwrap());
        let before = all.len();
        all.extend(seqs.filter(|seq| *seq > after));
        if all.len() == before {
            return all;
        }
    }
}

#[test]
fn listeners_at_one_node_miss_nothing_when_the_other_is_killed() {
    let database = postgresql::schema();
    let (mut first, second) = (Node::start(&database), Node::start(&database));
    let thread = thread(&first.address);
    let (ready, listening) = channel();
    let by_events = over_events(&second, ready);
    listening.recv_timeout(GUARD).unwrap();
    let by_http = over_http(&second, &thread);
    let by_mcp = over_mcp(&second, &thread);
    let (enough, posted) = channel();
    let posters = [enough.clone(), enough].map(|enough| poster(&first, &thread, enough));
    for _ in &posters {
        posted.recv_timeout(GUARD).unwrap();
    }
    // As `kill -9` does.
    first.process.0.kill().unwrap();
    first.process.0.wait().unwrap();
    let mut acknowledged: BTreeSet<i64> = BTreeSet::new();
    for poster in posters {
        for seq in poster.join().unwrap() {
            assert!(acknowledged.insert(seq), "{seq} was given twice");
        }
    }
    assert!(acknowledged.len() >= 2 * BEFORE);
    for _ in 0..AFTER {
        let seq = post(&second.address, &thread, "from the second").unwrap();
        assert!(acknowledged.insert(seq), "{seq} was given twice");
    }
    let last = post(&second.address, &thread, END).unwrap();
    acknowledged.insert(last);
    let kept = kept(&second, &thread);
    let ascending = |heard: &[i64]| heard.windows(2).all(|pair| pair[0] < pair[1]);
    assert!(ascending(&kept), "one number, one message: {kept:?}");
    for (how, heard) in [("events", by_events), ("http", by_http), ("mcp", by_mcp)] {
        let heard = heard.join().unwrap();
        assert!(ascending(&heard), "{how}: {heard:?}");
        // Also what was stored and not acknowledged, because the node died in between.
        assert_eq!(heard, kept, "{how}");
        let missed: Vec<_> = acknowledged
            .iter()
            .filter(|seq| !heard.contains(seq))
            .collect();
        assert!(missed.is_empty(), "{how} missed {missed:?}");
    }
}

/// A node in this process.
async fn node_over(bus: Bus, database: &str, directory: &Path) -> RunningServer {
    let mut config = ServerConfig::new(directory);
    config.listen = "127.0.0.1:0".parse().unwrap();
    config.auth = AuthMode::Off;
    config.chat_store = Some(database.to_owned());
    config.chat.rate_limit = 0;
    Server::start(config, bus).await.unwrap()
}

#[test]
fn two_nodes_over_one_log_tell_it_each_event_once() {
    const POSTS: i64 = 40;
    let database = postgresql::schema();
    let directory = tempfile::tempdir().unwrap();
    let of = |name: &str| directory.path().join(name);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let log = format!("sqlite://{}", of("bus.db").display());
        let bus = Bus::builder("first").transport(log).connect().await;
        let bus = bus.unwrap();
        let other = Bus::builder("second").transport_instance(Arc::clone(bus.transport()));
        let other = other.connect().await.unwrap();
        let first = node_over(bus.clone(), &database, &of("first")).await;
        let second = node_over(other, &database, &of("second")).await;
        let nodes = [&first, &second].map(|node| node.local_addr().to_string());
        let mut heard = bus.subscribe("chat.msg.new").await.unwrap();
        let before = bus.transport().stats().published;
        let thread = thread(&nodes[0]);
        for n in 0..POSTS {
            let at = if n % 2 == 0 { &nodes[0] } else { &nodes[1] };
            post(at, &thread, "x").unwrap();
        }
        // Both have told everything when so much was published.
        let told = async {
            while bus.transport().stats().published < before + 2 * POSTS.unsigned_abs() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let told = tokio::time::timeout(GUARD, told).await;
        assert!(told.is_ok(), "one of the nodes is silent");
        bus.publish("chat.msg.new", &json!({ "seq": END }))
            .await
            .unwrap();
        let mut seqs = Vec::new();
        loop {
            let next = tokio::time::timeout(GUARD, heard.next()).await;
            let delivery = next.unwrap().unwrap();
            let payload = delivery.envelope().payload.clone().unwrap();
            let told: Value = payload.decode().unwrap();
            match told["seq"].as_i64() {
                Some(seq) => seqs.push(seq),
                None => break,
            }
        }
        assert_eq!(seqs, (1..=POSTS).collect::<Vec<_>>());
        second.shutdown().await;
        first.shutdown().await;
    });
}
