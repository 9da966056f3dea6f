//! What crosses the launcher, line by line.

use super::*;

const INDEX: &str = r#"{"version":"1","agents":[
  {"id":"a","name":"A","version":"1.0.0","distribution":{"npx":{"package":"a"}},
   "mcpServers":[{"name":"s","command":"c","env":{"K":"v"}},{"name":"mine","command":"theirs"}]},
  {"id":"b","name":"B","version":"1.0.0","distribution":{"npx":{"package":"b"}}},
  {"id":"locked","name":"L","version":"1.0.0","distribution":{"npx":{"package":"l"}},"authRequired":true,
   "authMethods":[{"id":"key","type":"api-key"}]},
  {"id":"broken"}
]}"#;

/// One provider, whose tokens the second agent gets.
fn logins() -> Logins {
    Logins {
        providers: vec!["work".to_owned()],
        of: HashMap::from([("b".to_owned(), "work".to_owned())]),
    }
}

fn router() -> Router {
    Router::new(Index::parse(INDEX).unwrap(), None, Vec::new(), logins())
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

fn answer(step: Step) -> Value {
    match step {
        Step::Answer(line) => parsed(&line),
        other => panic!("no answer: {other:?}"),
    }
}

fn forwarded(step: Step) -> (String, Value) {
    match step {
        Step::Forward { agent, line, .. } => (agent, parsed(&line)),
        other => panic!("not passed on: {other:?}"),
    }
}

#[test]
fn refusals_have_their_codes() {
    let mut router = router();
    for (line, code) in [
        ("no json", -32700),
        ("[]", -32700),
        (r#"{"id":1,"method":"session/new"}"#, -32600),
        (r#"{"id":1,"method":"x","agentId":"nobody"}"#, -32001),
        (r#"{"id":1,"method":"x","agentId":"broken"}"#, -32001),
        (r#"{"id":1,"method":"x","agentId":"locked"}"#, -32004),
        (r#"{"id":99,"result":{}}"#, -32600),
    ] {
        assert_eq!(
            answer(router.client_said(line))["error"]["code"],
            code,
            "{line}"
        );
    }
    let login =
        answer(router.client_said(r#"{"id":1,"sessionId":"r","method":"x","agentId":"locked"}"#));
    assert_eq!(login["error"]["data"]["supportedMethods"][0]["id"], "key");
    assert_eq!(login["sessionId"], "r");
    // Nobody waits for the answer to a notification.
    assert_eq!(router.client_said(r#"{"method":"x"}"#), Step::Nothing);
}

#[test]
fn the_launcher_introduces_itself_to_who_names_no_agent() {
    let said = answer(router().client_said(r#"{"id":"i","method":"initialize","params":{}}"#));
    assert_eq!(
        (&said["id"], &said["result"]["protocolVersion"]),
        (&json!("i"), &json!(1))
    );
}

#[test]
fn an_agent_by_default_serves_plain_clients() {
    let mut router = Router::new(
        Index::parse(INDEX).unwrap(),
        Some("b".to_owned()),
        Vec::new(),
        logins(),
    );
    assert_eq!(
        forwarded(router.client_said(r#"{"id":1,"method":"initialize"}"#)).0,
        "b"
    );
}

#[test]
fn two_clients_with_one_id_get_their_own_answers() {
    let mut router = router();
    let ask = |router: &mut Router, routing: &str| {
        let line = json!({ "id": 1, "method": "m", "agentId": "a", "sessionId": routing });
        forwarded(router.client_said(&line.to_string())).1
    };
    let (first, second) = (ask(&mut router, "one"), ask(&mut router, "two"));
    assert_ne!(first["id"], second["id"]);
    assert!(first.get("agentId").is_none() && first.get("sessionId").is_none());
    for (asked, routing) in [(&second, "two"), (&first, "one")] {
        let line = json!({ "jsonrpc": "2.0", "id": asked["id"], "result": routing }).to_string();
        // Another agent cannot answer in its place.
        assert_eq!(router.agent_said("b", &line), Step::Nothing);
        let said = answer(router.agent_said("a", &line));
        assert_eq!(
            said,
            json!({ "jsonrpc": "2.0", "id": 1, "result": routing, "sessionId": routing })
        );
        assert_eq!(router.agent_said("a", &line), Step::Nothing);
    }
}

#[test]
fn questions_of_two_agents_reach_the_client_and_their_answers_find_back() {
    let mut router = router();
    let cancelled = json!({ "outcome": { "outcome": "cancelled" } });
    for (method, result) in [
        ("session/request_permission", cancelled),
        ("fs/read_text_file", json!({ "content": "text" })),
        ("fs/write_text_file", json!({})),
        ("terminal/create", json!({ "terminalId": "t" })),
        ("elicitation/create", json!({ "action": "decline" })),
        ("_of/its/own", json!([1])),
    ] {
        let question = json!({ "id": 0, "method": method, "params": { "sessionId": "s", "a": 1 } });
        let ask =
            |router: &mut Router, agent| answer(router.agent_said(agent, &question.to_string()));
        let (of_a, of_b) = (ask(&mut router, "a"), ask(&mut router, "b"));
        assert_ne!(of_a["id"], of_b["id"]);
        assert_eq!(
            (&of_a["method"], &of_a["params"]),
            (&question["method"], &question["params"])
        );
        for (asked, agent) in [(&of_b, "b"), (&of_a, "a")] {
            let line = json!({ "jsonrpc": "2.0", "id": asked["id"], "result": result });
            let (to, said) = forwarded(router.client_said(&line.to_string()));
            assert_eq!((to.as_str(), &said["id"]), (agent, &json!(0)));
            assert_eq!(said["result"], result, "{method}");
        }
    }
}

#[test]
fn notifications_carry_the_routing_id_of_their_session() {
    let mut router = router();
    let new = r#"{"id":1,"method":"session/new","agentId":"a","sessionId":"r","params":{}}"#;
    let asked = forwarded(router.client_said(new)).1;
    let made = json!({ "id": asked["id"], "result": { "sessionId": "acp" } }).to_string();
    router.agent_said("a", &made);
    let update = r#"{"method":"session/update","params":{"sessionId":"acp"}}"#;
    assert_eq!(answer(router.agent_said("a", update))["sessionId"], "r");
    // A session of the same name at another agent is another one.
    assert!(
        answer(router.agent_said("b", update))
            .get("sessionId")
            .is_none()
    );
}

#[test]
fn a_new_session_gets_the_servers_of_the_registry_and_keeps_its_own() {
    let own = json!({ "name": "mine", "command": "own", "args": [], "env": [] });
    let line = json!({ "id": 1, "method": "session/new", "agentId": "a", "params": { "cwd": "/", "mcpServers": [own] } });
    let asked = forwarded(router().client_said(&line.to_string())).1;
    let added =
        json!({ "name": "s", "command": "c", "args": [], "env": [{ "name": "K", "value": "v" }] });
    assert_eq!(asked["params"]["mcpServers"], json!([own, added]));
}

#[test]
fn a_cancellation_names_the_request_as_the_agent_knows_it() {
    let mut router = router();
    let asked =
        forwarded(router.client_said(r#"{"id":"p","method":"session/prompt","agentId":"a"}"#)).1;
    let cancel = r#"{"method":"$/cancel_request","agentId":"a","params":{"requestId":"p"}}"#;
    let said = forwarded(router.client_said(cancel)).1;
    assert_eq!(said["params"]["requestId"], asked["id"]);
}

#[test]
fn what_a_dead_agent_was_asked_is_answered_at_once() {
    let mut router = router();
    for (id, agent) in [(1, "a"), (2, "b"), (3, "a")] {
        router.client_said(&json!({ "id": id, "method": "m", "agentId": agent }).to_string());
    }
    let said = router.gone("a", &Refusal::ended("a", "exit code 1"));
    let ids: Vec<_> = said.iter().map(|line| parsed(line)["id"].clone()).collect();
    assert_eq!(ids, [1, 3]);
    assert_eq!(parsed(&said[0])["error"]["data"]["ended"], "exit code 1");
    assert!(router.gone("a", &Refusal::ended("a", "again")).is_empty());
}

#[test]
fn the_launcher_offers_its_logins_and_takes_them_back() {
    let mut router = router();
    let params = json!({ "clientCapabilities": { "auth": { "terminal": true } } });
    let own = json!({ "id": 1, "method": "initialize", "params": params });
    let said = answer(router.client_said(&own.to_string()));
    let methods = said["result"]["authMethods"].as_array().unwrap();
    let ids: Vec<_> = methods.iter().map(|method| &method["id"]).collect();
    assert_eq!(ids, ["oauth2-work", "terminal-setup"]);
    // Only to who can run it.
    let said = answer(router.client_said(r#"{"id":1,"method":"initialize"}"#));
    assert_eq!(said["result"]["authMethods"].as_array().unwrap().len(), 1);

    let wanted =
        r#"{"id":7,"sessionId":"r","method":"authenticate","params":{"methodId":"oauth2-work"}}"#;
    match router.client_said(wanted) {
        Step::LogIn { provider, asker } => {
            assert_eq!(provider, "work");
            let said = parsed(&asker.answered(&json!({})));
            assert_eq!(
                said,
                json!({ "jsonrpc": "2.0", "id": 7, "result": {}, "sessionId": "r" })
            );
        }
        other => panic!("no login: {other:?}"),
    }
    // A method of the agent's own is the agent's.
    let theirs =
        r#"{"id":8,"agentId":"b","method":"authenticate","params":{"methodId":"oauth2-other"}}"#;
    assert_eq!(forwarded(router.client_said(theirs)).0, "b");
}

#[test]
fn an_agent_that_gets_tokens_is_introduced_with_the_login_for_them() {
    let mut router = router();
    for (agent, expected) in [("b", json!(["oauth2-work", "own"])), ("a", json!(["own"]))] {
        let line = json!({ "id": 1, "method": "initialize", "agentId": agent }).to_string();
        let asked = forwarded(router.client_said(&line)).1;
        // One that names the launcher's login as well does not get it twice.
        let methods = json!([{ "id": "own" }, { "id": "oauth2-work" }]);
        let methods = &methods.as_array().unwrap()[..if agent == "b" { 2 } else { 1 }];
        let said = json!({ "id": asked["id"], "result": { "authMethods": methods } });
        let told = answer(router.agent_said(agent, &said.to_string()));
        let ids: Vec<_> = told["result"]["authMethods"]
            .as_array()
            .unwrap()
            .iter()
            .map(|method| method["id"].clone())
            .collect();
        assert_eq!(json!(ids), expected);
    }
}

#[test]
fn an_agent_that_asks_more_than_anybody_answers_is_told() {
    let mut router = router();
    let ask = |router: &mut Router, id: usize| {
        let question = json!({ "id": id, "method": "fs/read_text_file", "params": {} });
        router.agent_said("a", &question.to_string())
    };
    let first = answer(ask(&mut router, 0));
    for id in 1..LAUNCHED_PENDING_MAX {
        answer(ask(&mut router, id));
    }
    let (to, refused) = forwarded(ask(&mut router, LAUNCHED_PENDING_MAX));
    assert_eq!(to, "a");
    assert_eq!(
        (&refused["id"], &refused["error"]["code"]),
        (&json!(LAUNCHED_PENDING_MAX), &json!(-32603))
    );
    // An answer makes room.
    router.client_said(&json!({ "id": first["id"], "result": {} }).to_string());
    answer(ask(&mut router, 0));
}

#[test]
fn a_session_of_today_is_routed_however_many_there_were_before() {
    let mut router = router();
    for number in 0..=2 * ROUTED_SESSIONS_MAX {
        let prompt = json!({ "method": "session/cancel", "agentId": "a", "sessionId": number,
            "params": { "sessionId": number.to_string() } });
        router.client_said(&prompt.to_string());
    }
    let last = 2 * ROUTED_SESSIONS_MAX;
    let update = json!({ "method": "session/update", "params": { "sessionId": last.to_string() } });
    let told = answer(router.agent_said("a", &update.to_string()));
    assert_eq!(told["sessionId"], last);
}
