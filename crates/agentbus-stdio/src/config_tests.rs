#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use super::*;

fn refusal(text: &str) -> String {
    Config::parse(text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn a_small_configuration_has_the_documented_defaults() {
    let text = r#"{"pools":[{"id":"p","command":"cat","instances":2}]}  trailing is ignored"#;
    let loaded = Config::parse(text.as_bytes()).unwrap();
    let pool = &loaded.config.pools[0];
    assert_eq!((pool.id.as_str(), pool.instances), ("p", 2));
    assert_eq!(loaded.config.limits, Limits::default());
    assert_eq!(loaded.config.framing, Framing::Ndjson);
    assert!(loaded.ignored.is_empty());
}

#[test]
fn misspelt_keys_are_reported_and_comments_are_not() {
    let text = r#"{"_comment":"x","pools":[{"id":"p","command":"c","instances":1,"evn":{}}],
        "limits":{"max_restart":3,"max_restarts":9}}"#;
    let loaded = Config::parse(text.as_bytes()).unwrap();
    assert_eq!(loaded.ignored, ["pools[0].evn", "limits.max_restart"]);
    assert_eq!(loaded.config.limits.max_restarts, 9);
}

#[test]
fn each_fault_names_its_place() {
    let pool = |fields: &str| format!(r#"{{"pools":[{{"id":"p",{fields}}}]}}"#);
    for (text, expected) in [
        (String::new(), "empty"),
        ("[]".to_owned(), "must be a JSON object"),
        ("{".to_owned(), "not valid JSON"),
        ("\u{feff}{}".to_owned(), "not valid JSON"),
        ("{}".to_owned(), "\"pools\" must be an array"),
        (r#"{"pools":[]}"#.to_owned(), "at least one pool"),
        (r#"{"pools":[{"id":""}]}"#.to_owned(), "pools[0]: \"id\""),
        (pool(r#""command":"","instances":1"#), "pool \"p\": \"command\""),
        (pool(r#""command":"c""#), "\"instances\""),
        (pool(r#""command":"c","instances":0"#), "\"instances\""),
        (pool(r#""command":"c","instances":1.5"#), "\"instances\""),
        (pool(r#""command":"c","instances":1,"args":"x""#), "\"args\""),
        (pool(r#""command":"c","instances":1,"args":[1]"#), "\"args\""),
        (pool(r#""command":"c","instances":1,"env":{"A":1}"#), "\"env\""),
        (pool(r#""command":"c","instances":1,"balance":"x""#), "\"balance\""),
        (
            r#"{"pools":[{"id":"p","command":"c","instances":1},{"id":"p","command":"c","instances":1}]}"#
                .to_owned(),
            "is taken",
        ),
        (
            r#"{"pools":[{"id":"p","command":"c","instances":1}],"limits":{"max_restarts":-1}}"#.to_owned(),
            "limits.max_restarts must be",
        ),
        (
            r#"{"pools":[{"id":"p","command":"c","instances":1}],"limits":7}"#.to_owned(),
            "\"limits\" must be",
        ),
        (
            r#"{"pools":[{"id":"p","command":"c","instances":1}],"transport":{"framing":"capnp"}}"#.to_owned(),
            "transport.framing",
        ),
    ] {
        let said = refusal(&text);
        assert!(said.starts_with("config: "), "{said}");
        assert!(said.contains(expected), "{text}: {said}");
    }
}
