//! What messages cost, as the kernel counts it. A round trip is two reads, two writes and two
//! waits: every further call would be one that the architecture does not need. Memory is held while
//! a message needs it.

use serde_json::json;

use crate::harness::*;

const ROUNDS: u64 = 2_000;

/// What else the bus may do while the rounds run.
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

/// Bytes of a process that are in memory and are no part of a file.
fn own_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib * 1024
}

#[test]
fn memory_of_large_messages_goes_back_when_they_have_gone_through() {
    const BYTES: usize = 24 << 20;
    let limits = json!({ "max_input_buffer": 2 * BYTES, "max_output_queue": 2 * BYTES });
    over(&[Via::Unix], &config(&[pool("p", 1)], &limits), |bus| {
        let mut client = bus.client();
        client.call("echo", &json!(0));
        let pid = bus.child.id();
        let before = own_bytes(pid);
        client.call("echo", &json!("x".repeat(BYTES)));
        // The allocator keeps a little of it, whatever the size was.
        eventually("most of the memory is given back", || {
            let more = own_bytes(pid).saturating_sub(before);
            (more < BYTES as u64 / 2).then_some(())
        });
    });
}
