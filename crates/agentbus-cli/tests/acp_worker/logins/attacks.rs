//! Who wants a login to go wrong.

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::*;

#[test]
fn an_answer_to_another_login_is_refused_and_does_not_end_this_one() {
    let home = Home::new();
    let (login, url) = home.begin(&["--login", "work"]);
    let back = get(&url).1.unwrap();
    let (here, _) = back.split_once("?").unwrap();
    for query in [
        "?code=stolen&state=guessed",
        "?code=stolen",
        "",
        "?error=access_denied&state=",
    ] {
        let (status, _, text) = get(&format!("{here}{query}"));
        assert_eq!(status, 400, "{text}");
    }
    assert_eq!(get(&here.replace("/callback", "/elsewhere")).0, 404);
    // A name that leads to this machine does not make a page elsewhere the provider.
    let named = here.replace("127.0.0.1", "localhost");
    assert_eq!(
        get(&format!("{named}?{}", back.split_once('?').unwrap().1)).0,
        421
    );
    assert_eq!(get(&back).0, 200);
    assert_eq!(login.end().0, Some(0));
}

#[test]
fn who_keeps_guessing_ends_the_login() {
    let home = Home::new();
    let (login, url) = home.begin(&["--login", "work"]);
    let back = get(&url).1.unwrap();
    let (here, _) = back.split_once("?").unwrap();
    for guess in 0..16 {
        assert_eq!(get(&format!("{here}?code=c&state={guess}")).0, 400);
    }
    let (done, said) = login.end();
    assert_eq!(done, Some(5));
    assert!(said.contains("another login"), "{said}");
    assert!(!sealed(&home).exists());
}

#[test]
fn an_answer_in_the_name_of_another_provider_is_refused() {
    let home = Home::new();
    let (login, url) = home.begin(&["--login", "work"]);
    let back = get(&url).1.unwrap();
    let (honest, _) = back.split_once("&iss=").unwrap();
    get(&format!("{honest}&iss=http://evil.example"));
    let (done, said) = login.end();
    assert_eq!(done, Some(5));
    assert!(said.contains("another provider answered"), "{said}");
    assert_eq!(home.provider.desk().issued, 0);
}

#[test]
fn a_person_who_says_no_is_believed() {
    let home = Home::new();
    home.provider.desk().denies = true;
    let (login, url) = home.begin(&["--login", "work"]);
    let (_, page) = follow(&url);
    assert!(page.contains("access_denied (not today)"), "{page}");
    let (done, said) = login.end();
    assert_eq!(done, Some(5));
    assert!(
        said.contains("work refused the login: access_denied (not today)"),
        "{said}"
    );
    assert!(!sealed(&home).exists());
}

#[test]
fn a_stolen_code_is_worth_nothing_and_a_used_one_neither() {
    let home = Home::new();
    let (login, url) = home.begin(&["--login", "work"]);
    let back = get(&url).1.unwrap();
    let (here, query) = back.split_once("?code=").unwrap();
    let code = query.split('&').next().unwrap();
    // The thief has the code and not what proves that he asked for it.
    let form = format!(
        "grant_type=authorization_code&code={code}&redirect_uri={here}&client_id=client&code_verifier=guessed"
    );
    let (status, _, said) = exchange(&format!("{}/token", home.provider.url), "POST", Some(&form));
    assert_eq!(status, 400);
    assert!(said.contains("does not fit the challenge"), "{said}");
    // He has used it up, and that is not taken for a login.
    assert_eq!(get(&back).0, 200);
    let (done, said) = login.end();
    assert_eq!(done, Some(5));
    assert!(
        said.contains("did not exchange the code for a token: invalid_grant"),
        "{said}"
    );

    // After a login nobody listens for the same answer.
    let (login, url) = home.begin(&["--login", "work"]);
    let back = get(&url).1.unwrap();
    assert_eq!(get(&back).0, 200);
    assert_eq!(login.end().0, Some(0));
    let host = back
        .strip_prefix("http://")
        .unwrap()
        .split('/')
        .next()
        .unwrap();
    assert!(TcpStream::connect(host).is_err());
}

#[test]
fn a_store_that_was_touched_is_neither_read_nor_written_over() {
    let home = Home::new();
    home.log_in("work");
    let honest = std::fs::read_to_string(sealed(&home)).unwrap();
    let mut changed: Value = serde_json::from_str(&honest).unwrap();
    changed["tokens"] = changed["tokens"]
        .as_str()
        .unwrap()
        .replacen(['A', 'b'], "c", 1)
        .into();
    let open = std::fs::Permissions::from_mode(0o644);
    let mut launcher = home.launcher(&[]);
    for (text, mode, why) in [
        (changed.to_string(), None, "it was changed"),
        ("{}".to_owned(), None, "no store of tokens"),
        (honest.clone(), Some(open), "others may use it (mode 644)"),
    ] {
        std::fs::write(sealed(&home), &text).unwrap();
        if let Some(mode) = mode {
            std::fs::set_permissions(sealed(&home), mode).unwrap();
        }
        let error = ask(&mut launcher, "locked")["error"].clone();
        assert_eq!(
            (&error["code"], &error["data"]["reason"]),
            (&json!(-32004), &json!("STORAGE_ERROR"))
        );
        assert!(error["message"].as_str().unwrap().contains(why), "{error}");
        // Nobody is sent to log in for something that cannot be kept.
        let output = home.run(&["--login", "work"]);
        assert_eq!(output.status.code(), Some(5));
        assert!(
            words(&output).contains(why) && !words(&output).contains("http"),
            "{}",
            words(&output)
        );
        assert_eq!(std::fs::read_to_string(sealed(&home)).unwrap(), text);
    }
    assert!(home.run(&["--logout"]).status.success());
    home.log_in("work");
    assert_eq!(
        ask(&mut launcher, "locked")["result"]["authorization"],
        "Bearer access-2"
    );
    launcher.end();
}

#[test]
fn logins_at_the_same_time_all_count() {
    let home = Home::new();
    let begun: Vec<_> = ["work", "other", "work"]
        .map(|name| home.begin(&["--login", name]))
        .into();
    for (_, url) in begun.iter().rev() {
        assert_eq!(follow(url).0, 200);
    }
    for (login, _) in begun {
        let (done, said) = login.end();
        assert_eq!(done, Some(0), "{said}");
    }
    assert_eq!(home.provider.desk().issued, 3);
    let said = words(&home.run(&["--auth-status"]));
    assert!(!said.contains("nobody is logged in"), "{said}");
}

#[test]
fn a_provider_without_tls_elsewhere_or_without_a_client_is_refused() {
    let home = Home::new();
    for (provider, why) in [
        (
            json!({ "issuer": "http://provider.example", "clientId": "c" }),
            "https",
        ),
        (
            json!({ "issuer": home.provider.url, "clientId": "c", "revocationEndpoint": "http://provider.example/" }),
            "https",
        ),
        (json!({ "issuer": home.provider.url }), "client id"),
        (json!({ "clientId": "c" }), "neither an `issuer` nor"),
        (
            json!({ "issuer": format!("{}/", home.provider.url), "clientId": "c" }),
            "belongs to",
        ),
    ] {
        home.write(
            "providers.json",
            &json!({ "providers": { "bad": provider } }),
        );
        let output = home.run(&["--login", "bad"]);
        assert_eq!(output.status.code(), Some(5));
        assert!(words(&output).contains(why), "{}", words(&output));
    }
}

#[test]
fn a_provider_whose_tokens_are_of_no_use_is_refused() {
    let home = Home::new();
    home.provider.desk().challenges = Some("plain");
    let output = home.run(&["--login", "work"]);
    assert_eq!(output.status.code(), Some(5));
    let said = words(&output);
    assert!(said.contains("does not take PKCE with S256"), "{said}");
    // Where somebody listens for the code, nobody is sent without a challenge.
    assert!(!said.contains("Open this page"), "{said}");
    home.provider.desk().challenges = None;
    home.provider.desk().word = Some("split\r\nhere");
    let (login, url) = home.begin(&["--login", "work"]);
    assert_eq!(follow(&url).0, 200);
    let (done, said) = login.end();
    assert_eq!(done, Some(5));
    assert!(said.contains("characters that no header takes"), "{said}");
    assert!(!sealed(&home).exists());
}
