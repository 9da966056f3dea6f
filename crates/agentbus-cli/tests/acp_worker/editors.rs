//! What editors are served: each method, the choice of agent, several at once, and bad input.

use std::io::Write;
use std::process::Stdio;
use std::time::Instant;

use serde_json::{Value, json};

use crate::bus::Bus;
use crate::editor::{Editor, PATIENCE};

fn nothing() -> Value {
    json!({})
}

fn option<'a>(answer: &'a Value, id: &str) -> &'a Value {
    let options = answer["configOptions"].as_array().unwrap();
    options.iter().find(|it| it["id"] == id).unwrap()
}

#[test]
fn every_method_is_served() {
    let bus = Bus::start();
    let mut editor = Editor::start(&bus, &[]);
    let probe = json!({ "protocolVersion": 65535, "clientCapabilities": {} });
    let told = editor.call("initialize", probe)["result"].clone();
    assert_eq!(told["protocolVersion"], 1);
    assert_eq!(told["agentCapabilities"]["loadSession"], true);
    let (first, second) = (editor.session(), editor.session());
    assert_ne!(first, second);
    let done = editor.prompt(&first, &["one", "two"]);
    assert_eq!(done["result"]["stopReason"], "end_turn");
    let mode = json!({ "sessionId": first, "modeId": "allow" });
    assert!(
        editor
            .call("session/set_mode", mode)
            .get("result")
            .is_some()
    );
    let unknown = json!({ "sessionId": first, "modeId": "nonsense" });
    assert_eq!(
        editor.call("session/set_mode", unknown)["error"]["code"],
        -32602
    );
    let set = json!({ "sessionId": first, "configId": "mode", "value": "ask" });
    let set = editor.call("session/set_config_option", set)["result"].clone();
    assert_eq!(option(&set, "mode")["currentValue"], "ask");
    assert_eq!(option(&set, "agentbus.agent")["currentValue"], "echo");
    let listed = editor.call("session/list", json!({ "cwd": "/" }))["result"].clone();
    let title = |id: &str| {
        let all = listed["sessions"].as_array().unwrap();
        all.iter().find(|it| it["sessionId"] == id).unwrap()["title"].clone()
    };
    assert_eq!((title(&first), title(&second)), (json!("one"), Value::Null));
    let elsewhere = editor.call("session/list", json!({ "cwd": "/nowhere" }));
    assert_eq!(elsewhere["result"]["sessions"], json!([]));
    let closed = editor.call("session/close", json!({ "sessionId": first }));
    assert!(closed.get("result").is_some(), "{closed}");
    let refused = editor.prompt(&first, &["three"]);
    assert_eq!(refused["error"]["code"], -32002, "{refused}");
    let resume = json!({ "sessionId": first, "cwd": "/", "mcpServers": [] });
    let said = editor.updates.len();
    assert!(
        editor
            .call("session/resume", resume)
            .get("result")
            .is_some()
    );
    assert_eq!(
        editor.transcript().len(),
        2,
        "{:?}",
        &editor.updates[said..]
    );
    editor.prompt(&first, &["three"]);
    assert!(
        editor
            .call("session/delete", json!({ "sessionId": first }))
            .get("result")
            .is_some()
    );
    assert_eq!(editor.load(&first)["error"]["code"], -32002);
    let unknown = editor.call("_somebody/else", nothing());
    assert_eq!(unknown["error"]["code"], -32601);
    let login = editor.call("authenticate", json!({ "methodId": "none" }));
    assert_eq!(login["error"]["code"], -32601);
    assert!(editor.end() > 30);
}

#[test]
fn a_cancelled_prompt_ends_and_the_next_one_works() {
    let bus = Bus::start();
    let mut editor = Editor::ready(&bus, &["--agent", "echo"], &nothing());
    let session = editor.session();
    let waiting = editor.ask_prompt(&session, &["begun", "/wait 60"]);
    let queued = editor.ask_prompt(&session, &["never said"]);
    editor.hear("begun");
    editor.notify("session/cancel", json!({ "sessionId": session }));
    for id in [waiting, queued] {
        assert_eq!(editor.answer(id)["result"]["stopReason"], "cancelled");
    }
    let withdrawn = editor.ask_prompt(&session, &["again", "/wait 60"]);
    editor.hear("again");
    editor.notify("$/cancel_request", json!({ "requestId": withdrawn }));
    let ended = editor.answer(withdrawn);
    assert_eq!(ended["result"]["stopReason"], "cancelled", "{ended}");
    assert_eq!(
        editor.prompt(&session, &["on"])["result"]["stopReason"],
        "end_turn"
    );
    editor.hear("on");
    assert!(!editor.updates.iter().any(|it| it.contains("never said")));
    editor.end();
}

#[test]
fn a_session_goes_to_the_agent_or_target_that_is_chosen() {
    let bus = Bus::start();
    let mut handler = bus
        .command(&["handle", "--stream", "shout", "--", "tr", "a-z", "A-Z"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut editor = Editor::ready(&bus, &[], &nothing());
    let begun = Instant::now();
    let (session, names) = loop {
        let opened = editor.open();
        let offered = option(&opened, "agentbus.agent")["options"].clone();
        let names = offered.as_array().unwrap().iter();
        let names: Vec<String> = names
            .map(|it| it["value"].as_str().unwrap().to_owned())
            .collect();
        let session = opened["sessionId"].as_str().unwrap().to_owned();
        // The handler takes a moment to be there.
        if names.len() > 1 || begun.elapsed() > PATIENCE {
            break (session, names);
        }
    };
    assert_eq!(names, ["echo", "shout"]);
    let session = session.as_str();
    let choose =
        |value: &str| json!({ "sessionId": session, "configId": "agentbus.agent", "value": value });
    let wrong = editor.call("session/set_config_option", choose("nobody"));
    assert_eq!(wrong["error"]["code"], -32602, "{wrong}");
    let set = editor.call("session/set_config_option", choose("shout"))["result"].clone();
    assert_eq!(option(&set, "agentbus.agent")["currentValue"], "shout");
    let done = editor.prompt(session, &["hello"]);
    assert_eq!(done["result"]["stopReason"], "end_turn", "{done}");
    editor.hear("HELLO");
    let late = editor.call("session/set_config_option", choose("echo"));
    assert_eq!(late["error"]["code"], -32600, "{late}");
    let session = session.to_owned();
    editor.end();
    let mut again = Editor::ready(&bus, &[], &nothing());
    let loaded = again.load(&session)["result"].clone();
    assert_eq!(again.transcript().len(), 2, "{:?}", again.updates);
    let offered = option(&loaded, "agentbus.agent");
    assert_eq!(offered["options"].as_array().unwrap().len(), 1);
    again.end();
    handler.kill().unwrap();
    handler.wait().unwrap();
}

#[test]
fn an_editor_of_a_tenant_has_the_targets_of_that_tenant() {
    let bus = Bus::start();
    let handle = ["handle", "--tenant", "acme", "--stream", "shout"];
    let words = [&handle[..], &["--", "tr", "a-z", "A-Z"]].concat();
    let mut handler = bus
        .command(&words)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut editor = Editor::ready(&bus, &["--tenant", "acme"], &nothing());
    let begun = Instant::now();
    let opened = loop {
        let asked = json!({ "cwd": "/", "mcpServers": [] });
        let answer = editor.call("session/new", asked);
        // The handler takes a moment to be there.
        if answer.get("result").is_some() || begun.elapsed() > PATIENCE {
            break answer["result"].clone();
        }
    };
    let offered = option(&opened, "agentbus.agent")["options"].clone();
    let names = offered.as_array().unwrap().iter();
    let names: Vec<_> = names.map(|it| it["value"].as_str().unwrap()).collect();
    assert_eq!(names, ["shout (acme)"]);
    let session = opened["sessionId"].as_str().unwrap();
    editor.prompt(session, &["hello"]);
    editor.hear("HELLO");
    editor.end();
    // The session stays there, whoever takes it up.
    let mut again = Editor::ready(&bus, &[], &nothing());
    assert!(again.load(session).get("result").is_some());
    again.prompt(session, &["again"]);
    again.hear("AGAIN");
    again.end();
    handler.kill().unwrap();
    handler.wait().unwrap();
}

#[test]
fn an_agent_that_is_not_there_is_said_so() {
    let bus = Bus::start();
    let mut editor = Editor::ready(&bus, &["--agent", "nobody"], &nothing());
    let refused = editor.call("session/new", json!({ "cwd": "/", "mcpServers": [] }));
    let sentence = refused["error"]["message"].as_str().unwrap();
    assert!(sentence.contains("choose one of: echo"), "{sentence}");
    let relative = editor.call("session/new", json!({ "cwd": "here", "mcpServers": [] }));
    assert_eq!(relative["error"]["code"], -32602);
    editor.end();
}

#[test]
fn everybody_sees_a_session_and_the_first_answer_counts() {
    let Some(bus) = Bus::with_python() else {
        return;
    };
    let agent: &[&str] = &["--agent", "py"];
    let mut first = Editor::ready(&bus, agent, &nothing());
    let session = first.session();
    let mut second = Editor::ready(&bus, agent, &nothing());
    assert!(second.load(&session).get("result").is_some());
    let turn = first.ask_prompt(&session, &["permission"]);
    let (asked, seen) = (
        first.asked("session/request_permission"),
        second.asked("session/request_permission"),
    );
    assert_eq!(asked["params"], seen["params"]);
    assert_eq!(asked["params"]["sessionId"], session.as_str());
    second.choose(&seen, "allow");
    let withdrawn = first.find(|frame| frame["method"] == "$/cancel_request");
    assert_eq!(withdrawn["params"]["requestId"], asked["id"]);
    // A late answer changes nothing.
    first.choose(&asked, "reject");
    assert_eq!(first.answer(turn)["result"]["stopReason"], "end_turn");
    first.hear("allowed with allow");
    second.hear("allowed with allow");
    // The one who asked knows what it said.
    let heard = |editor: &Editor| {
        let all = editor.updates.iter();
        all.filter(|it| it.contains("user_message_chunk")).count()
    };
    assert_eq!((heard(&first), heard(&second)), (0, 1));
    // The board answers too, and whoever comes meanwhile is asked as well.
    let turn = first.ask_prompt(&session, &["permission"]);
    first.asked("session/request_permission");
    let mut third = Editor::ready(&bus, agent, &nothing());
    third.load(&session);
    third.asked("session/request_permission");
    let listed = bus.run(&["decisions", "list"]);
    let question: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let id = question["id"].as_str().unwrap();
    assert!(
        bus.run(&["decisions", "answer", id, "reject"])
            .status
            .success()
    );
    third.find(|frame| frame["method"] == "$/cancel_request");
    assert_eq!(first.answer(turn)["result"]["stopReason"], "end_turn");
    first.hear("allowed with reject");
    for editor in [first, second, third] {
        editor.end();
    }
}

#[test]
fn files_are_asked_for_only_where_the_editor_serves_them() {
    let Some(bus) = Bus::with_python() else {
        return;
    };
    let agent: &[&str] = &["--agent", "py"];
    let serves = json!({ "fs": { "readTextFile": true, "writeTextFile": false } });
    let mut editor = Editor::ready(&bus, agent, &serves);
    let session = editor.session();
    let turn = editor.ask_prompt(&session, &["read /made/up"]);
    let asked = editor.asked("fs/read_text_file");
    assert_eq!(asked["params"]["path"], "/made/up");
    assert_eq!(asked["params"]["sessionId"], session.as_str());
    editor.reply(&asked, &json!({ "content": "from the editor" }));
    editor.answer(turn);
    editor.hear("from the editor");
    editor.end();
    let mut without = Editor::ready(&bus, agent, &nothing());
    let session = without.session();
    without.prompt(&session, &["read /made/up"]);
    let refused = |it: &String| it.contains("refused:");
    assert!(without.updates.iter().any(refused), "{:?}", without.updates);
    without.end();
}

#[test]
fn bad_input_is_answered_and_changes_nothing() {
    let bus = Bus::start();
    let mut editor = Editor::ready(&bus, &[], &nothing());
    let session = editor.session();
    editor.write("this is no message");
    assert_eq!(
        editor.find(|it| it["id"].is_null() && it["error"].is_object())["error"]["code"],
        -32700
    );
    editor.write(&"x".repeat(9 * 1024 * 1024));
    let long = editor.find(|it| it["id"].is_null() && it["error"]["code"] == -32600);
    assert!(
        long["error"]["message"]
            .as_str()
            .unwrap()
            .contains("8388608")
    );
    assert_eq!(
        editor.prompt("unknown", &["hello"])["error"]["code"],
        -32002
    );
    let wrong = editor.ask("session/list", json!({ "cursor": "nonsense" }));
    assert_eq!(editor.answer(wrong)["error"]["code"], -32602);
    // One more than may wait.
    let running = editor.ask_prompt(&session, &["/wait 60"]);
    let waiting: Vec<u64> = (0..17)
        .map(|_| editor.ask_prompt(&session, &["x"]))
        .collect();
    assert_eq!(editor.answer(waiting[16])["error"]["code"], -32600);
    editor.notify("session/cancel", json!({ "sessionId": session }));
    for id in std::iter::once(running).chain(waiting[..16].iter().copied()) {
        assert_eq!(editor.answer(id)["result"]["stopReason"], "cancelled");
    }
    // Who sends nothing but nonsense is sent away.
    editor.write(&"{\n".repeat(80));
    assert_eq!(editor.status(), Some(4));
    let mut next = Editor::ready(&bus, &[], &nothing());
    assert!(next.load(&session).get("result").is_some());
    next.end();
}

#[test]
fn an_editor_that_reads_nothing_holds_up_nobody() {
    let bus = Bus::start();
    let mut editor = Editor::ready(&bus, &[], &nothing());
    let session = editor.session();
    let mut deaf = bus
        .command(&["acp"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = deaf.stdin.take().unwrap();
    let load = json!({ "sessionId": session, "cwd": "/", "mcpServers": [] });
    for (id, method, params) in [
        (1, "initialize", json!({ "protocolVersion": 1 })),
        (2, "session/load", load),
    ] {
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        writeln!(input, "{request}").unwrap();
    }
    // More than fits into every buffer between the two.
    let block = "x".repeat(100_000);
    let done = editor.prompt(&session, &vec![block.as_str(); 60]);
    assert_eq!(done["result"]["stopReason"], "end_turn");
    let chunks = editor.transcript();
    assert!(chunks.iter().map(|it| it.len()).sum::<usize>() > 6_000_000);
    deaf.kill().unwrap();
    deaf.wait().unwrap();
    editor.end();
}

#[test]
fn a_bus_of_its_own_serves_where_none_runs() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = std::process::Command::new(crate::tap::PROGRAM)
        .current_dir(dir.path())
        .args([
            "acp",
            "--embedded",
            "--listen",
            "127.0.0.1:0",
            "--log",
            "error",
        ])
        .env("AGENTBUS_DATA_DIR", dir.path().join("data"))
        .env_remove("AGENTBUS_URL")
        .env_remove("AGENTBUS_TOKEN")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let initialize = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": { "protocolVersion": 1 } });
    let open = json!({ "jsonrpc": "2.0", "id": 2, "method": "session/new",
        "params": { "cwd": "/", "mcpServers": [] } });
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "{initialize}\n{open}").unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = said
        .lines()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    let answer = |id: u64| answers.iter().find(|it| it["id"] == id).unwrap();
    assert_eq!(answer(1)["result"]["agentInfo"]["name"], "agentbus");
    let sentence = answer(2)["error"]["message"].as_str().unwrap();
    assert!(sentence.contains("agentbus agent add"), "{sentence}");
    // A bus that is named is not made up.
    let nowhere = std::process::Command::new(crate::tap::PROGRAM)
        .args(["--url", "http://127.0.0.1:9", "acp"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(nowhere.status.code(), Some(4));
}
