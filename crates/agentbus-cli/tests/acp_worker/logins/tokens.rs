//! From a login to the agent, and through the life of a token.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::*;

#[test]
fn a_login_with_pkce_reaches_the_agent_and_nothing_secret_shows() {
    let home = Home::new();
    let (login, url) = home.begin(&["--login", "work", "--log", "trace"]);
    let (_, leads, _) = get(&url);
    let back = leads.unwrap();
    let (status, _, page) = get(&back);
    assert_eq!(status, 200, "{page}");
    let (done, said) = login.end();
    assert_eq!(done, Some(0), "{said}");
    assert!(said.contains("Logged in at work."), "{said}");
    let code = back
        .split("code=")
        .nth(1)
        .unwrap()
        .split('&')
        .next()
        .unwrap();
    for secret in ["access-1", "refresh-1", code] {
        assert!(!said.contains(secret), "{secret} shows: {said}");
    }
    let mode = std::fs::metadata(sealed(&home))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    let mut launcher = home.launcher(&["--log", "trace"]);
    let said = ask(&mut launcher, "locked");
    assert_eq!(said["result"]["authorization"], "Bearer access-1");
    // It is not the client's to see who the agent is for others.
    assert_eq!(said.get("headers"), None);
    // An agent that the provider names gets it, one that nobody names does not.
    assert_eq!(
        ask(&mut launcher, "free")["result"]["authorization"],
        "Bearer access-1"
    );
    assert_eq!(
        ask(&mut launcher, "own")["result"]["authorization"],
        json!(null)
    );
    launcher.end();

    let said = words(&home.run(&["--auth-status"]));
    assert!(
        said.contains("work (provider): logged in, with a token until 2"),
        "{said}"
    );
    assert!(
        said.contains("locked (locked 1.0.0): by work: logged in"),
        "{said}"
    );
    assert!(
        said.contains("other (provider): nobody is logged in"),
        "{said}"
    );
}

#[test]
fn without_a_login_an_agent_that_needs_one_is_refused_with_the_way_out() {
    let home = Home::new();
    let mut launcher = home.launcher(&[]);
    let error = ask(&mut launcher, "locked")["error"].clone();
    assert_eq!(error["code"], -32004);
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .starts_with("Authentication required"),
        "{error}"
    );
    let data = &error["data"];
    assert_eq!(
        (&data["agentId"], &data["providerId"]),
        (&json!("locked"), &json!("work"))
    );
    assert_eq!(
        (&data["requiredMethod"], &data["reason"]),
        (&json!("oauth2"), &json!("LOGIN_REQUIRED"))
    );
    assert_eq!(data["remediation"]["type"], "login_required");
    assert_eq!(
        data["remediation"]["commands"],
        json!(["agentbus worker registry --login work"])
    );
    // One that can do without goes without.
    assert_eq!(
        ask(&mut launcher, "free")["result"]["authorization"],
        json!(null)
    );
    // A login elsewhere is seen at the next message.
    home.log_in("work");
    assert_eq!(
        ask(&mut launcher, "locked")["result"]["authorization"],
        "Bearer access-1"
    );
    launcher.end();
}

#[test]
fn a_key_takes_the_place_of_a_login() {
    let home = Home::new();
    let keys = json!({ "agents": { "locked": { "apiKey": "k" } } });
    crate::registry::write_secret(&home.path("keys.json"), &keys.to_string());
    let mut launcher = home.launcher(&["--api-keys", "keys.json"]);
    assert_eq!(
        ask(&mut launcher, "locked")["result"]["authorization"],
        json!(null)
    );
    launcher.end();
}

#[test]
fn a_token_is_renewed_before_its_end_and_once_for_all_who_want_it() {
    let home = Home::new();
    // Each token is due at once, and each refresh token good for one time.
    home.provider.desk().life = 0;
    home.log_in("work");
    let mut launchers = [home.launcher(&[]), home.launcher(&[])];
    for round in 0..3 {
        for launcher in &mut launchers {
            for agent in ["locked", "free"] {
                let id = format!("{round} {agent}");
                launcher.send(
                    &json!({ "jsonrpc": "2.0", "id": id, "agentId": agent, "method": "_token" }),
                );
            }
        }
        for launcher in &launchers {
            for _ in 0..2 {
                let said = launcher.read();
                assert!(
                    said["result"]["authorization"]
                        .as_str()
                        .unwrap()
                        .starts_with("Bearer access-"),
                    "{said}"
                );
            }
        }
    }
    let desk = home.provider.desk();
    assert_eq!(desk.reused, 0);
    assert!(desk.issued > 12, "{}", desk.issued);
    drop(desk);
    launchers.into_iter().for_each(Launcher::end);
}

#[test]
fn a_refresh_token_that_has_expired_asks_for_a_login_and_the_agent_lives() {
    let home = Home::new();
    home.log_in("work");
    let mut launcher = home.launcher(&[]);
    assert_eq!(
        ask(&mut launcher, "locked")["result"]["authorization"],
        "Bearer access-1"
    );
    home.provider.desk().life = 0;
    home.log_in("work");
    home.provider.desk().refreshable.clear();
    let error = ask(&mut launcher, "locked")["error"].clone();
    assert_eq!(
        (&error["code"], &error["data"]["reason"]),
        (&json!(-32004), &json!("TOKEN_REFRESH_FAILED"))
    );
    assert!(
        error["message"].as_str().unwrap().contains("--login work"),
        "{error}"
    );
    home.provider.desk().life = 3600;
    home.log_in("work");
    assert_eq!(
        ask(&mut launcher, "locked")["result"]["authorization"],
        "Bearer access-3"
    );
    launcher.end();
}

#[test]
fn a_provider_that_is_down_is_named_and_asked_again() {
    let mut home = Home::new();
    home.provider.desk().life = 0;
    home.log_in("work");
    let mut launcher = home.launcher(&[]);
    home.provider.desk().ill = true;
    let error = ask(&mut launcher, "locked")["error"].clone();
    assert_eq!(
        (&error["code"], &error["data"]["reason"]),
        (&json!(-32004), &json!("NETWORK_ERROR"))
    );
    assert_eq!(error["data"]["remediation"]["type"], "retry");
    home.provider.desk().ill = false;
    assert!(ask(&mut launcher, "locked")["result"]["authorization"].is_string());
    home.provider.stop();
    let error = ask(&mut launcher, "locked")["error"].clone();
    assert_eq!(error["data"]["reason"], "NETWORK_ERROR", "{error}");
    launcher.end();
    let output = home.run(&["--login", "work"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(
        words(&output).contains("work cannot be reached"),
        "{}",
        words(&output)
    );
}

#[test]
fn a_client_logs_in_through_the_protocol_and_a_browser_opens() {
    let home = Home::new();
    let mut launcher = Launcher::of(home.at_a_screen(&["--log", "trace"]));
    launcher.send(&json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": { "protocolVersion": 1 } }));
    let said = launcher.answer(&json!(1));
    let methods = said["result"]["authMethods"].as_array().unwrap();
    assert!(
        methods.iter().any(|method| method["id"] == "oauth2-work"),
        "{said}"
    );
    let params = json!({ "methodId": "oauth2-work" });
    launcher
        .send(&json!({ "jsonrpc": "2.0", "id": 2, "method": "authenticate", "params": params }));
    assert_eq!(launcher.answer(&json!(2))["result"], json!({}));
    assert_eq!(
        ask(&mut launcher, "locked")["result"]["authorization"],
        "Bearer access-1"
    );
    launcher.end();
    // The arguments, which everybody can read, name a file that only its owner can, and it is gone.
    let browsed = lines(&home.path("browsed"));
    let (mode, page) = browsed[0].split_once(' ').unwrap();
    assert_eq!(mode, "600");
    assert!(
        !page.contains("state") && !Path::new(page).exists(),
        "{page}"
    );
}

#[test]
fn a_message_opens_the_browser_by_itself_if_it_may() {
    let home = Home::new();
    let mut command = home.at_a_screen(&[]);
    command.env("AUTH_AUTO_OAUTH", "yes");
    let mut launcher = Launcher::of(command);
    assert_eq!(
        ask(&mut launcher, "locked")["result"]["authorization"],
        "Bearer access-1"
    );
    launcher.end();
    let mut launcher = home.launcher(&["--auto-login"]);
    assert_eq!(
        ask(&mut launcher, "locked")["result"]["authorization"],
        "Bearer access-1"
    );
    assert!(home.run(&["--logout", "work"]).status.success());
    // There is nobody to see a page.
    let error = ask(&mut launcher, "locked")["error"].clone();
    assert_eq!(
        (&error["code"], &error["data"]["reason"]),
        (&json!(-32004), &json!("HEADLESS_ENVIRONMENT"))
    );
    launcher.end();
}

#[test]
fn a_logout_forgets_one_or_all() {
    let home = Home::new();
    home.log_in("work");
    home.log_in("other");
    let output = home.run(&["--logout", "work"]);
    assert_eq!(output.status.code(), Some(0));
    let said = words(&output);
    assert!(
        said.contains("Logged out of work, which revoked its tokens."),
        "{said}"
    );
    assert_eq!(
        revoked(&home),
        ["refresh_token refresh-1", "access_token access-1"]
    );
    let said = words(&home.run(&["--logout", "work"]));
    assert!(said.contains("Nobody was logged in."), "{said}");
    let said = words(&home.run(&["--auth-status"]));
    assert!(
        said.contains("work (provider): nobody") && said.contains("other (provider): logged in"),
        "{said}"
    );
    assert!(home.run(&["--logout"]).status.success());
    assert_eq!(
        revoked(&home)[2..],
        ["refresh_token refresh-2", "access_token access-2"]
    );
    assert!(!sealed(&home).exists());
    for word in ["--logout", "--login"] {
        let output = home.run(&[word, "elsewhere"]);
        assert_eq!(output.status.code(), Some(5), "{word}");
        assert!(
            words(&output).contains("--auth-status"),
            "{}",
            words(&output)
        );
    }
}

/// What the provider has revoked, in this order.
fn revoked(home: &Home) -> Vec<String> {
    let desk = home.provider.desk();
    let all = desk.revoked.iter();
    all.map(|(kind, token)| format!("{kind} {token}")).collect()
}

#[test]
fn no_provider_keeps_a_person_logged_in() {
    type Change = fn(&mut Home);
    let mut home = Home::new();
    let cases: [(&str, Change); 3] = [
        ("it names no place", |home| {
            home.provider.desk().keeps = true;
        }),
        ("(it answers with 503", |home| {
            home.provider.desk().ill = true;
        }),
        ("it cannot be reached (", |home| home.provider.stop()),
    ];
    for (why, change) in cases {
        home.log_in("work");
        change(&mut home);
        let output = home.run(&["--logout", "work", "--log", "trace"]);
        assert_eq!(output.status.code(), Some(0), "{why}");
        let said = words(&output);
        assert!(
            said.contains("Logged out of work on this machine."),
            "{said}"
        );
        assert!(said.contains(why) && said.contains("own pages"), "{said}");
        assert!(
            !said.contains("access-") && !said.contains("refresh-"),
            "{said}"
        );
        let status = words(&home.run(&["--auth-status"]));
        assert!(status.contains("work (provider): nobody"), "{status}");
        let mut desk = home.provider.desk();
        (desk.keeps, desk.ill) = (false, false);
    }
    assert!(revoked(&home).is_empty());
}

#[test]
fn a_provider_that_revokes_refresh_tokens_alone_has_ended_the_login() {
    let home = Home::new();
    home.provider.desk().keeps_access = true;
    home.log_in("work");
    let said = words(&home.run(&["--logout"]));
    assert!(said.contains("which revoked its tokens"), "{said}");
    assert_eq!(revoked(&home), ["refresh_token refresh-1"]);
}

#[test]
fn what_cannot_be_read_is_forgotten_and_said_to_be_good_still() {
    let home = Home::new();
    home.log_in("work");
    std::fs::write(sealed(&home), "{}").unwrap();
    let output = home.run(&["--logout"]);
    assert!(output.status.success() && !sealed(&home).exists());
    let said = words(&output);
    assert!(
        said.contains("Logged out of everything on this machine"),
        "{said}"
    );
    assert!(
        said.contains("no store of tokens") && said.contains("own pages"),
        "{said}"
    );
    // A provider that was taken out of the configuration is named likewise.
    home.log_in("other");
    home.write("providers.json", &json!({ "providers": {} }));
    let said = words(&home.run(&["--logout"]));
    assert!(
        said.contains("Logged out of other on this machine"),
        "{said}"
    );
    assert!(said.contains("not among the providers any more"), "{said}");
}

#[test]
fn a_secret_is_shown_as_the_provider_wants_it() {
    let home = Home::new();
    home.provider.desk().secret = Some("hidden");
    for (method, shown) in [
        (json!("client_secret_basic"), "in a header"),
        (json!("client_secret_post"), "in the body"),
    ] {
        let work = json!({ "issuer": home.provider.url, "clientId": "client",
            "scopes": ["read", "write"], "tokenEndpointAuthMethod": method });
        home.write("providers.json", &json!({ "providers": { "work": work } }));
        let mut command = home.command(&["--login", "work"]);
        command.env("OAUTH_WORK_CLIENT_SECRET", "hidden");
        let (login, url) = Home::begun(command);
        assert_eq!(follow(&url).0, 200);
        let (done, said) = login.end();
        assert_eq!(done, Some(0), "{said}");
        assert_eq!(home.provider.desk().shown, shown);
        home.provider.desk().shown = "";
        let mut command = home.command(&["--logout", "work"]);
        let output = command
            .env("OAUTH_WORK_CLIENT_SECRET", "hidden")
            .output()
            .unwrap();
        assert!(
            words(&output).contains("revoked its tokens"),
            "{}",
            words(&output)
        );
        assert_eq!(home.provider.desk().shown, shown);
    }
}
