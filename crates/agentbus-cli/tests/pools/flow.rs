//! Those who do not read, those who do not write, and those who come and go.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::*;

#[test]
fn v36_a_client_that_reads_late_gets_everything() {
    let limits = json!({ "max_output_queue": 100_000, "backpressure_timeout_sec": 60 });
    over(&ALL, &config(&[pool("p", 1)], &limits), |bus| {
        const COUNT: usize = 400;
        let (mut writer, reader) = bus.raw();
        let writing = std::thread::spawn(move || {
            for id in 0..COUNT {
                writeln!(
                    writer,
                    r#"{{"id":{id},"method":"big","params":{{"bytes":20000}}}}"#
                )
                .unwrap();
            }
            writer
        });
        std::thread::sleep(Duration::from_millis(700));
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(reader));
        for id in 0..COUNT {
            let answer: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            assert_eq!(answer["id"], id);
            assert_eq!(answer["result"].as_str().unwrap().len(), 20_000);
        }
        drop(writing.join().unwrap());
    });
}

#[test]
fn v36_a_client_that_never_reads_is_not_read_and_then_cut_off() {
    let limits = json!({ "max_output_queue": 100_000, "backpressure_timeout_sec": 1 });
    over(&SOCKETS, &config(&[pool("p", 1)], &limits), |bus| {
        let mut other = bus.client();
        let (mut writer, mut reader) = bus.raw();
        let line = format!(
            "{{\"id\":1,\"method\":\"echo\",\"params\":\"{}\"}}\n",
            "x".repeat(20_000)
        );
        let begun = Instant::now();
        let writing = std::thread::spawn(move || {
            let mut written = 0;
            // Refused at some point: first because nobody reads, then because nobody is there.
            while writer.write_all(line.as_bytes()).is_ok() {
                written += 1;
                assert!(written < 10_000, "reads are never paused");
            }
        });
        // Before, while and after it is paused.
        while !writing.is_finished() {
            assert_eq!(other.call("echo", &json!(1)), 1);
        }
        writing.join().unwrap();
        assert!(
            begun.elapsed() >= Duration::from_secs(1),
            "it was cut off before its time"
        );
        for number in 0..50 {
            assert_eq!(other.call("echo", &json!(number)), number);
        }
        // What the kernel holds, then the end; a reset is an end too.
        let _ = reader.read_to_end(&mut Vec::new());
    });
}

#[test]
fn a_worker_that_does_not_read_stalls_only_those_who_write_to_it() {
    let config = config(&[pool("slow", 1), pool("p", 1)], &json!({}));
    over(&SOCKETS, &config, |bus| {
        let mut other = bus.client();
        let slow = other.ask(&json!({ "id": 0, "method": "who", "pool": "slow" }));
        let slow = u32::try_from(slow["result"].as_u64().unwrap()).unwrap();
        signal(slow, "-STOP");
        let (mut writer, reader) = bus.raw();
        let fill = "x".repeat(50_000);
        let writing = std::thread::spawn(move || {
            for id in 0..200 {
                writeln!(
                    writer,
                    r#"{{"id":{id},"method":"m","pool":"slow","params":"{fill}"}}"#
                )
                .unwrap();
            }
            writer
        });
        std::thread::sleep(Duration::from_millis(300));
        // All of this is answered while the worker reads nothing.
        for number in 0..200 {
            assert_eq!(other.call("echo", &json!(number)), number);
        }
        assert!(!writing.is_finished(), "its clients are paused");
        signal(slow, "-CONT");
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(reader));
        for id in 0..200 {
            let answer: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            assert_eq!(answer["id"], id);
        }
        drop(writing.join().unwrap());
    });
}

#[test]
fn a_log_that_nobody_reads_stalls_nobody() {
    let talk = "head -c 2000000 /dev/zero | tr '\\0' 'x' | fold -w 100 >&2";
    let pool = shell_pool("p", &format!("{talk}; {SED}"), 1);
    let mut bus = Bus::start_with(Via::Unix, &config(&[pool], &json!({})), "info", |command| {
        command.stderr(std::process::Stdio::piped());
    });
    let mut client = bus.client();
    for id in 0..50 {
        client.send(&format!(r#"{{"id":{id},"method":"m"}}"#));
        assert_eq!(
            client.line().unwrap(),
            format!(r#"{{"id":{id},"result":{{}}}}"#)
        );
    }
    bus.signal("-TERM");
    // Its standard error is still not read.
    assert_eq!(bus.ended().code(), Some(0));
    let mut log = String::new();
    let mut stderr = bus.child.stderr.take().unwrap();
    stderr.read_to_string(&mut log).unwrap();
    assert!(log.len() < 200_000, "the pipe held more: {}", log.len());
}

#[test]
fn ten_thousand_clients_may_come_and_go() {
    const EACH: usize = 2_500;
    over(&SOCKETS, &one(2), |bus| {
        let mut last = bus.client();
        last.call("echo", &json!(0));
        let open = bus.descriptors();
        let bus = &*bus;
        std::thread::scope(|scope| {
            for place in 0..4 {
                scope.spawn(move || {
                    for number in 0..EACH {
                        visit(bus, place * EACH + number);
                    }
                });
            }
        });
        eventually("every connection is forgotten", || {
            let stats = last.ask(&json!({ "id": 1, "method": "stdio_bus/stats" }));
            (stats["result"]["clients"] == 1).then_some(())
        });
        assert_eq!(bus.descriptors(), open);
    });
}

/// Connects, asks or leaves a half line behind, and goes.
fn visit(bus: &Bus, number: usize) {
    let mut stream = bus.connect();
    if number.is_multiple_of(5) {
        let _ = stream.write_all(b"{\"id\":1,\"met");
        return;
    }
    writeln!(
        stream,
        r#"{{"id":{number},"method":"echo","params":{number}}}"#
    )
    .unwrap();
    let mut answer = [0; 256];
    let count = stream.read(&mut answer).unwrap();
    let answer: Value = serde_json::from_slice(&answer[..count]).unwrap();
    assert_eq!(
        (&answer["id"], &answer["result"]),
        (&json!(number), &json!(number))
    );
}
