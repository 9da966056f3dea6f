//! Captured tool calls of AgentChatBus 0.1.8, made again: every key and type of its answers is in
//! ours, and lists are as long. Each capture is compared, or left out by name with the reason. The
//! captures are not part of the project; where they are absent, that is said.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should say where, and one that is left out should say so"
)]

#[path = "golden/captures.rs"]
mod captures;
mod line;

use std::collections::BTreeSet;

use agentbus_chat::{Chat, Draft, ThreadId};
use agentbus_mcp::Profile;
use captures::Golden;
use line::Client;
use serde_json::{Value, json};

/// An agent in a thread, and what its next post needs.
struct Joined {
    agent: Value,
    token: Value,
    thread: Value,
    reply_token: Value,
}

#[tokio::test]
async fn tools_answer_as_agents_of_agentchatbus_know_it() {
    let Some(mut golden) = Golden::open() else {
        println!("SKIPPED: the captures of AgentChatBus are not at hand");
        return;
    };
    let mut client = Client::start().await;
    offering(&mut golden, &mut client).await;
    let joined = connecting(&mut golden, &mut client).await;
    let message = conversing(&mut golden, &mut client, &joined).await;
    refusing(&mut golden, &mut client, &joined).await;
    messages(&mut golden, &mut client, &joined, &message).await;
    threads(&mut golden, &mut client, &joined).await;
    agents(&mut golden, &mut client, &joined).await;
    beside(&mut golden, &client, &joined).await;
    golden.finish();
}

/// What a client is shown before it does anything.
async fn offering(golden: &mut Golden, client: &mut Client) {
    golden.check_value("meta", "initialize", &client.greeting["result"]);
    golden.check_value("stdio", "initialize", &client.greeting["result"]);
    for method in ["resources/list", "prompts/list"] {
        let listed = client.request(method, json!({})).await;
        golden.check_value("meta", method, &listed["result"]);
    }
    let prompts = [
        (
            "prompt summarize",
            json!({ "name": "summarize_thread",
            "arguments": { "topic": "T", "transcript": "TR" } }),
        ),
        (
            "prompt handoff",
            json!({ "name": "handoff_to_agent",
            "arguments": { "from_agent": "A", "to_agent": "B", "task_description": "D",
                "context": "C" } }),
        ),
    ];
    for (note, prompt) in prompts {
        let got = client.request("prompts/get", prompt).await;
        golden.check_value("meta", note, &got["result"]);
    }
    let unknown = client
        .request("prompts/get", json!({ "name": "zzz" }))
        .await;
    let name = "meta: unknown prompt";
    assert_eq!(golden.entry(name)["error"], unknown["error"]["message"]);
    golden.note(name.to_owned(), Vec::new());
    for uri in ["bus/config", "agents/active", "threads/active"] {
        let uri = format!("chat://{uri}");
        let read = client
            .request("resources/read", json!({ "uri": uri }))
            .await;
        golden.check_value("meta", &format!("read {uri}"), &read["result"]);
    }
    listed_tools(golden, client).await;
}

/// Whoever calls a tool as it was described may call ours.
async fn listed_tools(golden: &mut Golden, client: &Client) {
    let mut whole = client.beside(Profile::Full, None).await;
    let (mut ours, mut page) = (Vec::new(), json!({}));
    loop {
        let listed = whole.request("tools/list", page).await["result"].take();
        ours.extend(listed["tools"].as_array().unwrap().clone());
        match &listed["nextCursor"] {
            Value::Null => break,
            next => page = json!({ "cursor": next }),
        }
    }
    let name = "meta: tools/list";
    let mut found = Vec::new();
    for tool in golden.entry(name)["result"]["tools"].as_array().unwrap() {
        let Some(own) = ours.iter().find(|one| one["name"] == tool["name"]) else {
            found.push(format!("{name}: {} is missing", tool["name"]));
            continue;
        };
        let (theirs, own) = (&tool["inputSchema"], &own["inputSchema"]);
        let (needed, before) = (words(&own["required"]), words(&theirs["required"]));
        for one in needed.difference(&before) {
            found.push(format!("{name}: {} now needs {one}", tool["name"]));
        }
        for (field, _) in theirs["properties"].as_object().unwrap() {
            if own["properties"].get(field).is_none() {
                found.push(format!("{name}: {} lacks {field}", tool["name"]));
            }
        }
    }
    golden.note(name.to_owned(), found);
}

fn words(list: &Value) -> BTreeSet<String> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
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
    let anonymous = json!({ "thread_name": "Anon thread" });
    golden.check(
        "connect",
        "ide omitted",
        &client.call("bus_connect", anonymous).await,
    );
    // Back on this connection.
    let mut again = me(&joined.token);
    again["after_seq"] = json!(5);
    let note = "bus_connect resume again (rebinds connection)";
    golden.check("connect", note, &client.call("bus_connect", again).await);
    // A later join withdraws what joins gave out, and nothing else.
    joined.reply_token = Client::text(&fresh)["reply_token"].clone();
    joined
}

/// What is posted and waited for, in the order in which it was captured.
async fn conversing(golden: &mut Golden, client: &mut Client, joined: &Joined) -> Value {
    let mut first = joined.post("hello from mcp", 0, &joined.reply_token);
    first["mentions"] = json!(["zz"]);
    first["metadata"] = json!({ "handoff_target": "B", "k": 1 });
    let posted = client.call("msg_post", first).await;
    golden.check("post", "msg_post ok", &posted);
    let message = Client::text(&posted);
    let again = joined.post("again", 1, &joined.reply_token);
    let again = client.call("msg_post", again).await;
    golden.check("post", "msg_post replay", &again);
    let mut blocks = joined.wait(0, 50);
    blocks.as_object_mut().unwrap().remove("return_format");
    let blocks = client.call("msg_wait", blocks).await;
    golden.check("wait", "blocks format with message", &blocks);
    let token = |result: &Value| Client::text(result)["reply_token"].clone();
    let held = token(&blocks);
    for note in [
        "timeout (no new messages), token held -> same token",
        "timeout again -> same reply_token reused",
    ] {
        let quiet = client.call("msg_wait", joined.wait(1, 50)).await;
        golden.check("wait", note, &quiet);
        assert_eq!(token(&quiet), held, "{note}");
    }
    say(&client.chat, &joined.thread, "human interjects").await;
    let stale = client
        .call("msg_post", joined.post("stale", 1, &held))
        .await;
    golden.check("post", "seq mismatch", &stale);
    let news = client.call("msg_wait", joined.wait(1, 10_000)).await;
    golden.check("wait", "recovery: returns new messages + token", &news);
    let (chat, thread) = (client.chat.clone(), joined.thread.clone());
    let (woken, ()) = tokio::join!(
        client.call("msg_wait", joined.wait(2, 10_000)),
        say(&chat, &thread, "wake up")
    );
    golden.check("wait", "blocking wait woken by REST post after 1 s", &woken);
    let mut reply = joined.post("secret-free reply", 3, &token(&woken));
    reply["reply_to_msg_id"] = message["msg_id"].clone();
    let reply = client.call("msg_post", reply).await;
    golden.check("post", "reply with reply_to", &reply);
    message
}

/// What is not posted, and not waited for.
async fn refusing(golden: &mut Golden, client: &mut Client, joined: &Joined) {
    let next = client.call("msg_wait", joined.wait(4, 50)).await;
    golden.check("wait", "next token", &next);
    let token = Client::text(&next)["reply_token"].clone();
    let good = joined.post("x", 4, &token);
    let with = |name: &str, value: Value| {
        let mut post = good.clone();
        post[name] = value;
        post
    };
    let mut short = good.clone();
    short.as_object_mut().unwrap().remove("expected_last_seq");
    let mut nowhere = with("thread_id", json!("nope"));
    nowhere["author"] = json!("human");
    let posts = [
        (
            "content filter",
            with("content", json!("AKIAABCDEFGHIJKLMNOP")),
        ),
        ("bad reply_to", with("reply_to_msg_id", json!("nope"))),
        ("missing sync fields (schema validation)", short),
        ("bad enum role", with("role", json!("boss"))),
        ("unknown thread", nowhere),
    ];
    for (note, post) in posts {
        golden.check("post", note, &client.call("msg_post", post).await);
    }
    let wait = |more: Value| {
        let mut ask = json!({ "thread_id": joined.thread, "after_seq": 0, "timeout_ms": 50 });
        let more = more.as_object().unwrap().clone();
        ask.as_object_mut().unwrap().extend(more);
        ask
    };
    let waits = [
        (
            "only agent_id supplied",
            wait(json!({ "agent_id": joined.agent })),
        ),
        (
            "bad token",
            wait(json!({ "agent_id": joined.agent, "token": "bad" })),
        ),
        ("missing after_seq", json!({ "thread_id": joined.thread })),
    ];
    for (note, ask) in waits {
        golden.check("wait", note, &client.call("msg_wait", ask).await);
    }
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
    golden.check("thread", "tool absent in 0.1.8? zzz_unknown", &unknown);
}

/// What clients with connections of their own are answered: one that says nothing of itself, and
/// one on standard input and output.
async fn beside(golden: &mut Golden, client: &Client, joined: &Joined) {
    let mut stranger = client.beside(Profile::Core, None).await;
    let wait = json!({ "thread_id": joined.thread, "after_seq": 0, "timeout_ms": 10_000,
        "return_format": "json" });
    let heard = stranger.call("msg_wait", wait).await;
    golden.check("wait", "anonymous msg_wait", &heard);

    let mut other = client.beside(Profile::Core, Some("Japanese")).await;
    let config = other.call("bus_get_config", json!({})).await;
    let note = "--lang sets preferred_language on stdio";
    golden.check("stdio", note, &config);
    assert_eq!(Client::text(&config)["preferred_language"], "Japanese");
    let join = json!({ "thread_name": "via stdio", "ide": "CLI", "model": "m" });
    let connected = other.call("bus_connect", join).await;
    golden.check(
        "stdio",
        "connect over stdio (own process, same DB file)",
        &connected,
    );
    let said = Client::text(&connected);
    let thread = &said["thread"]["thread_id"];
    let post = json!({ "thread_id": thread, "author": said["agent"]["agent_id"], "content": "x",
        "expected_last_seq": 0, "reply_token": said["reply_token"] });
    let posted = other.call("msg_post", post).await;
    golden.check("stdio", "post over stdio", &posted);
    let posted = Client::text(&posted);
    let wait = json!({ "thread_id": thread, "after_seq": posted["seq"], "timeout_ms": 50,
        "return_format": "json" });
    let waited = other.call("msg_wait", wait).await;
    golden.check("stdio", "wait without credentials", &waited);
    let edit = json!({ "message_id": posted["msg_id"], "new_content": "y" });
    let edited = other.call("msg_edit", edit).await;
    golden.check("stdio", "edit over stdio", &edited);
}

impl Joined {
    fn post(&self, content: &str, seen: i64, token: &Value) -> Value {
        json!({ "thread_id": self.thread, "author": self.agent, "content": content,
            "expected_last_seq": seen, "reply_token": token, "role": "assistant" })
    }

    fn wait(&self, after: i64, timeout_ms: u64) -> Value {
        json!({ "thread_id": self.thread, "after_seq": after, "timeout_ms": timeout_ms,
            "agent_id": self.agent, "token": self.token, "return_format": "json" })
    }
}

/// A person posts over another gateway.
async fn say(chat: &Chat, thread: &Value, text: &str) {
    let thread = ThreadId::new(thread.as_str().unwrap());
    chat.post(Draft::new(thread, "human", text)).await.unwrap();
}
