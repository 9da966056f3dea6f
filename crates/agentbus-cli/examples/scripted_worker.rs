//! A worker that does what its requests say, well-behaved or not. The tests of the stdio bus
//! drive it; it also shows the whole contract of a worker in one screen.

#![allow(
    clippy::print_stderr,
    clippy::exit,
    reason = "it behaves badly when it is told to"
)]

use std::io::{self, BufRead, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

/// The notifications it has had.
static NOTES: Mutex<Vec<Value>> = Mutex::new(Vec::new());

/// Requests that are answered later, in their order.
static HELD: Mutex<Vec<Value>> = Mutex::new(Vec::new());

/// Memory that it does not give back.
static HOARD: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

fn main() -> io::Result<()> {
    let mut input = io::BufReader::new(io::stdin());
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        match serde_json::from_slice(line) {
            Ok(message) => act(&String::from_utf8_lossy(line), message)?,
            Err(error) => eprintln!("no JSON: {error}"),
        }
    }
}

/// Prints one line.
fn say(line: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(line.as_bytes())?;
    output.write_all(b"\n")?;
    output.flush()
}

fn answer(message: &Value, result: &Value) -> io::Result<()> {
    let mut answer = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result });
    if let Some(session) = message.get("sessionId") {
        answer["sessionId"] = session.clone();
    }
    say(&answer.to_string())
}

fn lock<T>(shared: &'static Mutex<T>) -> MutexGuard<'static, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The parts of a text that a request wants to hear.
fn parts(message: &Value) -> Vec<&str> {
    match message["params"]["parts"].as_array() {
        Some(parts) => parts.iter().filter_map(Value::as_str).collect(),
        None => vec!["Hel", "lo"],
    }
}

/// One part of a text, in the session of its request if that has one.
fn chunk(message: &Value, part: &str) -> Value {
    let content = json!({ "type": "text", "text": part });
    let update = json!({ "sessionUpdate": "agent_message_chunk", "content": content });
    let mut news = json!({ "method": "session/update", "params": { "update": update } });
    if let Some(session) = message.get("sessionId") {
        news["sessionId"] = session.clone();
    }
    news
}

/// Says several texts at a time, one part of each in turn, and answers the last request first.
fn speak(messages: &[Value]) -> io::Result<()> {
    let longest = messages.iter().map(|message| parts(message).len()).max();
    for place in 0..longest.unwrap_or(0) {
        for message in messages {
            if let Some(part) = parts(message).get(place) {
                say(&chunk(message, part).to_string())?;
            }
        }
    }
    for message in messages.iter().rev() {
        match message["params"].get("error") {
            Some(error) => say(&json!({ "id": message["id"], "error": error }).to_string())?,
            None => answer(message, &json!({ "stopReason": "end_turn" }))?,
        }
    }
    Ok(())
}

fn act(line: &str, message: Value) -> io::Result<()> {
    let params = &message["params"];
    let number = |name: &str| params[name].as_u64().unwrap_or_default();
    match message["method"].as_str().unwrap_or_default() {
        "who" => answer(&message, &json!(std::process::id())),
        "echo" => answer(&message, params),
        // What came in, byte for byte.
        "raw" => answer(&message, &json!(line)),
        "silent" | "session/prompt" => Ok(()),
        "big" => answer(
            &message,
            &json!("x".repeat(usize::try_from(number("bytes")).unwrap_or(0))),
        ),
        "quoted" => answer(&json!({ "id": message["id"].to_string() }), &json!(1)),
        "twice" => answer(&message, &json!(1)).and_then(|()| answer(&message, &json!(2))),
        "say" => {
            say(params["line"].as_str().unwrap_or_default())?;
            answer(&message, &json!("said"))
        }
        "garbage" => say("this is no JSON"),
        "exit" => std::process::exit(i32::try_from(number("code")).unwrap_or(1)),
        // Reads nothing for a while.
        "stall" => {
            std::thread::sleep(Duration::from_millis(number("ms")));
            answer(&message, &json!("stalled"))
        }
        // Answers after a while and goes on reading.
        "later" => {
            let wait = Duration::from_millis(number("ms"));
            std::thread::spawn(move || {
                std::thread::sleep(wait);
                let _ = answer(&message, &json!("late"));
            });
            Ok(())
        }
        // Answers with a text, at once or after a while.
        "tagged" => {
            let text = params["text"].clone();
            match number("ms") {
                0 => answer(&message, &text),
                wait => {
                    std::thread::spawn(move || {
                        std::thread::sleep(Duration::from_millis(wait));
                        let _ = answer(&message, &text);
                    });
                    Ok(())
                }
            }
        }
        "child" => {
            let child = std::process::Command::new("sleep").arg("1000").spawn()?;
            answer(&message, &json!(child.id()))
        }
        // Says a text in parts, once so many have asked for one.
        "chunks" => {
            let together = number("together").max(1);
            let mut held = lock(&HELD);
            held.push(message);
            if (held.len() as u64) < together {
                return Ok(());
            }
            speak(&std::mem::take(&mut *held))
        }
        // Is answered when another request says so.
        "hold" => {
            lock(&HELD).push(message);
            Ok(())
        }
        "release" => {
            for held in std::mem::take(&mut *lock(&HELD)) {
                answer(&held, &json!("held"))?;
            }
            answer(&message, &json!("released"))
        }
        "grow" => {
            let bytes = usize::try_from(number("mb") << 20).unwrap_or(0);
            // Written to, so that the memory is really taken.
            lock(&HOARD).push(vec![1; bytes]);
            answer(&message, &json!("grown"))
        }
        // Asks before it answers, and answers with what it was told.
        "asks" => {
            say(&json!({ "id": "q", "method": "may_i" }).to_string())?;
            let mut told = String::new();
            io::stdin().read_line(&mut told)?;
            answer(&message, &json!(told.trim_end()))
        }
        "refuse" => {
            let error = json!({ "code": -32602, "message": "no such thing" });
            say(&json!({ "id": message["id"], "error": error }).to_string())
        }
        "complain" => {
            eprintln!("{}", params["text"].as_str().unwrap_or_default());
            answer(&message, &json!("complained"))
        }
        // The notifications it has had.
        "notes" => answer(&message, &json!(*lock(&NOTES))),
        // An answer to a question of ours is told to the session.
        "" if message.get("result").is_some() => {
            let told =
                json!({ "method": "heard", "params": message, "sessionId": message["sessionId"] });
            say(&told.to_string())
        }
        _ if message.get("id").is_some() => answer(&message, &json!("ok")),
        _ => {
            lock(&NOTES).push(message);
            Ok(())
        }
    }
}
