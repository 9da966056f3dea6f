//! The table of errors in the documentation is the one in the code.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use std::path::Path;

#[test]
fn the_codes_in_the_documentation_are_those_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/stdio.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let table = agentbus_stdio::code::table();
    let begin = text.find("| code | name |").unwrap();
    let end = begin + text[begin..].find("\n\n").unwrap() + 1;
    if std::env::var_os("AGENTBUS_WRITE_DOCS").is_some() {
        std::fs::write(&path, [&text[..begin], &table, &text[end..]].concat()).unwrap();
        return;
    }
    assert_eq!(
        &text[begin..end],
        table,
        "run this test with AGENTBUS_WRITE_DOCS=1 to write it anew"
    );
}
