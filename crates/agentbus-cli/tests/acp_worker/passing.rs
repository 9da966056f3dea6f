//! What passes between an agent and its editor: terminals, files, and what either adds.

use serde_json::{Value, json};

use crate::bus::Bus;
use crate::editor::Editor;

const PY: &[&str] = &["--agent", "py"];

#[test]
fn a_terminal_is_the_editors_from_its_beginning_to_its_end() {
    let Some(bus) = Bus::with_python() else {
        return;
    };
    let mut editor = Editor::ready(&bus, PY, &json!({ "terminal": true }));
    let session = editor.session();
    let turn = editor.ask_prompt(&session, &["terminal"]);
    let created = editor.asked("terminal/create");
    let expected = json!({ "sessionId": session, "command": "make", "args": ["all"],
        "env": [{ "name": "A", "value": "b" }], "cwd": "/made/up", "outputByteLimit": 1000 });
    assert_eq!(created["params"], expected);
    editor.reply(&created, &json!({ "terminalId": "editors-own" }));
    let killed = json!({ "exitCode": null, "signal": "SIGTERM" });
    let ended = json!({ "output": "cut", "truncated": true, "exitStatus": killed });
    let of_it = json!({ "sessionId": session, "terminalId": "editors-own" });
    for (method, result) in [
        (
            "terminal/output",
            json!({ "output": "making", "truncated": false }),
        ),
        ("terminal/kill", json!({})),
        ("terminal/wait_for_exit", killed),
        ("terminal/output", ended),
        ("terminal/release", json!({})),
    ] {
        let asked = editor.asked(method);
        assert_eq!(asked["params"], of_it, "{method}");
        editor.reply(&asked, &result);
    }
    editor.hear(r#"["making","SIGTERM","cut",true,"SIGTERM"]"#);
    // What was released is nobody's any more, and the editor is not asked for it.
    assert_eq!(editor.answer(turn)["result"]["stopReason"], "end_turn");
    let refused = |it: &String| it.contains("refused: ");
    assert!(editor.updates.iter().any(refused), "{:?}", editor.updates);
    assert!(!editor.has(|frame| frame["method"] == "terminal/output"));
    editor.end();
}

#[test]
fn a_file_is_written_by_the_editor_in_control() {
    let Some(bus) = Bus::with_python() else {
        return;
    };
    let serves = json!({ "fs": { "readTextFile": true, "writeTextFile": true } });
    let mut first = Editor::ready(&bus, PY, &serves);
    let session = first.session();
    let mut second = Editor::ready(&bus, PY, &serves);
    second.load(&session);
    for (editor, other) in [(0, 1), (1, 0)] {
        let both = [&mut first, &mut second];
        let turn = both[editor].ask_prompt(&session, &["write /made/up"]);
        let asked = both[editor].asked("fs/write_text_file");
        let expected = json!({ "sessionId": session, "path": "/made/up", "content": "written" });
        assert_eq!(asked["params"], expected);
        both[editor].reply(&asked, &json!({}));
        both[editor].answer(turn);
        both[editor].hear("wrote");
        both[other].hear("wrote");
        assert!(!both[other].has(|frame| frame["method"] == "fs/write_text_file"));
    }
    first.end();
    second.end();
}

#[test]
fn what_either_side_adds_reaches_the_other() {
    let Some(bus) = Bus::with_python() else {
        return;
    };
    let mut editor = Editor::ready(&bus, PY, &json!({}));
    let new = json!({ "cwd": "/", "mcpServers": [], "_meta": { "editor": "opens" } });
    let opened = editor.call("session/new", new)["result"].clone();
    assert_eq!(opened["_meta"]["agent"], "opened", "{opened}");
    let session = opened["sessionId"].as_str().unwrap();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let prompt = json!({ "sessionId": session, "prompt": [{ "type": "text", "text": "meta" }],
        "_meta": { "editor": "prompts", "traceparent": trace } });
    let turn = editor.ask("session/prompt", prompt);
    let asked = editor.asked("session/request_permission");
    assert_eq!(asked["params"]["_meta"], json!({ "agent": "asks" }));
    let answer = json!({ "outcome": { "outcome": "selected", "optionId": "yes" },
        "_meta": { "editor": "answers" } });
    editor.reply(&asked, &answer);
    let done = editor.answer(turn);
    assert_eq!(done["result"]["_meta"], json!({ "agent": "ended" }));
    let marked =
        |it: &String| it.contains("marked") && it.contains(r#""_meta":{"agent":"speaks"}"#);
    assert!(editor.updates.iter().any(marked), "{:?}", editor.updates);
    let told = editor.find(|frame| {
        let text = &frame["params"]["update"]["content"]["text"];
        text.as_str().is_some_and(|text| text.starts_with('{'))
    });
    let told = told["params"]["update"]["content"]["text"]
        .as_str()
        .unwrap();
    let told: Value = serde_json::from_str(told).unwrap();
    assert_eq!(told["answer"], json!({ "editor": "answers" }));
    assert_eq!(told["opened"]["editor"], "opens");
    assert_eq!(told["prompt"]["editor"], "prompts");
    assert_eq!(told["prompt"]["traceparent"], trace);
    editor.end();
}
