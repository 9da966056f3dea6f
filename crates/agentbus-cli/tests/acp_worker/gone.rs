//! Who is gone and what stays: an editor killed in the middle of a turn, an agent killed likewise.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bus::Bus;
use crate::editor::Editor;

/// A turn that is long enough to be killed in.
const TURN: &[&str] = &["one", "/wait 3", "two"];

#[test]
fn an_editor_that_was_killed_shows_what_it_would_have_shown() {
    let bus = Bus::start();
    let mut whole = Editor::ready(&bus, &[], &json!({}));
    let session = whole.session();
    assert_eq!(
        whole.prompt(&session, TURN)["result"]["stopReason"],
        "end_turn"
    );
    let mut expected = Editor::ready(&bus, &[], &json!({}));
    expected.load(&session);

    let mut killed = Editor::ready(&bus, &[], &json!({}));
    let cut = killed.session();
    killed.ask_prompt(&cut, TURN);
    killed.hear("one");
    killed.kill();
    let mut back = Editor::ready(&bus, &[], &json!({}));
    let listed = back.call("session/list", json!({}))["result"].clone();
    let ids = listed["sessions"].as_array().unwrap().iter();
    assert!(
        ids.map(|it| &it["sessionId"]).any(|it| *it == cut.as_str()),
        "{listed}"
    );
    back.load(&cut);
    back.hear("two");
    // Updates end with the same brackets, whichever session they are of.
    assert_eq!(back.transcript(), expected.transcript());
    let live: Vec<&str> = expected
        .transcript()
        .into_iter()
        .filter(|it| !it.contains("user_message_chunk"))
        .collect();
    assert_eq!(whole.transcript(), live);
    assert_eq!(
        back.prompt(&cut, &["on"])["result"]["stopReason"],
        "end_turn"
    );
    for editor in [whole, expected, back] {
        editor.end();
    }
}

#[test]
fn a_question_outlives_the_editor_that_was_asked() {
    let Some(bus) = Bus::with_python() else {
        return;
    };
    let agent: &[&str] = &["--agent", "py"];
    let mut killed = Editor::ready(&bus, agent, &json!({}));
    let session = killed.session();
    killed.ask_prompt(&session, &["permission"]);
    killed.asked("session/request_permission");
    killed.kill();
    let mut back = Editor::ready(&bus, agent, &json!({}));
    back.load(&session);
    let asked = back.asked("session/request_permission");
    back.choose(&asked, "allow");
    back.hear("allowed with allow");
    back.end();
}

#[test]
fn whoever_waits_for_an_agent_that_dies_learns_it_at_once() {
    let bus = Bus::untapped();
    let mut editor = Editor::ready(&bus, &["--agent", "echo"], &json!({}));
    let session = editor.session();
    let turn = editor.ask_prompt(&session, &["begun", "/wait 60"]);
    editor.hear("begun");
    let agents = bus.run(&["invoke", "agentbus.agents", "{\"do\":\"list\"}"]);
    let agents: Value = serde_json::from_slice(&agents.stdout).unwrap();
    let pid = agents["payload"]["agents"][0]["pid"].to_string();
    let begun = Instant::now();
    assert!(
        Command::new("kill")
            .args(["-9", &pid])
            .status()
            .unwrap()
            .success()
    );
    let failed = editor.answer(turn);
    let took = begun.elapsed();
    println!("the editor learned of the end of its agent after {took:?}");
    let sentence = failed["error"]["message"].as_str().unwrap();
    assert!(
        sentence.ends_with("is started again for the next prompt, and takes this session up"),
        "{sentence}"
    );
    // The aim is 250 ms; a loaded machine gets more.
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert_eq!(
        editor.prompt(&session, &["on"])["result"]["stopReason"],
        "end_turn"
    );
    editor.hear("on");
    editor.end();
}

#[test]
fn an_editor_is_told_that_its_agent_has_forgotten_the_session() {
    let Some(bus) = Bus::untapped_python() else {
        return;
    };
    let py: &[&str] = &["--agent", "py"];
    let mut editor = Editor::ready(&bus, py, &json!({}));
    let session = editor.session();
    let silent = editor.session();
    editor.prompt(&session, &["count"]);
    let notices = json!({ "session": { "notices": {} } });
    let mut watcher = Editor::ready(&bus, py, &notices);
    watcher.load(&session);
    let failed = editor.prompt(&session, &["crash"]);
    let error = &failed["error"];
    let sentence = error["message"].as_str().unwrap();
    assert!(
        sentence.ends_with("it remembers nothing of what was said in this one"),
        "{sentence}"
    );
    let data = json!({ "code": "AGENT_UNAVAILABLE", "retryable": true });
    assert_eq!(error["data"], data);
    // A session in which nothing was said has lost nothing.
    let done = editor.prompt(&silent, &["count"]);
    assert_eq!(done["result"]["stopReason"], "end_turn", "{done}");
    let lost = |editor: &Editor| {
        let told = editor.updates.iter();
        told.filter(|it| it.contains("remembers nothing")).count()
    };
    assert_eq!(lost(&editor), 0);
    let done = editor.prompt(&session, &["count"]);
    assert_eq!(done["result"]["stopReason"], "end_turn", "{done}");
    assert_eq!(lost(&editor), 1);
    let chunk = editor.updates.iter().find(|it| it.contains("[AgentBus: "));
    assert!(chunk.unwrap().contains(r#""agentbus.notice":true"#));
    let kind = |frame: &Value| frame["params"]["update"]["sessionUpdate"].clone();
    let notice = watcher.find(|frame| kind(frame) == "notice");
    assert_eq!(notice["params"]["update"]["severity"], "warning");
    // Whoever comes later finds it where it happened.
    let mut back = Editor::ready(&bus, py, &json!({}));
    back.load(&session);
    let said = back.transcript();
    let at = |part: &str| said.iter().position(|it| it.contains(part)).unwrap();
    let last = said
        .iter()
        .rposition(|it| it.contains("user_message_chunk"));
    assert!(at("crash") < at("remembers nothing"), "{said:?}");
    assert!(at("remembers nothing") < last.unwrap(), "{said:?}");
    for editor in [editor, watcher, back] {
        editor.end();
    }
}
