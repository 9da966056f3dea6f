//! Captured tool calls of AgentChatBus 0.1.8, made again: every key and type of its answers is in
//! ours. The captures are not part of the project; where they are absent, that is said.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should say where, and one that is left out should say so"
)]

mod line;

use std::path::{Path, PathBuf};

use agentbus_chat::{Draft, ThreadId};
use line::Client;
use serde_json::{Value, json};

/// Where the captures are, if they are at hand.
fn captures() -> Option<PathBuf> {
    let named = std::env::var_os("AGENTBUS_GOLDEN").map(PathBuf::from);
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden");
    let directory = named.unwrap_or(usual).join("agentchatbus");
    directory.is_dir().then_some(directory)
}

/// The captures, and what was compared with them.
struct Golden {
    directory: PathBuf,
    compared: Vec<String>,
}

impl Golden {
    fn entry(&self, file: &str, note: &str) -> Value {
        let path = self.directory.join(format!("py018-mcp-{file}.json"));
        let text = std::fs::read_to_string(path).unwrap();
        let entries: Vec<Value> = serde_json::from_str(&text).unwrap();
        let found = entries.into_iter().find(|entry| entry["note"] == note);
        found.unwrap_or_else(|| panic!("there is no capture {file}: {note}"))["result"].clone()
    }

    /// Compares an answer with the capture of this name.
    fn check(&mut self, file: &str, note: &str, ours: &Value) {
        let golden = self.entry(file, note);
        assert_eq!(golden["isError"], ours["isError"], "{file}: {note}: {ours}");
        // The first block says how it went; those after it are what people wrote.
        let text = |result: &Value| {
            result["content"][0]["text"]
                .as_str()
                .unwrap_or("")
                .to_owned()
        };
        let (theirs, own) = (text(&golden), text(ours));
        let first = |text: &str| text.split([':', ' ']).next().unwrap_or("").to_owned();
        match serde_json::from_str::<Value>(&theirs) {
            Ok(theirs) => {
                let own: Value = serde_json::from_str(&own).unwrap();
                fits(&format!("{file}: {note}"), &theirs, &own);
            }
            Err(_) => assert_eq!(first(&theirs), first(&own), "{file}: {note}"),
        }
        self.compared.push(format!("{file}: {note}"));
    }
}

/// Whether a value has everything that the captured one has, in the same types. What is named an
/// error or an action is the same word for word.
fn fits(place: &str, theirs: &Value, own: &Value) {
    match (theirs, own) {
        (Value::Null, _) => {}
        (Value::Object(theirs), Value::Object(own)) => {
            for (key, value) in theirs {
                let place = format!("{place}.{key}");
                // A guide for programs that read English; ours has other words, and no migration.
                if key == "migration_examples" || key == "timeline" {
                    continue;
                }
                let Some(mine) = own.get(key) else {
                    panic!("{place} is missing in {own:?}");
                };
                if ["error", "action"].contains(&key.as_str()) {
                    assert_eq!(value, mine, "{place}");
                }
                fits(&place, value, mine);
            }
        }
        (Value::Array(theirs), Value::Array(own)) => {
            if let (Some(first), Some(mine)) = (theirs.first(), own.first()) {
                fits(&format!("{place}[0]"), first, mine);
            }
            assert_eq!(theirs.is_empty(), own.is_empty(), "{place}");
        }
        _ => assert_eq!(
            std::mem::discriminant(theirs),
            std::mem::discriminant(own),
            "{place}: {theirs} and {own}"
        ),
    }
}

/// An agent in a thread, and what its next post needs.
struct Joined {
    agent: Value,
    token: Value,
    thread: Value,
    reply_token: Value,
}

#[tokio::test]
async fn tools_answer_as_agents_of_agentchatbus_know_it() {
    let Some(directory) = captures() else {
        println!("SKIPPED: the captures of AgentChatBus are not at hand");
        return;
    };
    let mut golden = Golden {
        directory,
        compared: Vec::new(),
    };
    let mut client = Client::start().await;
    let joined = connecting(&mut golden, &mut client).await;
    let message = posting(&mut golden, &mut client, &joined).await;
    waiting(&mut golden, &mut client, &joined).await;
    messages(&mut golden, &mut client, &joined, &message).await;
    agents(&mut golden, &mut client, &joined).await;
    threads(&mut golden, &mut client, &joined).await;
    println!("{} captures compared", golden.compared.len());
    assert!(golden.compared.len() >= 50);
}

async fn connecting(golden: &mut Golden, client: &mut Client) -> Joined {
    let ask = json!({ "thread_name": "Golden", "ide": "Cursor", "model": "Claude",
        "capabilities": ["code"], "skills": [{ "id": "s", "name": "S" }], "description": "d" });
    let created = client.call("bus_connect", ask).await;
    golden.check("connect", "bus_connect creates thread", &created);
    let said = Client::text(&created);
    let mut joined = Joined {
        agent: said["agent"]["agent_id"].clone(),
        token: said["agent"]["token"].clone(),
        thread: said["thread"]["thread_id"].clone(),
        reply_token: Value::Null,
    };
    let missing = client.call("bus_connect", json!({ "ide": "x" })).await;
    golden.check("connect", "bus_connect missing thread_name", &missing);
    let me = |token: &Value| json!({ "thread_name": "Golden", "agent_id": joined.agent, "token": token });
    let bad = client.call("bus_connect", me(&json!("bad"))).await;
    golden.check("connect", "bus_connect bad resume", &bad);
    let again = client.call("bus_connect", me(&joined.token)).await;
    golden.check("connect", "bus_connect resume same agent", &again);
    let stale = json!({ "thread_id": joined.thread, "author": joined.agent, "content": "x",
        "expected_last_seq": 0, "reply_token": said["reply_token"] });
    let stale = client.call("msg_post", stale).await;
    golden.check(
        "post",
        "post with stale (invalidated) bus_connect token",
        &stale,
    );
    let wrong = json!({ "thread_name": "Golden", "capabilities": "x" });
    let wrong = client.call("bus_connect", wrong).await;
    golden.check("connect", "capabilities not an array", &wrong);
    let wait = json!({ "thread_id": joined.thread, "after_seq": 0, "timeout_ms": 5000,
        "agent_id": joined.agent, "token": joined.token, "return_format": "json" });
    let fresh = client.call("msg_wait", wait).await;
    let note = "msg_wait after failed post returns at once with fresh token";
    golden.check("wait", note, &fresh);
    joined.reply_token = Client::text(&fresh)["reply_token"].clone();
    let anonymous = json!({ "thread_name": "Anon thread" });
    golden.check(
        "connect",
        "ide omitted",
        &client.call("bus_connect", anonymous).await,
    );
    // Back on this connection.
    client
        .call(
            "bus_connect",
            json!({ "thread_name": "Elsewhere", "agent_id": joined.agent,
        "token": joined.token }),
        )
        .await;
    joined
}

async fn posting(golden: &mut Golden, client: &mut Client, joined: &Joined) -> Value {
    let post = |content: &str, seq: i64, token: &Value| {
        json!({ "thread_id": joined.thread, "author": joined.agent, "content": content,
            "expected_last_seq": seq, "reply_token": token, "role": "assistant" })
    };
    let mut first = post("hello from mcp", 0, &joined.reply_token);
    first["mentions"] = json!(["zz"]);
    first["metadata"] = json!({ "handoff_target": "B", "k": 1 });
    let posted = client.call("msg_post", first).await;
    golden.check("post", "msg_post ok", &posted);
    let message = Client::text(&posted);
    let again = client
        .call("msg_post", post("again", 1, &joined.reply_token))
        .await;
    golden.check("post", "msg_post replay", &again);
    let token = client.fresh_token(joined.thread.clone(), 1).await;
    client.person(&joined.thread, "human interjects").await;
    let stale = client.call("msg_post", post("stale", 1, &token)).await;
    golden.check("post", "seq mismatch", &stale);
    let token = client.fresh_token(joined.thread.clone(), 2).await;
    let mut bad = post("x", 2, &token);
    bad["reply_to_msg_id"] = json!("nope");
    golden.check("post", "bad reply_to", &client.call("msg_post", bad).await);
    let secret = post("AKIAABCDEFGHIJKLMNOP", 2, &token);
    golden.check(
        "post",
        "content filter",
        &client.call("msg_post", secret).await,
    );
    let mut reply = post("secret-free reply", 2, &token);
    reply["reply_to_msg_id"] = message["msg_id"].clone();
    golden.check(
        "post",
        "reply with reply_to",
        &client.call("msg_post", reply).await,
    );
    let mut short = post("x", 0, &token);
    short.as_object_mut().unwrap().remove("expected_last_seq");
    let note = "missing sync fields (schema validation)";
    golden.check("post", note, &client.call("msg_post", short).await);
    let mut boss = post("x", 1, &token);
    boss["role"] = json!("boss");
    golden.check(
        "post",
        "bad enum role",
        &client.call("msg_post", boss).await,
    );
    let mut nowhere = post("x", 0, &token);
    nowhere["thread_id"] = json!("nope");
    nowhere["author"] = json!("human");
    golden.check(
        "post",
        "unknown thread",
        &client.call("msg_post", nowhere).await,
    );
    message
}

async fn waiting(golden: &mut Golden, client: &mut Client, joined: &Joined) {
    let wait = |after: i64, more: Value| {
        let mut ask = json!({ "thread_id": joined.thread, "after_seq": after, "timeout_ms": 50 });
        ask.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        ask
    };
    let me = json!({ "agent_id": joined.agent, "token": joined.token });
    let blocks = client.call("msg_wait", wait(0, me.clone())).await;
    golden.check("wait", "blocks format with message", &blocks);
    let half = client
        .call("msg_wait", wait(0, json!({ "agent_id": joined.agent })))
        .await;
    golden.check("wait", "only agent_id supplied", &half);
    let bad = json!({ "agent_id": joined.agent, "token": "bad" });
    golden.check(
        "wait",
        "bad token",
        &client.call("msg_wait", wait(0, bad)).await,
    );
    let short = json!({ "thread_id": joined.thread });
    golden.check(
        "wait",
        "missing after_seq",
        &client.call("msg_wait", short).await,
    );
    let mut json = me;
    json["return_format"] = json!("json");
    let news = client.call("msg_wait", wait(1, json.clone())).await;
    golden.check("wait", "recovery: returns new messages + token", &news);
    let quiet = client.call("msg_wait", wait(3, json.clone())).await;
    golden.check(
        "wait",
        "timeout (no new messages), token held -> same token",
        &quiet,
    );
    let again = client.call("msg_wait", wait(3, json)).await;
    let token = |result: &Value| Client::text(result)["reply_token"].clone();
    assert_eq!(
        token(&quiet),
        token(&again),
        "a wait that brought nothing keeps the token"
    );
}

async fn messages(golden: &mut Golden, client: &mut Client, joined: &Joined, message: &Value) {
    let list = json!({ "thread_id": joined.thread, "return_format": "json" });
    golden.check(
        "list",
        "msg_list json",
        &client.call("msg_list", list).await,
    );
    let list = json!({ "thread_id": joined.thread, "after_seq": 0, "limit": 2 });
    golden.check(
        "list",
        "msg_list blocks",
        &client.call("msg_list", list).await,
    );
    let id = &message["msg_id"];
    let get = client.call("msg_get", json!({ "message_id": id })).await;
    golden.check("list", "msg_get", &get);
    let none = json!({ "message_id": "nope" });
    golden.check(
        "list",
        "msg_get missing",
        &client.call("msg_get", none.clone()).await,
    );
    let history = client
        .call("msg_edit_history", json!({ "message_id": id }))
        .await;
    golden.check("edit", "history", &history);
    let missing = client.call("msg_edit_history", none).await;
    golden.check("edit", "history missing", &missing);
    let edit = json!({ "message_id": "nope", "new_content": "z" });
    golden.check("edit", "edit missing", &client.call("msg_edit", edit).await);
    let react = json!({ "message_id": id, "agent_id": joined.agent, "reaction": "agree" });
    golden.check(
        "react",
        "react",
        &client.call("msg_react", react.clone()).await,
    );
    golden.check(
        "react",
        "react dup",
        &client.call("msg_react", react.clone()).await,
    );
    let mut gone = react.clone();
    gone["message_id"] = json!("nope");
    golden.check(
        "react",
        "react missing msg",
        &client.call("msg_react", gone).await,
    );
    golden.check(
        "react",
        "unreact",
        &client.call("msg_unreact", react.clone()).await,
    );
    golden.check(
        "react",
        "unreact again",
        &client.call("msg_unreact", react).await,
    );
}

async fn agents(golden: &mut Golden, client: &mut Client, joined: &Joined) {
    let new = json!({ "ide": "Cursor", "model": "Claude" });
    let registered = client.call("agent_register", new).await;
    golden.check("agent", "register", &registered);
    let said = Client::text(&registered);
    let who = json!({ "agent_id": said["agent_id"], "token": said["token"] });
    let bad = json!({ "agent_id": said["agent_id"], "token": "b" });
    for (tool, good, wrong) in [
        ("agent_heartbeat", "heartbeat", "heartbeat bad"),
        ("agent_resume", "resume", "resume bad"),
    ] {
        golden.check("agent", good, &client.call(tool, who.clone()).await);
        golden.check("agent", wrong, &client.call(tool, bad.clone()).await);
    }
    let mut update = who.clone();
    update["display_name"] = json!("Zed");
    update["capabilities"] = json!(["q"]);
    golden.check(
        "agent",
        "update",
        &client.call("agent_update", update).await,
    );
    golden.check(
        "agent",
        "update bad",
        &client.call("agent_update", bad).await,
    );
    let typing = json!({ "thread_id": joined.thread, "agent_id": said["agent_id"],
        "is_typing": true });
    golden.check(
        "agent",
        "typing",
        &client.call("agent_set_typing", typing).await,
    );
    golden.check("agent", "list", &client.call("agent_list", json!({})).await);
    golden.check(
        "agent",
        "unregister",
        &client.call("agent_unregister", who.clone()).await,
    );
    golden.check(
        "agent",
        "unregister again",
        &client.call("agent_unregister", who).await,
    );
}

async fn threads(golden: &mut Golden, client: &mut Client, joined: &Joined) {
    golden.check(
        "template",
        "list",
        &client.call("template_list", json!({})).await,
    );
    let get = json!({ "template_id": "code-review" });
    golden.check("template", "get", &client.call("template_get", get).await);
    let missing = json!({ "template_id": "zz" });
    golden.check(
        "template",
        "get missing",
        &client.call("template_get", missing).await,
    );
    // The captured run named it so in the error, too.
    let new = json!({ "id": "t-py018-mcp", "name": "N", "system_prompt": "P",
        "default_metadata": { "a": 1 } });
    golden.check(
        "template",
        "create",
        &client.call("template_create", new.clone()).await,
    );
    golden.check(
        "template",
        "create dup",
        &client.call("template_create", new).await,
    );
    let create = |agent: &Value, token: Value| json!({ "topic": "MCP T2", "agent_id": agent, "token": token, "template": "t-py018-mcp" });
    let made = client
        .call("thread_create", create(&joined.agent, joined.token.clone()))
        .await;
    golden.check("thread", "thread_create", &made);
    let cases = [
        ("thread_create bad token", joined.agent.clone(), "bad"),
        ("thread_create unknown agent", json!("zz"), "bad"),
        ("thread_create empty token", joined.agent.clone(), ""),
    ];
    for (note, agent, token) in cases {
        let refused = client
            .call("thread_create", create(&agent, json!(token)))
            .await;
        golden.check("thread", note, &refused);
    }
    golden.check(
        "thread",
        "thread_list",
        &client.call("thread_list", json!({})).await,
    );
    let one = client.call("thread_list", json!({ "limit": 1 })).await;
    golden.check("thread", "thread_list limit", &one);
    let id = Client::text(&made)["thread_id"].clone();
    let get = client.call("thread_get", json!({ "thread_id": id })).await;
    golden.check("thread", "thread_get", &get);
    let missing = client
        .call("thread_get", json!({ "thread_id": "nope" }))
        .await;
    golden.check("thread", "thread_get missing", &missing);
    for (note, thread, confirm) in [
        ("thread_delete no confirm", &id, false),
        ("thread_delete", &id, true),
        ("thread_delete missing", &json!("nope"), true),
    ] {
        let ask = json!({ "thread_id": thread, "confirm": confirm });
        golden.check("thread", note, &client.call("thread_delete", ask).await);
    }
    golden.check(
        "config",
        "bus_get_config",
        &client.call("bus_get_config", json!({})).await,
    );
    let unknown = client.call("zzz_unknown", json!({})).await;
    let said = &unknown["content"][0]["text"];
    assert_eq!(said, &json!("{\"error\":\"Unknown tool: zzz_unknown\"}"));
}

impl Client {
    /// What a wait gives an agent that has seen so much, also after a refused post.
    async fn fresh_token(&mut self, thread: Value, after: i64) -> Value {
        let wait = json!({ "thread_id": thread, "after_seq": after, "timeout_ms": 1000,
            "return_format": "json" });
        Self::text(&self.call("msg_wait", wait).await)["reply_token"].clone()
    }

    /// A person posts over another gateway.
    async fn person(&self, thread: &Value, text: &str) {
        let thread = ThreadId::new(thread.as_str().unwrap());
        self.chat
            .post(Draft::new(thread, "human", text))
            .await
            .unwrap();
    }
}
