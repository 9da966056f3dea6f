//! The scanner against a table, against `serde_json`, and its fast skipping against a slow one.

use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// Writes a scan down in one line, so that a test is a pair of strings.
fn summary(line: &[u8]) -> String {
    let routing = match scan(line) {
        Ok(routing) => routing,
        Err(error) => return format!("{error:?}"),
    };
    let mut text = format!("{:?}", routing.kind());
    if let Some(id) = &routing.id {
        let written = String::from_utf8_lossy(&line[id.span.clone()]);
        write!(text, " id={:?}:{}={written}", id.kind, id.text).unwrap();
    }
    let fields = [
        ("method", &routing.method),
        ("session", &routing.session_id),
        ("pool", &routing.pool),
        ("agent", &routing.agent_id),
    ];
    for (name, field) in fields {
        if let Some(field) = field {
            write!(text, " {name}={field}").unwrap();
        }
    }
    if routing.result.is_some() {
        text += " result";
    }
    if routing.error.is_some() {
        text += " error";
    }
    text
}

#[track_caller]
fn check(line: impl AsRef<[u8]>, expect: &str) {
    let line = line.as_ref();
    assert_eq!(
        summary(line),
        expect,
        "line: {}",
        String::from_utf8_lossy(line)
    );
}

#[test]
fn finds_each_routing_field() {
    check(
        r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#,
        "Request id=Number:1=1 method=m",
    );
    check(
        r#"{"method":"n","sessionId":"s"}"#,
        "Notification method=n session=s",
    );
    check(
        r#"{"id":"a","result":{}}"#,
        r#"Response id=String:a="a" result"#,
    );
    check(
        r#"{"id":null,"error":{"code":-32700}}"#,
        "Response id=Null:null=null error",
    );
    check(
        r#"{"pool":"p","agentId":"a","method":"m","id":2}"#,
        "Request id=Number:2=2 method=m pool=p agent=a",
    );
}

#[test]
fn classifies_unusual_messages() {
    check("{}", "Invalid");
    check(r#"{"id":2}"#, "Invalid id=Number:2=2");
    check(r#"{"result":1}"#, "Invalid result");
    check(r#"{"result":1,"method":"m"}"#, "Invalid method=m result");
    check(
        r#"{"id":1,"result":1,"error":null,"method":"m"}"#,
        "Response id=Number:1=1 method=m result error",
    );
}

#[test]
fn keeps_type_and_text_of_ids() {
    for number in [
        "0",
        "-3",
        "1.5",
        "1e9",
        "2E-7",
        "123456789012345678901234567890",
    ] {
        let expect = format!("Invalid id=Number:{number}={number}");
        check(format!(r#"{{"id" : {number} }}"#), &expect);
    }
    check(r#"{"id":"x\"y"}"#, r#"Invalid id=String:x"y="x\"y""#);
    check(r#"{"id":"\u00e9"}"#, r#"Invalid id=String:é="\u00e9""#);
    check(r#"{"id":""}"#, r#"Invalid id=String:="""#);
    check(r#"{"id":true}"#, "Invalid id=Other:true=true");
    check(
        r#"{"id":{"a":[1]}}"#,
        r#"Invalid id=Other:{"a":[1]}={"a":[1]}"#,
    );
}

#[test]
fn never_takes_nested_fields() {
    check(
        r#"{"params":{"sessionId":"s","id":1,"method":"m"}}"#,
        "Invalid",
    );
    check(r#"{"params":[{"id":1}],"x":"{\"id\":2}"}"#, "Invalid");
    check(
        r#"{"result":{"error":{"pool":"p"}},"id":1}"#,
        "Response id=Number:1=1 result",
    );
    check(
        r#"{"a":"\"id\":","b":["]","\\"],"id":3}"#,
        "Invalid id=Number:3=3",
    );
}

#[test]
fn says_where_the_extensions_are() {
    let place = |line: &'static str| {
        let routing = scan(line.as_bytes()).unwrap();
        routing.extensions.map(|span| &line[span])
    };
    assert_eq!(
        place(r#"{"_ext": {"a":[1]} ,"id":1}"#),
        Some(r#"{"a":[1]}"#)
    );
    assert_eq!(place(r#"{"params":{"_ext":1}}"#), None);
}

#[test]
fn takes_the_last_of_duplicate_keys() {
    check(r#"{"id":1,"id":"b"}"#, r#"Invalid id=String:b="b""#);
    check(r#"{"pool":"a","pool":7}"#, "Invalid");
    check(
        r#"{"method":"\ud800","method":"m"}"#,
        "Notification method=m",
    );
}

#[test]
fn treats_empty_and_mistyped_fields_as_absent() {
    check(
        r#"{"sessionId":7,"pool":null,"agentId":["a"],"method":{}}"#,
        "Invalid",
    );
    check(
        r#"{"sessionId":"","pool":"","agentId":"","method":""}"#,
        "Invalid",
    );
}

#[test]
fn compares_keys_after_unescaping() {
    check(
        r#"{"\u0069d":1,"m\u0065thod":"m"}"#,
        "Request id=Number:1=1 method=m",
    );
    check(r#"{"\ud800":1,"\u0069\u0064\u0064":1,"\x":2}"#, "Invalid");
    let all_escaped: String = "sessionId".bytes().map(|b| format!("\\u{b:04x}")).collect();
    check(format!(r#"{{"{all_escaped}":"s"}}"#), "Invalid session=s");
}

#[test]
fn allows_white_space_around_everything() {
    check(
        " \t{ \"id\" : 1 , \"method\" : \"m\" } \r\n",
        "Request id=Number:1=1 method=m",
    );
    check("{ }\r", "Invalid");
}

#[test]
fn borrows_unless_there_is_an_escape() {
    let routing = scan(br#"{"method":"plain","pool":"a\tb"}"#).unwrap();
    assert!(matches!(routing.method, Some(Cow::Borrowed("plain"))));
    assert!(matches!(routing.pool, Some(Cow::Owned(text)) if text == "a\tb"));
}

#[test]
fn refuses_what_is_not_an_object() {
    for line in [
        "",
        " ",
        "\r\n",
        "not json",
        "[1,2]",
        "null",
        "\"s\"",
        "\u{feff}{}",
    ] {
        let line = line.as_bytes();
        assert!(
            matches!(scan(line), Err(ScanError::NotAnObject { .. })),
            "{line:?}"
        );
    }
}

#[test]
fn refuses_bytes_after_the_object() {
    check(r#"{"id":3} trailing"#, "TrailingBytes { offset: 9 }");
    check("{}{}", "TrailingBytes { offset: 2 }");
    check("{},", "TrailingBytes { offset: 2 }");
}

#[test]
fn refuses_a_broken_top_level() {
    check("{,}", "UnexpectedByte { offset: 1 }");
    check(r#"{"a":1,}"#, "UnexpectedByte { offset: 7 }");
    check(r#"{"a" 1}"#, "UnexpectedByte { offset: 5 }");
    check(r#"{"a":}"#, "UnexpectedByte { offset: 5 }");
    check(r#"{"a":1 "b":2}"#, "UnexpectedByte { offset: 7 }");
    check(r#"{"a":nul}"#, "UnexpectedByte { offset: 8 }");
    check(r#"{"a":01}"#, "UnexpectedByte { offset: 6 }");
    check(r#"{"a":1.}"#, "UnexpectedByte { offset: 7 }");
    check(r#"{"a":+1}"#, "UnexpectedByte { offset: 5 }");
    check(r#"{"a":[1}}"#, "UnexpectedByte { offset: 7 }");
    check("{a:1}", "UnexpectedByte { offset: 1 }");
}

#[test]
fn refuses_broken_text_only_where_it_routes() {
    check(r#"{"method":"\x"}"#, "BrokenString { offset: 10 }");
    check(r#"{"pool":"\ud800"}"#, "BrokenString { offset: 8 }");
    check("{\"id\":\"a\tb\"}", "BrokenString { offset: 6 }");
    check(b"{\"sessionId\":\"\xff\"}", "InvalidUtf8 { offset: 13 }");
    check(b"{\"id\":[\"\xff\"]}", "InvalidUtf8 { offset: 6 }");
    check(
        b"{\"other\":\"\xff\\x\t\",\"\xfe\":[\"\xff\"],\"id\":1}",
        "Invalid id=Number:1=1",
    );
}

#[test]
fn refuses_truncated_lines() {
    for line in [
        "{",
        r#"{"a"#,
        r#"{"a""#,
        r#"{"a":"#,
        r#"{"a":1"#,
        r#"{"a":-"#,
        r#"{"a":[{}"#,
    ] {
        check(line, "Truncated");
    }
    check(r#"{"a":"b\""#, "Truncated");
    check(r#"{"a":["b\"]}"#, "Truncated");
    check(r#"{"a":nu"#, "Truncated");
}

/// A line of exactly this many levels, the outermost object included.
fn nested(levels: usize, spread: &str) -> String {
    let inner = levels - 1;
    let (open, close) = (
        format!("[{spread}").repeat(inner),
        format!("{spread}]").repeat(inner),
    );
    format!(r#"{{"a":{open}{close}}}"#)
}

#[test]
fn nests_exactly_as_deep_as_serde_json() {
    for spread in ["", " ", "      ", &" ".repeat(70)] {
        let deepest = nested(MAX_NESTING, spread);
        assert!(serde_json::from_str::<Value>(&deepest).is_ok());
        check(&deepest, "Invalid");
        let deeper = nested(MAX_NESTING + 1, spread);
        assert!(serde_json::from_str::<Value>(&deeper).is_err());
        let offset = 5 + (MAX_NESTING - 1) * (1 + spread.len());
        check(&deeper, &format!("TooDeep {{ offset: {offset} }}"));
    }
    check(
        "{\"a\":".to_owned() + &"[".repeat(1 << 16),
        "TooDeep { offset: 131 }",
    );
}

#[test]
fn a_bare_control_character_is_found_wherever_it_stands() {
    for place in [0, 15, 16, 17, 127, 128, 129, 299] {
        let mut method = "x".repeat(300);
        let line = format!(r#"{{"method":"{method}"}}"#);
        let routing = scan(line.as_bytes()).unwrap();
        assert!(matches!(routing.method, Some(Cow::Borrowed(text)) if text == method));
        method.replace_range(place..=place, "\x1f");
        let line = format!(r#"{{"method":"{method}"}}"#);
        check(&line, "BrokenString { offset: 10 }");
    }
}

#[test]
fn finds_fields_behind_long_values() {
    for length in 0..300 {
        for fill in ["x", "\\\"", "\\\\", "é", "{"] {
            let text = fill.repeat(length);
            let line = format!(r#"{{"a":"{text}","b":["{text}",{{"id":2}}],"id":1}}"#);
            check(line, "Invalid id=Number:1=1");
        }
    }
}

/// The skipping of nested values once more, byte by byte. Leaves the depth limit out.
fn skip_slowly(line: &[u8]) -> Option<usize> {
    let (mut inside, mut hidden, mut depth) = (false, false, 0);
    for (index, byte) in line.iter().enumerate() {
        let was_hidden = hidden;
        hidden = !was_hidden && *byte == b'\\';
        match byte {
            b'"' if !was_hidden => inside = !inside,
            b'{' | b'[' if !inside => depth += 1,
            b'}' | b']' if !inside => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(index + 1);
        }
    }
    None
}

/// One member as written and nothing about it parsed.
fn member() -> impl Strategy<Value = (String, String)> {
    (
        prop_oneof![3 => routing_key(), 1 => any_string()],
        any_value(),
    )
        .prop_flat_map(|(key, value)| (written_string(key), written(value)))
}

fn routing_key() -> impl Strategy<Value = String> {
    const KEYS: &[&str] = &[
        "id",
        "method",
        "sessionId",
        "pool",
        "agentId",
        "result",
        "error",
        "params",
        "i",
    ];
    prop::sample::select(KEYS).prop_map(str::to_owned)
}

fn any_string() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{0,8}",
        "[\\PC\"\\\\{}\\[\\]:,]{0,20}",
        prop::collection::vec(any::<char>(), 0..8).prop_map(|chars| chars.into_iter().collect()),
        "[x\"\\\\]{50,200}",
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any_string().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((prop_oneof![routing_key(), any_string()], inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// A value as compact or as pretty text.
fn written(value: Value) -> impl Strategy<Value = String> {
    any::<bool>().prop_map(move |is_pretty| {
        if is_pretty {
            format!("{value:#}")
        } else {
            value.to_string()
        }
    })
}

/// A quoted string in which some characters are written as `\u` escapes without need.
fn written_string(text: String) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::bool::weighted(0.1), text.chars().count()).prop_map(move |escape| {
        let mut quoted = String::from("\"");
        for (character, escape) in text.chars().zip(escape) {
            if escape && u32::from(character) < 0xd800 {
                write!(quoted, "\\u{:04x}", u32::from(character)).unwrap();
            } else {
                let plain = Value::from(character.to_string()).to_string();
                quoted += &plain[1..plain.len() - 1];
            }
        }
        quoted + "\""
    })
}

fn any_line() -> impl Strategy<Value = String> {
    let space = prop::sample::select(vec!["", "", " ", "\t \r", "\n"]);
    prop::collection::vec((member(), space), 0..8).prop_map(|members| {
        let members: Vec<String> = members
            .into_iter()
            .map(|((key, value), space)| format!("{space}{key}{space}:{space}{value}{space}"))
            .collect();
        format!("{{{}}}", members.join(","))
    })
}

/// Bytes among which strings, escapes and brackets are frequent.
fn dense_bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        3 => prop::sample::select(&b"\"\\{}[]"[..]),
        1 => prop::sample::select(&b"\"\\:,ax1 \xff"[..]),
    ];
    prop::collection::vec(byte, 0..400)
}

fn assert_agrees(line: &str) -> Result<(), TestCaseError> {
    let value: Value = serde_json::from_str(line).unwrap();
    let routing = scan(line.as_bytes()).unwrap();
    let text = |key: &str| value[key].as_str().filter(|text| !text.is_empty());
    prop_assert_eq!(routing.method.as_deref(), text("method"));
    prop_assert_eq!(routing.session_id.as_deref(), text("sessionId"));
    prop_assert_eq!(routing.pool.as_deref(), text("pool"));
    prop_assert_eq!(routing.agent_id.as_deref(), text("agentId"));
    for (key, span) in [("result", &routing.result), ("error", &routing.error)] {
        let read = span.clone().map(|span| &line[span]);
        let read = read.map(|text| serde_json::from_str::<Value>(text).unwrap());
        prop_assert_eq!(read.as_ref(), value.get(key));
    }
    let written = routing
        .id_span()
        .map(|span| serde_json::from_str(&line[span]).unwrap());
    prop_assert_eq!(written.as_ref(), value.get("id"));
    if let Some(id) = &routing.id {
        let expect = value["id"].as_str().unwrap_or(&line[id.span.clone()]);
        prop_assert_eq!(&id.text, expect);
    }
    Ok(())
}

proptest! {
    #[test]
    fn agrees_with_serde_json(line in any_line()) {
        assert_agrees(&line)?;
    }

    #[test]
    fn never_panics_on_random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = scan(&bytes);
    }

    #[test]
    fn never_panics_on_dense_bytes(bytes in dense_bytes(), head in "\\{\"(id|a)\":(\")?") {
        let _ = scan(&[head.as_bytes(), &bytes].concat());
    }

    #[test]
    fn skips_like_a_slow_skipper(bytes in dense_bytes()) {
        let line = [b"[", bytes.as_slice()].concat();
        match skip::container(&line, 0) {
            Ok(end) => prop_assert_eq!(Some(end), skip_slowly(&line)),
            Err(ScanError::Truncated) => prop_assert_eq!(None, skip_slowly(&line)),
            Err(ScanError::UnexpectedByte { offset }) => {
                prop_assert_eq!(Some(offset + 1), skip_slowly(&line));
                prop_assert_eq!(line[offset], b'}');
            }
            Err(ScanError::TooDeep { .. }) => {}
            Err(error) => prop_assert!(false, "unexpected {error:?}"),
        }
    }
}

proptest! {
    // Quadratic in the length of the line, hence fewer lines.
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn never_accepts_a_cut_line(line in any_line()) {
        for end in 0..line.len() {
            prop_assert!(scan(&line.as_bytes()[..end]).is_err(), "cut at {}", end);
        }
    }
}
