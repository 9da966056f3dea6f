//! What a round trip costs, as the kernel counts it: two reads, two writes and two waits. Every
//! further call would be one that the architecture does not need.

use serde_json::json;

use crate::harness::*;

const ROUNDS: u64 = 2_000;

/// What the clock of the bus may cost while the rounds run.
const SLACK: u64 = ROUNDS / 10;

/// System calls of a process so far.
#[derive(Debug, Clone, Copy)]
struct Cost {
    reads: u64,
    writes: u64,
    /// Times that it slept until something happened.
    waits: u64,
}

impl Cost {
    fn of(pid: u32) -> Self {
        let number = |file: &str, key: &str| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
            let line = text.lines().find(|line| line.starts_with(key)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        Self {
            reads: number("io", "syscr"),
            writes: number("io", "syscw"),
            waits: number("status", "voluntary_ctxt_switches"),
        }
    }
}

#[test]
fn a_round_trip_is_two_reads_two_writes_and_two_waits() {
    over(&ALL, &one(1), |bus| {
        let mut client = bus.client();
        client.call("echo", &json!(0));
        let before = Cost::of(bus.child.id());
        for round in 0..ROUNDS {
            client.send(&format!(r#"{{"id":{round},"method":"m"}}"#));
            client.line().unwrap();
        }
        let after = Cost::of(bus.child.id());
        let reads = after.reads - before.reads;
        let writes = after.writes - before.writes;
        let waits = after.waits - before.waits;
        let expected = 2 * ROUNDS..=2 * ROUNDS + SLACK;
        assert!(expected.contains(&reads), "{reads} reads, {:?}", bus.via);
        assert!(expected.contains(&writes), "{writes} writes, {:?}", bus.via);
        // A wait that finds something at once is not counted as one.
        assert!(waits <= 2 * ROUNDS + SLACK, "{waits} waits, {:?}", bus.via);
    });
}
