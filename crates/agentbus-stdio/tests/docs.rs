//! The tables in the documentation are those of the code.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use std::path::Path;

/// Checks the table that begins with this, or writes it anew.
fn check(head: &str, table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/stdio.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let begin = text.find(head).unwrap();
    let end = begin + text[begin..].find("\n\n").unwrap() + 1;
    if std::env::var_os("AGENTBUS_WRITE_DOCS").is_some() {
        std::fs::write(&path, [&text[..begin], table, &text[end..]].concat()).unwrap();
        return;
    }
    let again = "run this test with AGENTBUS_WRITE_DOCS=1 to write it anew";
    assert_eq!(&text[begin..end], table, "{again}");
}

#[test]
fn the_tables_in_the_documentation_are_those_of_the_code() {
    check("| code | name |", &agentbus_stdio::codes::reference());
    check("| limit | default |", &agentbus_stdio::config::reference());
}
