//! Nothing is left: not while the bus runs, not when it is killed.

use std::io::Write;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use crate::harness::*;

const SESSIONS: usize = 1_000;
const KILLS: usize = 200;

#[test]
fn nothing_is_left_of_sessions_kills_and_half_open_clients() {
    let mut bus = Bus::start(Via::Unix, &one(4));
    let mut client = bus.client();
    client.call("echo", &json!(0));
    let before = bus.descriptors();
    for number in 0..SESSIONS {
        let session = format!("s{number}");
        client.ask(&json!({ "id": number, "method": "m", "sessionId": session }));
    }
    let mut half_open: Vec<_> = (0..100).map(|_| bus.connect()).collect();
    for stream in &mut half_open {
        stream.write_all(b"{\"id\":1,").unwrap();
    }
    let seen = kill_at_random(&bus, &mut client);
    drop(half_open);
    eventually("no zombie stays with the bus", || {
        let dead = |pid: &u32| state(*pid) == Some('Z');
        (!bus.children().iter().any(dead)).then_some(())
    });
    eventually("all descriptors are given back", || {
        (bus.descriptors() == before).then_some(())
    });
    assert_eq!(client.call("echo", &json!(1)), 1);
    bus.signal("-KILL");
    bus.ended();
    let gone = |pid: &u32| matches!(state(*pid), None | Some('Z'));
    eventually("every process is gone", || {
        seen.iter().all(gone).then_some(())
    });
    eventually("no grandchild is left", || {
        bus.family().is_empty().then_some(())
    });
}

/// Kills workers under load, lets some have children, and returns every process that was seen.
fn kill_at_random(bus: &Bus, client: &mut Client) -> Vec<u32> {
    let mut random = StdRng::seed_from_u64(7);
    let mut seen: Vec<u32> = Vec::new();
    for round in 0..KILLS {
        client.send(&json!({ "id": "c", "method": "child" }).to_string());
        client.send(
            &json!({ "id": "s", "method": "m", "sessionId": format!("s{round}") }).to_string(),
        );
        let workers = eventually("a worker lives", || {
            Some(bus.children()).filter(|all| !all.is_empty())
        });
        let victim = workers[random.random_range(0..workers.len())];
        seen.extend(bus.family());
        kill(victim);
        // A result or an error, but an answer.
        let mut answered = [client.next()["id"].clone(), client.next()["id"].clone()];
        answered.sort_by_key(ToString::to_string);
        assert_eq!(answered, [json!("c"), json!("s")]);
    }
    seen
}

/// It may have ended by itself in the meantime.
fn kill(pid: u32) {
    let _ = std::process::Command::new("kill")
        .args(["-KILL", &pid.to_string()])
        .stderr(std::process::Stdio::null())
        .status();
}

fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.trim_start().chars().next()
}

#[test]
fn an_orphan_that_left_its_group_is_collected_and_dies_with_the_bus() {
    let script = "setsid sh -c 'sleep 1000 & echo $! > orphan; wait' & exec cat > /dev/null";
    let pool = shell_pool("p", script, 1);
    let mut bus = Bus::start(
        Via::Unix,
        &config(&[pool], &json!({ "drain_timeout_sec": 5 })),
    );
    let file = bus.dir.path().join("orphan");
    let orphan: u32 = eventually("the orphan is there", || {
        std::fs::read_to_string(&file).ok()?.trim().parse().ok()
    });
    assert!(state(orphan).is_some());
    bus.signal("-TERM");
    assert_eq!(bus.ended().code(), Some(0));
    eventually("the orphan is gone", || {
        matches!(state(orphan), None | Some('Z')).then_some(())
    });
}

#[test]
fn nothing_is_left_when_the_bus_is_killed_under_load() {
    // Each worker has a child of its own.
    let pool = shell_pool("p", &format!("sleep 1000 & {SED}"), 4);
    let mut bus = Bus::start(Via::Unix, &config(&[pool], &json!({})));
    let mut clients: Vec<Client> = (0..20).map(|_| bus.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        for id in 0..50 {
            client.send(&format!(
                r#"{{"id":{id},"method":"m","sessionId":"s{number}"}}"#
            ));
        }
        client.next();
    }
    assert_eq!(bus.children().len(), 4);
    eventually("the bus, its workers and their children run", || {
        (bus.family().len() >= 9).then_some(())
    });
    bus.signal("-KILL");
    bus.ended();
    eventually("nothing is left", || bus.family().is_empty().then_some(()));
}
