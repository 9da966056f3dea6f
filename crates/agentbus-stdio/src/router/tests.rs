#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Keeps what was sent.
#[derive(Default)]
struct Sent {
    workers: Vec<(WorkerId, String)>,
    clients: Vec<(ClientId, String)>,
    closed: Vec<ClientId>,
}

impl Ports for Sent {
    fn to_worker(&mut self, worker: WorkerId, line: [&[u8]; 3]) {
        let line = String::from_utf8(line.concat()).unwrap();
        self.workers.push((worker, line));
    }

    fn to_client(&mut self, client: ClientId, message: [&[u8]; 3]) {
        let message = String::from_utf8(message.concat()).unwrap();
        self.clients.push((client, message));
    }

    fn close(&mut self, client: ClientId) {
        self.closed.push(client);
    }
}

struct Bus {
    router: Router,
    sent: Sent,
    now: Instant,
}

impl Bus {
    /// Pools by name and size, with limits, and all workers running; clients 0 to 9 are there.
    fn new(pools: &[(&str, usize)], limits: &Value) -> Self {
        let pools: Vec<_> = pools
            .iter()
            .map(|(id, instances)| json!({"id": id, "command": "c", "instances": instances}))
            .collect();
        let config = json!({"pools": pools, "limits": limits}).to_string();
        let config = Config::parse(config.as_bytes()).unwrap().config;
        let mut router = Router::new(&config);
        (0..router.workers.len()).for_each(|worker| router.worker_started(WorkerId(worker)));
        (0..10).for_each(|client| router.client_joined(ClientId(client)));
        Self {
            router,
            sent: Sent::default(),
            now: Instant::now(),
        }
    }

    /// Sends a client's line and returns the workers that got something, with what they got.
    fn client(&mut self, client: u64, line: &str) -> Vec<(usize, String)> {
        self.sent.workers.clear();
        let sent = &mut self.sent;
        self.router
            .from_client(ClientId(client), line.as_bytes(), self.now, sent);
        let got = std::mem::take(&mut self.sent.workers);
        got.into_iter()
            .map(|(worker, line)| (worker.0, line))
            .collect()
    }

    /// Prints a worker's line and returns the clients that got something, with what they got.
    fn worker(&mut self, worker: usize, line: &str) -> Vec<(u64, String)> {
        self.sent.clients.clear();
        let sent = &mut self.sent;
        self.router
            .from_worker(WorkerId(worker), line.as_bytes(), sent)
            .unwrap();
        self.clients()
    }

    fn clients(&mut self) -> Vec<(u64, String)> {
        let got = std::mem::take(&mut self.sent.clients);
        got.into_iter()
            .map(|(client, line)| (client.0, line))
            .collect()
    }

    /// The worker that a request reaches.
    fn reaches(&mut self, line: &str) -> usize {
        let got = self.client(0, line);
        assert_eq!(got.len(), 1, "{line}: {got:?} {:?}", self.sent.clients);
        got[0].0
    }

    /// The error that a request of client 0 is answered with.
    fn refused(&mut self, line: &str) -> Value {
        self.sent.clients.clear();
        assert_eq!(self.client(0, line), []);
        let answers = self.clients();
        assert_eq!(answers.len(), 1, "{line}");
        serde_json::from_str(&answers[0].1).unwrap()
    }
}

fn request(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#)
}

fn result(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#)
}

#[test]
fn v1_v2_messages_pass_unchanged_whatever_the_id() {
    let mut bus = Bus::new(&[("p", 1)], &json!({}));
    for id in [
        "1",
        r#""a""#,
        "1.5",
        "-3",
        "123456789012345678901234567890",
        r#""x\"y""#,
    ] {
        assert_eq!(bus.client(0, &request(id)), [(0, request(id))]);
        assert_eq!(bus.worker(0, &result(id)), [(0, result(id))]);
    }
}

#[test]
fn v3_v4_odd_messages_are_forwarded() {
    let mut bus = Bus::new(&[("p", 1)], &json!({}));
    assert_eq!(bus.client(0, r#"{"id":2}"#).len(), 1);
    assert_eq!(bus.worker(0, &result("2")).len(), 1);
    assert_eq!(bus.client(0, "{}").len(), 1);
}

#[test]
fn v7_v8_what_is_no_object_is_a_parse_error() {
    let mut bus = Bus::new(&[("p", 1)], &json!({}));
    for line in [
        "{\"id\":3,\"method\":\"m\"} trailing",
        "not json",
        "[1,2]",
        "null",
        "\"s\"",
        "{\"id\":1",
        "  ",
    ] {
        let error = bus.refused(line);
        assert_eq!(
            (&error["id"], &error["error"]["code"]),
            (&Value::Null, &json!(-32700))
        );
        assert_eq!(std::mem::take(&mut bus.sent.closed), [ClientId(0)]);
    }
}

#[test]
fn v13_v14_v15_v16_work_goes_round_and_sessions_stay() {
    let mut bus = Bus::new(&[("p", 3)], &json!({}));
    let round: Vec<_> = (0..6)
        .map(|id| bus.reaches(&request(&id.to_string())))
        .collect();
    assert_eq!(round, [0, 1, 2, 0, 1, 2]);
    let session = |id: usize, session: usize| {
        format!(r#"{{"id":{id},"method":"m","sessionId":"s{session}"}}"#)
    };
    let rounds: Vec<Vec<_>> = (0..3)
        .map(|round| {
            (0..3)
                .map(|s| bus.reaches(&session(100 + round * 3 + s, s)))
                .collect()
        })
        .collect();
    assert!(rounds.iter().all(|round| *round == rounds[0]));
    let before = bus.router.session_count();
    bus.reaches(r#"{"id":200,"method":"m","params":{"sessionId":"nested"}}"#);
    bus.reaches(r#"{"id":201,"method":"m","sessionId":7}"#);
    bus.reaches(r#"{"id":202,"method":"m","sessionId":""}"#);
    assert_eq!(bus.router.session_count(), before);
}

#[test]
fn v17_to_v20_pools_are_named_or_refused() {
    let mut bus = Bus::new(&[("a", 1), ("b", 1)], &json!({}));
    let error = bus.refused(&request("1"));
    assert_eq!(error["error"]["data"]["code"], "POOL_MISSING");
    assert_eq!(error["error"]["data"]["pools"], json!(["a", "b"]));
    assert_eq!(
        bus.reaches(r#"{"id":2,"method":"m","pool":"b","sessionId":"s"}"#),
        1
    );
    let error = bus.refused(r#"{"id":"x","method":"m","pool":"nope"}"#);
    assert_eq!(
        (&error["id"], &error["error"]["data"]["code"]),
        (&json!("x"), &json!("POOL_UNKNOWN"))
    );
    assert_eq!(
        bus.reaches(r#"{"id":3,"method":"m","pool":"a","sessionId":"s"}"#),
        1
    );
}

#[test]
fn an_agent_id_names_a_pool_unless_it_means_an_agent_behind_a_worker() {
    let mut bus = Bus::new(&[("a", 1), ("b", 1)], &json!({}));
    assert_eq!(bus.reaches(r#"{"id":1,"method":"m","agentId":"b"}"#), 1);
    assert_eq!(
        bus.reaches(r#"{"id":2,"method":"m","agentId":"b","pool":"a"}"#),
        0
    );
    let error = bus.refused(r#"{"id":3,"method":"m","agentId":"zed"}"#);
    assert_eq!(error["error"]["data"]["code"], "POOL_MISSING");
    let mut single = Bus::new(&[("launcher", 1)], &json!({}));
    assert_eq!(
        single.reaches(r#"{"id":1,"method":"m","agentId":"zed"}"#),
        0
    );
}

#[test]
fn v21_v22_notifications_reach_everyone_in_the_session() {
    let mut bus = Bus::new(&[("p", 1)], &json!({}));
    bus.client(1, r#"{"id":1,"method":"m","sessionId":"s"}"#);
    bus.client(2, r#"{"method":"m","sessionId":"s"}"#);
    let note = r#"{"method":"n","sessionId":"s"}"#;
    assert_eq!(
        bus.worker(0, note),
        [(1, note.to_owned()), (2, note.to_owned())]
    );
    assert_eq!(bus.worker(0, r#"{"method":"n"}"#), []);
    assert_eq!(bus.worker(0, r#"{"method":"n","sessionId":"other"}"#), []);
    assert_eq!(bus.router.counts().undeliverable, 2);
}

#[test]
fn v23_a_worker_may_ask_and_hears_the_answer() {
    let mut bus = Bus::new(&[("p", 2)], &json!({}));
    let worker = bus.client(1, r#"{"id":1,"method":"m","sessionId":"s"}"#)[0].0;
    let ask = r#"{"id":9,"method":"ask","sessionId":"s"}"#;
    assert_eq!(bus.worker(worker, ask), [(1, ask.to_owned())]);
    let with_session = r#"{"id":9,"result":1,"sessionId":"s"}"#;
    assert_eq!(
        bus.client(1, with_session),
        [(worker, with_session.to_owned())]
    );
    bus.worker(worker, ask);
    let without = r#"{"id":9,"result":1}"#;
    assert_eq!(bus.client(1, without), [(worker, without.to_owned())]);
    assert_eq!(bus.client(1, without), []);
}

#[test]
fn v24_v25_answers_are_matched_by_text_and_only_once() {
    let mut bus = Bus::new(&[("p", 1)], &json!({}));
    assert_eq!(bus.worker(0, &result("5")), []);
    bus.client(0, &request("5"));
    assert_eq!(bus.worker(0, &result("\"5\"")), [(0, result("5"))]);
    assert_eq!(bus.worker(0, &result("5")), []);
}

#[test]
fn v27_a_stale_request_never_takes_the_answer_of_another() {
    let mut bus = Bus::new(&[("p", 1)], &json!({}));
    bus.client(1, &request("9"));
    let second = bus.client(2, &request("9"));
    assert_ne!(second[0].1, request("9"), "the id is in use");
    let id = serde_json::from_str::<Value>(&second[0].1).unwrap()["id"].to_string();
    assert_eq!(bus.worker(0, &result(&id)), [(2, result("9"))]);
    bus.router.client_left(ClientId(1));
    bus.client(3, &request("9"));
    assert_eq!(
        bus.worker(0, &result("9")),
        [],
        "the late answer to a client that left"
    );
}

#[test]
fn v28_one_greedy_client_is_limited_and_others_are_not() {
    let mut bus = Bus::new(&[("p", 1)], &json!({"max_pending": 50}));
    for id in 0..50 {
        bus.client(0, &request(&id.to_string()));
    }
    assert_eq!(
        bus.refused(&request("50"))["error"]["data"]["code"],
        "TOO_MANY_PENDING"
    );
    bus.client(1, &request("x1"));
    bus.client(1, &request("1"));
    bus.worker(0, &result("0"));
    assert_eq!(
        bus.client(0, &request("51")).len(),
        1,
        "an answer makes room"
    );
}

#[test]
fn v29_idle_sessions_make_room_and_busy_ones_do_not() {
    let mut bus = Bus::new(
        &[("p", 1)],
        &json!({"max_sessions": 2, "session_idle_sec": 10}),
    );
    let session = |name: &str| format!(r#"{{"id":1,"method":"m","sessionId":"{name}"}}"#);
    bus.reaches(&session("a"));
    bus.reaches(&session("b"));
    assert_eq!(
        bus.refused(&session("c"))["error"]["data"]["code"],
        "TOO_MANY_SESSIONS"
    );
    bus.now += Duration::from_secs(11);
    bus.reaches(&session("c"));
}

#[test]
fn v30_a_dead_worker_answers_with_an_error_and_loses_its_sessions() {
    let mut bus = Bus::new(&[("p", 2)], &json!({}));
    bus.reaches(r#"{"id":"q","method":"m","sessionId":"s"}"#);
    bus.router.worker_ended(WorkerId(0), &mut bus.sent);
    let answers = bus.clients();
    let error: Value = serde_json::from_str(&answers[0].1).unwrap();
    assert_eq!(
        (&error["id"], &error["error"]["data"]["code"]),
        (&json!("q"), &json!("WORKER_DIED"))
    );
    assert_eq!(error["error"]["data"]["retryable"], true);
    assert_eq!(bus.reaches(r#"{"id":2,"method":"m","sessionId":"s"}"#), 1);
    bus.router.worker_ended(WorkerId(1), &mut bus.sent);
    assert_eq!(
        bus.refused(&request("3"))["error"]["data"]["code"],
        "NO_WORKER"
    );
}

#[test]
fn v44_a_session_survives_the_client_that_began_it() {
    let mut bus = Bus::new(&[("p", 3)], &json!({}));
    let line = r#"{"id":1,"method":"m","sessionId":"s"}"#;
    let first = bus.client(1, line)[0].0;
    bus.router.client_left(ClientId(1));
    assert_eq!(bus.client(2, line)[0].0, first);
}

#[test]
fn v45_the_bus_answers_for_itself() {
    let mut bus = Bus::new(&[("p", 1)], &json!({}));
    let hello = bus.refused(
        r#"{"id":"h","method":"stdio_bus/hello","sessionId":"c-1","params":{"protocolVersion":"0.1.0",
        "extensions":{"identity":{"version":"0.1.0","required":true},"x":{"version":"1"}}}}"#,
    );
    assert_eq!(hello["result"]["negotiatedProtocolVersion"], "0.1.0");
    assert_eq!(hello["result"]["sessionId"], "c-1");
    let extensions = &hello["result"]["extensions"];
    assert_eq!(
        extensions["identity"],
        json!({"selected": "0.1.0", "active": true})
    );
    assert_eq!(extensions["x"]["active"], false);
    let health = bus.refused(r#"{"id":1,"method":"stdio_bus/health"}"#);
    assert_eq!(health["result"]["status"], "ok");
    let stats = bus.refused(r#"{"id":1,"method":"stdio_bus/stats"}"#);
    assert_eq!(stats["result"]["workers"][0]["pool"], "p");
    let unknown = bus.refused(r#"{"id":1,"method":"stdio_bus/nope"}"#);
    assert_eq!(unknown["error"]["code"], -32601);
}

#[test]
fn overdue_requests_are_answered_and_a_draining_bus_takes_no_more() {
    let mut bus = Bus::new(&[("p", 1)], &json!({"request_timeout_sec": 5}));
    bus.reaches(&request("1"));
    bus.router
        .sweep(bus.now + Duration::from_secs(6), &mut bus.sent);
    let error: Value = serde_json::from_str(&bus.clients()[0].1).unwrap();
    assert_eq!(error["error"]["data"]["code"], "TIMED_OUT");
    assert_eq!(bus.worker(0, &result("1")), [], "too late");
    assert!(bus.router.is_quiet());
    bus.router.drain();
    assert_eq!(
        bus.refused(&request("2"))["error"]["data"]["code"],
        "SHUTTING_DOWN"
    );
}

#[test]
fn the_least_loaded_worker_is_chosen_when_asked_for() {
    let config =
        json!({"pools": [{"id": "p", "command": "c", "instances": 2, "balance": "least-loaded"}]});
    let config = Config::parse(config.to_string().as_bytes()).unwrap().config;
    let mut bus = Bus::new(&[("p", 2)], &json!({}));
    bus.router.pools[0].balance = config.pools[0].balance;
    assert_eq!(bus.reaches(&request("1")), 0);
    assert_eq!(bus.reaches(&request("2")), 1);
    bus.worker(1, &result("2"));
    assert_eq!(bus.reaches(&request("3")), 1);
    assert_eq!(bus.reaches(&request("4")), 0);
}

/// One step of the random run.
#[derive(Debug, Clone)]
enum Step {
    Ask {
        client: u64,
        id: u8,
        session: Option<u8>,
    },
    Answer {
        which: usize,
    },
    Kill {
        worker: usize,
    },
    Leave {
        client: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..4_u64, 0..3_u8, prop::option::of(0..3_u8))
            .prop_map(|(client, id, session)| Step::Ask { client, id, session }),
        8 => any::<prop::sample::Index>().prop_map(|at| Step::Answer { which: at.index(1 << 16) }),
        1 => (0..3_usize).prop_map(|worker| Step::Kill { worker }),
        1 => (0..4_u64).prop_map(|client| Step::Leave { client }),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    /// Every client uses the ids 0, 1 and 2 again and again. Each request carries a serial number
    /// that its worker gives back, so an answer that reaches anybody but the one who asked, or
    /// under another id, or twice, or never, is found.
    #[test]
    fn nothing_crosses_and_nothing_is_lost(steps in steps()) {
        let mut bus = Bus::new(&[("p", 3)], &json!({}));
        let mut open: Vec<(usize, Value)> = Vec::new();
        let mut owed: BTreeMap<u64, (u64, u8)> = BTreeMap::new();
        let mut here = [true; 4];
        let mut serial = 0_u64;
        for step in steps {
            bus.sent.clients.clear();
            match step {
                Step::Ask { client, id, session } if here[usize::try_from(client).unwrap()] => {
                    serial += 1;
                    let mut line = json!({"id": id, "method": "m", "params": {"serial": serial}});
                    if let Some(session) = session {
                        line["sessionId"] = json!(session.to_string());
                    }
                    for (worker, line) in bus.client(client, &line.to_string()) {
                        open.push((worker, serde_json::from_str(&line).unwrap()));
                        owed.insert(serial, (client, id));
                    }
                }
                Step::Answer { which } if !open.is_empty() => {
                    let (worker, asked) = open.swap_remove(which % open.len());
                    let serial = asked["params"]["serial"].as_u64().unwrap();
                    let answer = json!({"id": asked["id"], "result": {"serial": serial}});
                    let got = bus.worker(worker, &answer.to_string());
                    match owed.remove(&serial) {
                        Some((client, id)) => {
                            prop_assert_eq!(got.len(), 1);
                            let answer: Value = serde_json::from_str(&got[0].1).unwrap();
                            prop_assert_eq!((got[0].0, &answer["id"]), (client, &json!(id)));
                        }
                        None => prop_assert_eq!(got, []),
                    }
                }
                Step::Kill { worker } => {
                    bus.router.worker_ended(WorkerId(worker), &mut bus.sent);
                    bus.router.worker_started(WorkerId(worker));
                    let dead: Vec<u64> = open
                        .iter()
                        .filter(|(at, _)| *at == worker)
                        .filter_map(|(_, asked)| asked["params"]["serial"].as_u64())
                        .collect();
                    open.retain(|(at, _)| *at != worker);
                    let mut expected: Vec<_> = dead.iter().filter_map(|serial| owed.remove(serial)).collect();
                    let mut told: Vec<(u64, u8)> = bus
                        .clients()
                        .into_iter()
                        .map(|(client, line)| {
                            let line: Value = serde_json::from_str(&line).unwrap();
                            (client, u8::try_from(line["id"].as_u64().unwrap()).unwrap())
                        })
                        .collect();
                    expected.sort_unstable();
                    told.sort_unstable();
                    prop_assert_eq!(told, expected);
                }
                Step::Leave { client } => {
                    bus.router.client_left(ClientId(client));
                    here[usize::try_from(client).unwrap()] = false;
                    owed.retain(|_, (asker, _)| *asker != client);
                }
                Step::Ask { .. } | Step::Answer { .. } => {}
            }
        }
        let pending: usize = bus.router.clients.values().map(|client| client.pending).sum();
        prop_assert_eq!(pending, owed.len());
    }
}
