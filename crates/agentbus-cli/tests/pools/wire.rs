//! Bytes: framing, ids, what is malformed and what is large.

use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::*;

#[test]
fn v01_to_v06_bytes_and_ids_pass_unchanged() {
    over(&ALL, &one(1), |bus| {
        let mut client = bus.client();
        let line = r#"{"jsonrpc":"2.0",  "id":1,"method":"raw"}"#;
        client.send(line);
        assert_eq!(client.next()["result"], line);
        for id in [
            r#""a""#,
            "1.5",
            "-3",
            "123456789012345678901234567890",
            r#""x\"y""#,
        ] {
            client.send(&format!(
                r#"{{"id":{id},"method":"say","params":{{"line":"{{\"id\":{},\"result\":0}}"}}}}"#,
                id.replace('\\', "\\\\").replace('"', "\\\"")
            ));
            assert_eq!(
                client.line().unwrap(),
                format!(r#"{{"id":{id},"result":0}}"#)
            );
        }
        assert_eq!(client.ask(&json!({"id": 2}))["result"], "ok");
        client.send("{}");
        client.send("");
        client.send_bytes(b"{\"id\":3,\"method\":\"raw\"}\r\n");
        assert_eq!(client.next()["result"], "{\"id\":3,\"method\":\"raw\"}\r");
    });
}

#[test]
fn v07_v08_malformed_lines_are_answered_and_harm_nobody() {
    over(&ALL, &one(1), |bus| {
        let mut client = bus.client();
        let deep = format!(r#"{{"id":1,"params":{}}}"#, "[".repeat(100_000));
        let lines = [
            r#"{"id":3,"method":"m"} trailing"#,
            "not json",
            "[1,2]",
            "null",
            "\"s\"",
            r#"{"id":1"#,
            "   ",
            &deep,
        ];
        for line in lines {
            client.send(line);
            let answer = client.line().unwrap();
            let want =
                r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error"}}"#;
            assert_eq!(answer, want, "{line:.80}");
            // What a stranger sends after a line that is no message is not heard.
            if bus.via != Via::Stdio {
                assert_eq!(client.line(), None);
                client = bus.client();
            }
        }
        assert_eq!(client.call("echo", &json!(7)), 7);
    });
}

#[test]
fn v01_v02_v05_v06_v11_a_worker_that_knows_no_json_is_served_as_well() {
    over(
        &ALL,
        &config(&[shell_pool("p", SED, 1)], &json!({})),
        |bus| {
            let mut client = bus.client();
            let request = |id: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#);
            let result = |id: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#);
            for id in [
                "1",
                r#""a""#,
                "1.5",
                "-3",
                "123456789012345678901234567890",
                r#""x\"y""#,
            ] {
                client.send(&request(id));
                assert_eq!(client.line().unwrap(), result(id));
            }
            client.send("");
            // The carriage return passes too; whoever reads lines takes it off.
            client.send(&format!("{}\r", request("7")));
            assert_eq!(client.line().unwrap(), result("7"));
            client.send(&format!("{}\n{}", request("8"), request("9")));
            assert_eq!(client.line().unwrap(), result("8"));
            assert_eq!(client.line().unwrap(), result("9"));
        },
    );
}

#[test]
fn v08_v09_v10_what_cannot_be_read_ends_one_connection_and_no_other() {
    let config = config(&[pool("p", 1)], &json!({ "max_input_buffer": 1024 }));
    over(&SOCKETS, &config, |bus| {
        let mut other = bus.client();
        for line in ["not json", "[1,2]", "null", "{\"id\":1", "   "] {
            let mut client = bus.client();
            client.send(line);
            let error = client.next();
            assert_eq!(
                (&error["error"]["code"], &error["id"]),
                (&json!(-32700), &Value::Null)
            );
            assert_eq!(client.line(), None);
        }
        let mut client = bus.client();
        client.send(&padded(1024));
        assert_eq!(client.next()["error"]["message"], "Message too large");
        assert_eq!(client.line(), None);
        let mut client = bus.client();
        client.send(&padded(1023));
        assert_eq!(client.next()["id"], 1);
        assert_eq!(other.ask(&json!({ "id": 2, "method": "m" }))["id"], 2);
    });
}

#[test]
fn nesting_up_to_what_json_parsers_take_passes() {
    over(&ALL, &one(1), |bus| {
        let mut client = bus.client();
        let levels = |count: usize| {
            format!(
                r#"{{"id":{count},"method":"m","params":{}{}}}"#,
                "[".repeat(count),
                "]".repeat(count)
            )
        };
        client.send(&levels(126));
        assert_eq!(client.next()["id"], 126);
        client.send(&levels(127));
        assert_eq!(client.next()["error"]["code"], -32700);
    });
}

#[test]
fn nothing_after_an_unreadable_line_is_heard_from_a_socket() {
    over(&SOCKETS, &one(1), |bus| {
        // As a browser would be made to send it.
        let mut client = bus.client();
        client.send_bytes(
            b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n{\"id\":1,\"method\":\"exit\"}\n",
        );
        assert_eq!(client.next()["error"]["code"], -32700);
        assert_eq!(client.line(), None);
        let mut other = bus.client();
        let stats = other.ask(&json!({ "id": 1, "method": "stdio_bus/stats" }));
        assert_eq!(stats["result"]["workers"][0]["messagesIn"], 0);
    });
}

#[test]
fn nul_bytes_and_broken_text_are_passed_on_and_survived() {
    over(&ALL, &one(1), |bus| {
        let mut client = bus.client();
        client.send_bytes(b"{\"id\":1,\"method\":\"silent\",\"params\":\"\xff\xfe\"}\n");
        client.send_bytes(b"{\"id\":2,\"method\":\"silent\",\"params\":\"\0\"}\n");
        assert_eq!(client.call("echo", &json!(1)), 1);
        client.send_bytes(b"\0\n");
        assert_eq!(client.next()["error"]["code"], -32700);
    });
}

#[test]
fn v09_a_line_of_the_limit_is_too_large() {
    let config = config(&[pool("p", 1)], &json!({ "max_input_buffer": 1024 }));
    over(&ALL, &config, |bus| {
        let mut client = bus.client();
        client.send(&padded(1024));
        let want =
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Message too large"}}"#;
        assert_eq!(client.line().unwrap(), want);
        assert_eq!(client.line(), None, "closed");
        if bus.via != Via::Stdio {
            assert_eq!(bus.client().call("echo", &json!(8)), 8);
        }
    });
}

#[test]
fn v10_a_line_one_byte_shorter_is_answered() {
    let config = config(&[pool("p", 1)], &json!({ "max_input_buffer": 1024 }));
    over(&ALL, &config, |bus| {
        let mut client = bus.client();
        client.send(&padded(1023));
        assert_eq!(client.next()["id"], 1);
    });
}

/// A request of so many bytes, without its newline, that is not answered at length.
fn padded(length: usize) -> String {
    let (start, end) = (r#"{"id":1,"method":"ok","params":""#, r#""}"#);
    let fill = "x".repeat(length - start.len() - end.len());
    format!("{start}{fill}{end}")
}

#[test]
fn v11_lines_may_come_together_or_in_halves() {
    over(&ALL, &one(1), |bus| {
        let mut client = bus.client();
        client.send_bytes(b"{\"id\":1,\"method\":\"m\"}\n{\"id\":2,\"method\":\"m\"}\n{\"id\":3,");
        assert_eq!(
            (client.next()["id"].clone(), client.next()["id"].clone()),
            (json!(1), json!(2))
        );
        client.send_bytes(b"\"method\":\"m\"}\n");
        assert_eq!(client.next()["id"], 3);
    });
}

#[test]
fn v12_answers_of_one_worker_keep_their_order() {
    over(&ALL, &one(1), |bus| {
        let mut client = bus.client();
        let lines: String = (0..50)
            .map(|id| format!("{{\"id\":{id},\"method\":\"m\"}}\n"))
            .collect();
        client.send_bytes(lines.as_bytes());
        for id in 0..50 {
            assert_eq!(client.next()["id"], id);
        }
    });
}

#[test]
fn v34_v35_large_messages_arrive_whole() {
    let config = config(&[pool("p", 1)], &json!({ "max_input_buffer": 70_000_000 }));
    over(&ALL, &config, |bus| {
        let mut client = bus.client();
        for length in [65_537, 66_000, 1_000_000] {
            let text = "y".repeat(length);
            assert_eq!(client.call("echo", &json!(text)), text.as_str());
        }
        let answer = client.call("big", &json!({ "bytes": 66_000 }));
        assert_eq!(answer.as_str().unwrap().len(), 66_000);
    });
}

#[test]
fn v34_v35_large_messages_arrive_whole_also_at_a_late_reader() {
    let config = config(
        &[echo_pool("p", 1)],
        &json!({ "max_input_buffer": 80_000_000 }),
    );
    let mut bus = Bus::start(Via::Stdio, &config);
    let (mut writer, reader) = bus.raw();
    let sizes = [66_000, 300_000, 1 << 20, 8 << 20, 64 << 20];
    let writing = std::thread::spawn(move || {
        for size in sizes {
            let text = "x".repeat(size);
            writeln!(writer, r#"{{"id":{size},"method":"m","params":"{text}"}}"#).unwrap();
        }
    });
    std::thread::sleep(Duration::from_millis(300));
    let mut lines = BufReader::new(reader).lines();
    for size in sizes {
        let answer: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(answer["id"], size);
        assert_eq!(answer["result"]["echo"].as_str().unwrap().len(), size);
    }
    // The writer went with its thread, which was the end of the input.
    writing.join().unwrap();
    assert_eq!(bus.ended().code(), Some(0));
}

#[test]
fn a_line_of_64_mebibytes_arrives_whole() {
    let config = config(&[pool("p", 1)], &json!({ "max_input_buffer": 70_000_000 }));
    let mut bus = Bus::start(Via::Unix, &config);
    let mut client = bus.client();
    client.send(&padded(64 << 20));
    assert_eq!(client.next()["id"], 1);
    let answer = client.call("big", &json!({ "bytes": 64 << 20 }));
    assert_eq!(answer.as_str().unwrap().len(), 64 << 20);
}

#[test]
fn v25_an_answer_carries_the_clients_own_id() {
    over(&ALL, &one(1), |bus| {
        let answer = bus.client().ask(&json!({ "id": 5, "method": "quoted" }));
        assert_eq!(answer["id"], 5);
    });
}

#[test]
fn lengths_frame_messages_in_both_directions() {
    let mut config = one(1);
    config["transport"] = json!({ "framing": "length" });
    over(&SOCKETS, &config, |bus| {
        let mut stream = bus.connect();
        // A newline between tokens must not become two lines for the worker.
        let request = b"{\"id\":1,\n\"method\":\"raw\"}";
        let answer = exchange(&mut *stream, request);
        assert_eq!(answer["result"], "{\"id\":1, \"method\":\"raw\"}");
        let mut huge = (u32::MAX).to_be_bytes().to_vec();
        huge.push(b'{');
        stream.write_all(&huge).unwrap();
        let refused = read_frame(&mut *stream);
        assert_eq!(refused["error"]["message"], "Frame too large");
        drop(bus.client());
    });
}

fn exchange(stream: &mut dyn Socket, message: &[u8]) -> Value {
    let length = u32::try_from(message.len()).unwrap();
    stream.write_all(&length.to_be_bytes()).unwrap();
    stream.write_all(message).unwrap();
    read_frame(stream)
}

fn read_frame(stream: &mut dyn Socket) -> Value {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut message).unwrap();
    serde_json::from_slice(&message).unwrap()
}
