//! Routing, checked line by line and against a naive model.

use super::*;

mod answers;
mod asking;
mod bus_methods;
mod model;
mod routing;

/// Keeps what goes out.
#[derive(Debug, Default)]
struct Tape {
    workers: Vec<(u32, String)>,
    clients: Vec<(ClientId, String)>,
}

impl Outlet for Tape {
    fn worker(&mut self, to: WorkerId, line: Line<'_>) {
        self.workers.push((to.0, text(line)));
    }

    fn client(&mut self, to: ClientId, line: Line<'_>) {
        self.clients.push((to, text(line)));
    }
}

fn text(line: Line<'_>) -> String {
    let bytes = match line {
        Line::Same(bytes) | Line::Own(bytes) => bytes.to_vec(),
        Line::Spliced(before, id, after) => [before, id, after].concat(),
    };
    String::from_utf8(bytes).unwrap()
}

/// A core whose workers all run, with what went out.
struct Bench {
    core: Core,
    tape: Tape,
    now: Micros,
}

impl Bench {
    /// Makes pools named `p`, `q`, … with so many workers each.
    fn new(sizes: &[u32], limits: &str) -> Self {
        let pools: Vec<String> = sizes
            .iter()
            .zip('p'..)
            .map(|(size, name)| format!(r#"{{"id":"{name}","command":"c","instances":{size}}}"#))
            .collect();
        let config = format!(r#"{{"pools":[{}],"limits":{{{limits}}}}}"#, pools.join(","));
        let config = Config::parse(config.as_bytes()).unwrap();
        let mut core = Core::new(&config, 7);
        for id in core.worker_ids() {
            core.worker_mut(id).reach = Reach::Up;
        }
        let tape = Tape::default();
        Self { core, tape, now: 0 }
    }

    fn one() -> Self {
        Self::new(&[1], "")
    }

    fn client(&mut self) -> ClientId {
        self.core.open_client(ClientKind::Wire).unwrap()
    }

    fn says(&mut self, client: ClientId, line: &str) {
        // An unreadable line is answered like any other.
        let _ = self
            .core
            .client_says(self.now, client, line.as_bytes(), &mut self.tape);
    }

    fn replies(&mut self, worker: u32, line: &str) {
        let worker = WorkerId(worker);
        self.core
            .worker_says(self.now, worker, line.as_bytes(), &mut self.tape)
            .unwrap();
    }

    fn leaves(&mut self, client: ClientId) {
        self.core.close_client(client, &mut self.tape);
    }

    fn dies(&mut self, worker: u32) {
        let worker = WorkerId(worker);
        self.core.worker_mut(worker).reach = Reach::Down;
        self.core
            .worker_ended(worker, Fault::WorkerDied, &mut self.tape);
    }

    /// Takes what went to workers.
    fn sent_to_workers(&mut self) -> Vec<(u32, String)> {
        std::mem::take(&mut self.tape.workers)
    }

    /// Takes what went to clients.
    fn sent_to_clients(&mut self) -> Vec<(ClientId, String)> {
        std::mem::take(&mut self.tape.clients)
    }

    /// Takes the one error that went to `client`: its raw text and its name.
    #[track_caller]
    fn fault(&mut self, client: ClientId) -> (serde_json::Value, String) {
        let out = self.sent_to_clients();
        let [(to, line)] = out.as_slice() else {
            panic!("one answer expected: {out:?}");
        };
        assert_eq!(*to, client);
        let answer: serde_json::Value = serde_json::from_str(line).unwrap();
        let name = answer["error"]["data"]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        (answer, name)
    }
}
