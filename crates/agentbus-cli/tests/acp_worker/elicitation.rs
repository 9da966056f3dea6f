//! What an agent asks a person for beside permissions, as editors are asked for it.

use serde_json::{Value, json};

use crate::bus::Bus;
use crate::editor::Editor;

const PY: &[&str] = &["--agent", "py"];

fn asks(modes: &Value) -> Value {
    json!({ "elicitation": modes })
}

/// What waits on the board, the only thing there.
fn on_board(bus: &Bus) -> Value {
    let listed = bus.run(&["decisions", "list"]).stdout;
    serde_json::from_slice(&listed).unwrap()
}

fn withdrawn(editor: &mut Editor, asked: &Value) {
    let told = editor.find(|frame| frame["method"] == "$/cancel_request");
    assert_eq!(told["params"]["requestId"], asked["id"]);
}

#[test]
fn a_form_goes_to_the_editors_that_show_forms_and_the_first_answer_counts() {
    let Some(bus) = Bus::with_python() else {
        return;
    };
    let mut first = Editor::ready(&bus, PY, &asks(&json!({ "form": {} })));
    let session = first.session();
    let mut second = Editor::ready(&bus, PY, &asks(&json!({ "form": {}, "url": {} })));
    let mut without = Editor::ready(&bus, PY, &asks(&json!({ "url": {} })));
    second.load(&session);
    without.load(&session);
    let turn = first.ask_prompt(&session, &["form"]);
    let asked = first.asked("elicitation/create");
    let seen = second.asked("elicitation/create");
    let expected = json!({ "mode": "form", "sessionId": session, "toolCallId": "t9",
        "message": "How old?", "requestedSchema": { "type": "object", "required": ["age"],
            "properties": { "age": { "type": "integer", "minimum": 0 } } } });
    assert_eq!((&asked["params"], &seen["params"]), (&expected, &expected));
    let question = on_board(&bus);
    assert_eq!(question["type"], "form", "{question}");
    // What does not fit the form is no answer.
    let wrong = json!({ "action": "accept", "content": { "age": "old" } });
    first.reply(&asked, &wrong);
    let filled = json!({ "action": "accept", "content": { "age": 36 } });
    second.reply(&seen, &filled);
    first.hear(r#"{"action":"accept","content":{"age":36}}"#);
    assert_eq!(first.answer(turn)["result"]["stopReason"], "end_turn");
    let id = question["id"].as_str().unwrap();
    let late = bus.run(&["decisions", "answer", id, "decline"]);
    let told = String::from_utf8_lossy(&late.stderr).into_owned();
    assert!(!late.status.success() && told.contains("accept"), "{told}");
    without.hear(r#"{"action":"accept","content":{"age":36}}"#);
    let method = |it: &Value| it["method"] == "elicitation/create";
    assert!(!without.has(method), "an editor without forms was asked");
    for editor in [first, second, without] {
        editor.end();
    }
}

#[test]
fn the_board_answers_a_form_and_the_editor_is_told() {
    let Some(bus) = Bus::with_python() else {
        return;
    };
    let forms = asks(&json!({ "form": {} }));
    let mut editor = Editor::ready(&bus, PY, &forms);
    let session = editor.session();
    let turn = editor.ask_prompt(&session, &["form"]);
    let asked = editor.asked("elicitation/create");
    let question = on_board(&bus);
    let id = question["id"].as_str().unwrap();
    let answer = ["decisions", "answer", id, "accept", "--content"];
    let answered = bus.run(&[&answer[..], &[r#"{"age":7}"#]].concat());
    assert!(answered.status.success(), "{answered:?}");
    withdrawn(&mut editor, &asked);
    editor.hear(r#"{"action":"accept","content":{"age":7}}"#);
    editor.answer(turn);
    // A late answer changes nothing.
    editor.reply(&asked, &json!({ "action": "decline" }));

    // The last who dismisses it withdraws it; one that is killed leaves it to who comes.
    editor.ask_prompt(&session, &["form"]);
    editor.asked("elicitation/create");
    let mut back = Editor::ready(&bus, PY, &forms);
    back.load(&session);
    let asked = back.asked("elicitation/create");
    editor.kill();
    back.reply(&asked, &json!({ "action": "cancel" }));
    back.hear(r#"{"action":"cancel"}"#);
    assert!(bus.run(&["decisions", "list"]).stdout.is_empty());

    // A cancelled turn takes its question back.
    let turn = back.ask_prompt(&session, &["form"]);
    let asked = back.asked("elicitation/create");
    back.notify("session/cancel", json!({ "sessionId": session }));
    withdrawn(&mut back, &asked);
    assert_eq!(back.answer(turn)["result"]["stopReason"], "cancelled");
    assert!(bus.run(&["decisions", "list"]).stdout.is_empty());
    back.end();
}

#[test]
fn an_address_goes_to_the_editor_which_hears_when_it_is_done() {
    let Some(bus) = Bus::with_python() else {
        return;
    };
    let mut editor = Editor::ready(&bus, PY, &asks(&json!({ "url": {} })));
    let mut forms = Editor::ready(&bus, PY, &asks(&json!({ "form": {} })));
    let session = editor.session();
    forms.load(&session);
    let turn = editor.ask_prompt(&session, &["visit"]);
    let asked = editor.asked("elicitation/create");
    let params = &asked["params"];
    assert_eq!(params["url"], "https://example.org/login", "{asked}");
    // Another agent of this editor's may use the same name.
    let name = params["elicitationId"].clone();
    assert_ne!(name, "login");
    assert_eq!(on_board(&bus)["url"], "https://example.org/login");
    editor.reply(&asked, &json!({ "action": "accept" }));
    editor.answer(turn);
    editor.hear(r#"{"action":"accept"}"#);
    let turn = editor.ask_prompt(&session, &["visited"]);
    let done = editor.find(|frame| frame["method"] == "elicitation/complete");
    assert_eq!(done["params"]["elicitationId"], name);
    editor.answer(turn);
    // It is told once, and only to those who can show addresses.
    editor.prompt(&session, &["visited"]);
    forms.hear(r#"{"action":"accept"}"#);
    for mut editor in [editor, forms] {
        editor.prompt(&session, &["count"]);
        let method = |it: &Value| {
            let method = it["method"].as_str().unwrap_or_default();
            method.starts_with("elicitation/")
        };
        assert!(!editor.has(method));
        editor.end();
    }
}
