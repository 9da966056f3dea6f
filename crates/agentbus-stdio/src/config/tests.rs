//! What a configuration may say and what it is told when it may not.

use super::*;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text.as_bytes()).map_err(|error| error.to_string())
}

/// One pool with these members added.
fn pool(more: &str) -> Result<Config, String> {
    parse(&format!(
        r#"{{"pools":[{{"id":"p","command":"c","instances":1{more}}}]}}"#
    ))
}

/// One pool and these members beside it.
fn with(more: &str) -> Result<Config, String> {
    parse(&format!(
        r#"{{"pools":[{{"id":"p","command":"c","instances":1}}],{more}}}"#
    ))
}

#[track_caller]
fn refused(result: Result<Config, String>, words: &[&str]) {
    let error = result.unwrap_err();
    assert!(error.starts_with("config:"), "{error}");
    for word in words {
        assert!(error.contains(word), "{error} lacks {word}");
    }
}

#[test]
fn the_smallest_configuration_has_the_documented_defaults() {
    let config = pool("").unwrap();
    assert_eq!(config.pools[0].args, [""; 0]);
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.transport, Transport::default());
    assert!(config.warnings.is_empty());
}

#[test]
fn what_is_not_an_object_is_refused() {
    for text in ["", " ", "[]", "7", "\u{feff}{}", "// x\n{}", "{\"pools\":["] {
        refused(parse(text), &[]);
    }
    assert!(parse(r#"{"pools":[{"id":"p","command":"c","instances":1}]} and more"#).is_ok());
}

#[test]
fn pools_must_be_there_and_whole() {
    refused(parse("{}"), &["pools", "at least one"]);
    refused(parse(r#"{"pools":[]}"#), &["pools", "at least one"]);
    refused(parse(r#"{"pools":{}}"#), &["pools"]);
    refused(parse(r#"{"pools":[7]}"#), &["pools[0]"]);
    refused(
        parse(r#"{"pools":[{"command":"c","instances":1}]}"#),
        &["pools[0].id"],
    );
    refused(
        parse(r#"{"pools":[{"id":"","command":"c","instances":1}]}"#),
        &["id"],
    );
    refused(
        parse(r#"{"pools":[{"id":"p","instances":1}]}"#),
        &["\"p\"", "command"],
    );
    refused(
        parse(r#"{"pools":[{"id":"p","command":"c"}]}"#),
        &["\"p\"", "instances"],
    );
}

#[test]
fn instances_are_a_whole_number() {
    for value in ["0", "-1", "1.5", "\"2\"", "null", "true"] {
        let text = format!(r#"{{"pools":[{{"id":"p","command":"c","instances":{value}}}]}}"#);
        refused(parse(&text), &["pools[0]", "instances", "1 or more"]);
    }
    assert!(parse(r#"{"pools":[{"id":"p","command":"c","instances":257}]}"#).is_ok());
    refused(
        parse(r#"{"pools":[{"id":"p","command":"c","instances":99999}]}"#),
        &["99999", "at most"],
    );
    for many in ["4294967296", "18446744073709551616", "1e30"] {
        let text = format!(r#"{{"pools":[{{"id":"p","command":"c","instances":{many}}}]}}"#);
        refused(parse(&text), &["pools[0]", "instances", "at most"]);
    }
}

#[test]
fn arguments_are_strings() {
    refused(pool(r#","args":"x""#), &["args", "array of strings"]);
    refused(pool(r#","args":["x",1]"#), &["args", "array of strings"]);
    assert_eq!(pool(r#","args":["x"]"#).unwrap().pools[0].args, ["x"]);
}

#[test]
fn limits_are_whole_numbers_and_zero_is_one() {
    refused(with(r#""limits":[]"#), &["limits", "object"]);
    refused(
        with(r#""limits":{"max_restarts":-1}"#),
        &["limits.max_restarts"],
    );
    refused(
        with(r#""limits":{"max_restarts":"5"}"#),
        &["limits.max_restarts"],
    );
    refused(
        with(r#""limits":{"max_restarts":1.5}"#),
        &["limits.max_restarts"],
    );
    let endless = r#""limits":{"drain_timeout_sec":9223372036854775807,"restart_delay_ms":9223372036854775807,"max_pending":9223372036854775807}"#;
    let limits = with(endless).unwrap().limits;
    let year = 365 * 24 * 3600;
    assert_eq!(
        (limits.drain_timeout_sec, limits.restart_delay_ms),
        (year, year * 1000)
    );
    assert_eq!(limits.max_pending, 9_223_372_036_854_775_807);
    let config = with(r#""limits":{"max_input_buffer":0,"max_restarts":0}"#).unwrap();
    assert_eq!(config.limits.max_input_buffer, 0);
    assert_eq!(config.limits.max_restarts, 0);
}

#[test]
fn a_misspelt_limit_is_named_with_the_right_one() {
    let config = with(r#""limits":{"max_input_bufer":5},"_comment":"x","limit":{}"#).unwrap();
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
    assert!(config.warnings[0].contains("is it max_input_buffer?"));
    assert!(config.warnings[1].contains("is it limits?"));
}

#[test]
fn transports_nobody_can_use_are_refused_by_name() {
    refused(
        with(r#""transport":{"mode":"shm"}"#),
        &["mode", "shm", "stdio"],
    );
    refused(
        with(r#""transport":{"framing":"capnp"}"#),
        &["framing", "capnp"],
    );
    refused(
        with(r#""transport":{"framing":"raw"}"#),
        &["framing", "raw"],
    );
    refused(with(r#""transport":{"protocol":"binary"}"#), &["protocol"]);
    let config = with(r#""transport":{"mode":"tcp","framing":"length"}"#).unwrap();
    assert_eq!(config.transport.mode, Some(Mode::Tcp));
    assert_eq!(config.transport.framing, Framing::Length);
}

#[test]
fn a_pool_may_say_how_its_workers_live() {
    let config = pool(
        r#","env":{"A":"b"},"cwd":"/tmp","agents":["x"],"restart":"on-failure",
           "balance":"least-loaded","hibernate_after_sec":5,"max_age_sec":0,"max_requests":9,
           "max_rss_mb":2,"handshake":{"method":"initialize","params":{"a":1},"timeout_sec":3}"#,
    )
    .unwrap();
    let pool = &config.pools[0];
    assert_eq!(pool.env["A"], "b");
    assert_eq!(
        (pool.restart, pool.balance),
        (Restart::OnFailure, Balance::LeastLoaded)
    );
    assert_eq!(pool.hibernate_after, Some(Duration::from_secs(5)));
    assert_eq!(pool.recycle.max_age, None);
    assert_eq!(pool.recycle.max_rss_bytes, Some(2 * 1024 * 1024));
    let handshake = pool.handshake.as_ref().unwrap();
    assert_eq!(handshake.params.as_deref(), Some(r#"{"a":1}"#));
    assert_eq!(handshake.timeout, Duration::from_secs(3));
}

#[test]
fn a_pool_is_told_what_it_may_say() {
    refused(pool(r#","restart":"maybe""#), &["\"p\": restart", "always"]);
    refused(pool(r#","balance":"best""#), &["balance", "round-robin"]);
    refused(pool(r#","env":{"A":1}"#), &["env"]);
    refused(pool(r#","handshake":{}"#), &["handshake.method"]);
}

#[test]
fn every_key_of_the_tables_is_read() {
    for &key in POOL_KEYS {
        refused(pool(&format!(r#","{key}":true"#)), &[key]);
    }
    for &key in HANDSHAKE_KEYS {
        let handshake = format!(r#","handshake":{{"method":"m","{key}":true}}"#);
        refused(pool(&handshake), &["handshake", key]);
    }
    for &key in LIMIT_NAMES {
        refused(with(&format!(r#""limits":{{"{key}":true}}"#)), &[key]);
    }
}

#[test]
fn two_entries_may_share_a_name() {
    let one = r#"{"id":"p","command":"c","instances":1}"#;
    let config = parse(&format!(r#"{{"pools":[{one},{one}]}}"#)).unwrap();
    assert_eq!(config.pools.len(), 2);
}
