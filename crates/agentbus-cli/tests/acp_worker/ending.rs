//! Turns that run when the bus ends: by a signal that it hears, and by one that it does not.

use std::process::Stdio;
use std::time::Instant;

use serde_json::{Value, json};

use crate::bus::Bus;
use crate::editor::{Editor, PATIENCE};
use crate::serving::Running;

const ECHO: &[&str] = &["--agent", "echo"];

/// What the history of a session says of turns that failed.
fn failures<'a>(editor: &'a Editor, why: &str) -> Vec<&'a str> {
    let said = editor.transcript().into_iter();
    let failed: Vec<&str> = said.filter(|it| it.contains("this turn failed")).collect();
    assert!(failed.iter().all(|it| it.contains(why)), "{failed:?}");
    failed
}

/// Loads the session after a restart, where its turn has ended, and goes on with it.
fn check_session(bus: &Bus, words: &[&str], session: &str, why: &str) {
    let mut back = Editor::ready(bus, words, &json!({}));
    assert!(back.load(session).get("result").is_some());
    let said = back.transcript();
    assert!(said[0].contains("user_message_chunk"), "{said:?}");
    assert_eq!(failures(&back, why).len(), 1, "{said:?}");
    assert!(said.last().unwrap().contains(why), "{said:?}");
    back.end();
}

#[test]
fn a_turn_that_runs_when_the_bus_stops_has_ended_after_its_restart() {
    const WHY: &str = "the bus was stopped during this turn";
    let mut bus = Bus::untapped();
    let mut command = bus.command(&["handle", "slow", "--", "sleep", "600"]);
    let handler = command.stdout(Stdio::null()).stderr(Stdio::null());
    let _handler = Running(handler.spawn().unwrap());
    let slow: &[&str] = &["--agent", "slow"];
    let mut other = Editor::ready(&bus, slow, &json!({}));
    let begun = Instant::now();
    let asked = loop {
        let opened = other.call("session/new", json!({ "cwd": "/", "mcpServers": [] }));
        // The handler takes a moment to be there.
        assert!(begun.elapsed() < PATIENCE, "{opened}");
        if let Some(session) = opened["result"]["sessionId"].as_str() {
            break session.to_owned();
        }
    };
    let mut editor = Editor::ready(&bus, ECHO, &json!({}));
    let session = editor.session();
    let turn = editor.ask_prompt(&session, &["begun", "/wait 600"]);
    editor.hear("begun");
    let calling = other.ask_prompt(&asked, &["x"]);
    let mut seen = Editor::ready(&bus, slow, &json!({}));
    seen.load(&asked);
    let prompted = |frame: &Value| {
        let update = &frame["params"]["update"];
        update["sessionUpdate"] == "user_message_chunk"
    };
    seen.find(prompted);
    bus.restart("TERM");
    for (editor, id) in [(&mut editor, turn), (&mut other, calling)] {
        let answer = editor.answer(id);
        let sentence = answer["error"]["message"].as_str().unwrap();
        assert!(sentence.starts_with(WHY), "{sentence}");
        assert_eq!(editor.status(), Some(4));
    }
    check_session(&bus, ECHO, &session, WHY);
    check_session(&bus, &[], &asked, WHY);
    let mut back = Editor::ready(&bus, ECHO, &json!({}));
    back.load(&session);
    let done = back.prompt(&session, &["on"]);
    assert_eq!(done["result"]["stopReason"], "end_turn", "{done}");
    back.end();
}

#[test]
fn a_turn_that_runs_when_the_bus_is_killed_has_ended_after_its_restart() {
    const WHY: &str = "the bus ended during this turn";
    let mut bus = Bus::untapped();
    let mut editor = Editor::ready(&bus, ECHO, &json!({}));
    let whole = editor.session();
    editor.prompt(&whole, &["all of it"]);
    let session = editor.session();
    editor.ask_prompt(&session, &["begun", "/wait 600"]);
    editor.hear("begun");
    bus.restart("KILL");
    assert_eq!(editor.status(), Some(4));
    check_session(&bus, ECHO, &session, WHY);
    // What was ended is not ended again, and what had ended never was cut.
    bus.restart("KILL");
    check_session(&bus, ECHO, &session, WHY);
    let mut back = Editor::ready(&bus, ECHO, &json!({}));
    back.load(&whole);
    assert_eq!(failures(&back, WHY), Vec::<&str>::new());
    let done = back.prompt(&session, &["on"]);
    assert_eq!(done["error"]["code"], -32002, "{done}");
    back.load(&session);
    let done = back.prompt(&session, &["on"]);
    assert_eq!(done["result"]["stopReason"], "end_turn", "{done}");
    back.end();
}
