//! Many clients with the same ids, workers that answer in any order, checked against a model that
//! simply writes down who asked what.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// What may happen next; numbers choose among what there is.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A client asks with one of very few ids, so that they collide.
    Ask {
        client: usize,
        id: u8,
        quoted: bool,
        session: Option<u8>,
    },
    /// A worker answers any of its open requests.
    Answer { open: usize, wrong_type: bool },
    /// A worker speaks to a session it has.
    Notify { open: usize },
    /// A client leaves and another takes its place.
    Leave { client: usize },
    /// A worker dies and is back.
    Die { worker: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    let session = prop::option::of(0u8..3);
    prop_oneof![
        6 => (any::<usize>(), 0u8..3, any::<bool>(), session)
            .prop_map(|(client, id, quoted, session)| Step::Ask { client, id, quoted, session }),
        6 => (any::<usize>(), prop::bool::weighted(0.2))
            .prop_map(|(open, wrong_type)| Step::Answer { open, wrong_type }),
        1 => any::<usize>().prop_map(|open| Step::Notify { open }),
        1 => any::<usize>().prop_map(|client| Step::Leave { client }),
        1 => (0u32..3).prop_map(|worker| Step::Die { worker }),
    ]
}

/// A request that the model knows to be open.
#[derive(Debug, Clone)]
struct Open {
    asker: ClientId,
    id: Value,
    /// Says which request it is, as `params` and `result`.
    stamp: u64,
    worker: u32,
    /// The id the worker was shown.
    shown: Value,
    session: Option<String>,
}

struct Model {
    bench: Bench,
    clients: Vec<ClientId>,
    open: Vec<Open>,
    stamps: u64,
}

impl Model {
    fn new() -> Self {
        let mut bench = Bench::new(&[3], r#""max_pending":1000000"#);
        let clients = (0..4).map(|_| bench.client()).collect();
        Self {
            bench,
            clients,
            open: Vec::new(),
            stamps: 0,
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Ask {
                client,
                id,
                quoted,
                session,
            } => {
                let id = if quoted {
                    json!(id.to_string())
                } else {
                    json!(id)
                };
                self.ask(self.clients[client % self.clients.len()], id, session);
            }
            Step::Answer { open, wrong_type } => self.answer(open, wrong_type),
            Step::Notify { open } => self.notify(open),
            Step::Leave { client } => self.leave(client % self.clients.len()),
            Step::Die { worker } => self.die(worker),
        }
    }

    fn ask(&mut self, asker: ClientId, id: Value, session: Option<u8>) {
        self.stamps += 1;
        let session = session.map(|number| format!("s{number}"));
        let mut line = json!({ "id": id, "method": "m", "params": [self.stamps] });
        if let Some(session) = &session {
            line["sessionId"] = json!(session);
        }
        self.bench.says(asker, &line.to_string());
        let sent = self.bench.sent_to_workers();
        assert_eq!(sent.len(), 1);
        let shown: Value = serde_json::from_str(&sent[0].1).unwrap();
        let worker = sent[0].0;
        assert_eq!(shown["params"], line["params"]);
        assert_eq!(shown["id"].is_string(), id.is_string(), "the type is kept");
        let clash = |open: &Open| open.worker == worker && bare(&open.shown) == bare(&shown["id"]);
        assert!(!self.open.iter().any(clash), "ids of open requests differ");
        self.open.push(Open {
            asker,
            id,
            stamp: self.stamps,
            worker,
            shown: shown["id"].clone(),
            session,
        });
    }

    fn answer(&mut self, open: usize, wrong_type: bool) {
        if self.open.is_empty() {
            return;
        }
        let open = self.open.swap_remove(open % self.open.len());
        let id = match (&open.shown, wrong_type) {
            (Value::Number(number), true) => json!(number.to_string()),
            (id, _) => id.clone(),
        };
        let answer = json!({ "id": id, "result": open.stamp });
        self.bench.replies(open.worker, &answer.to_string());
        let out = self.bench.sent_to_clients();
        if !self.clients.contains(&open.asker) {
            assert!(out.is_empty(), "an answer for one who left reaches nobody");
            return;
        }
        assert_eq!(out.len(), 1);
        let got: Value = serde_json::from_str(&out[0].1).unwrap();
        assert_eq!(
            (out[0].0, &got["id"], &got["result"]),
            (open.asker, &open.id, &json!(open.stamp))
        );
    }

    fn notify(&mut self, open: usize) {
        let with_session: Vec<&Open> = self.open.iter().filter(|o| o.session.is_some()).collect();
        if with_session.is_empty() {
            return;
        }
        let open = with_session[open % with_session.len()].clone();
        let line = json!({ "method": "n", "sessionId": open.session }).to_string();
        self.bench.replies(open.worker, &line);
        let out = self.bench.sent_to_clients();
        let heard = out.iter().any(|(to, _)| *to == open.asker);
        assert_eq!(heard, self.clients.contains(&open.asker));
        assert!(
            out.iter()
                .all(|(to, text)| self.clients.contains(to) && *text == line)
        );
    }

    fn leave(&mut self, place: usize) {
        self.bench.leaves(self.clients[place]);
        self.clients[place] = self.bench.client();
        assert!(self.bench.sent_to_clients().is_empty());
    }

    fn die(&mut self, worker: u32) {
        self.bench.dies(worker);
        self.bench.core.worker_mut(WorkerId(worker)).reach = Reach::Up;
        let (lost, open) = self.open.drain(..).partition(|open| open.worker == worker);
        self.open = open;
        let lost: Vec<Open> = lost;
        let owed = lost
            .iter()
            .filter(|open| self.clients.contains(&open.asker));
        let want: Vec<(ClientId, Value)> = owed.map(|open| (open.asker, open.id.clone())).collect();
        let told = self.bench.sent_to_clients();
        assert_eq!(told.len(), want.len());
        for (to, line) in told {
            let answer: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(answer["error"]["data"]["code"], "WORKER_DIED");
            assert!(want.contains(&(to, answer["id"].clone())));
        }
    }

    /// Answers what is open and checks that nothing is left anywhere.
    fn finish(mut self) {
        while !self.open.is_empty() {
            self.answer(0, false);
        }
        assert_eq!(self.bench.core.in_flight(), 0);
        for client in self.clients {
            assert_eq!(self.bench.core.client(client).unwrap().in_flight, 0);
        }
    }
}

/// Compares ids as workers do that forget the type.
fn bare(id: &Value) -> String {
    id.to_string().trim_matches('"').to_owned()
}

proptest! {
    #[test]
    fn no_answer_crosses_and_none_is_lost(steps in prop::collection::vec(step(), 1..200)) {
        let mut model = Model::new();
        for step in steps {
            model.apply(step);
        }
        model.finish();
    }
}
