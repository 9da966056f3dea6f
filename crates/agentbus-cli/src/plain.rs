//! Text of others, as it is shown to a person: it forges no line and steers no terminal.

/// A field within a line, such as a name: what would break the line shows as its escape.
pub(crate) fn line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        put(&mut shown, c);
    }
    shown
}

/// What somebody wrote. Its further lines are indented, so that none looks like a message.
pub(crate) fn body(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\n  "),
            '\t' => shown.push(c),
            c => put(&mut shown, c),
        }
    }
    shown
}

fn put(shown: &mut String, c: char) {
    if misleads(c) {
        shown.extend(c.escape_default());
    } else {
        shown.push(c);
    }
}

/// Whether a character steers the terminal, begins a line or turns the writing direction.
fn misleads(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_stays_on_its_line() {
        assert_eq!(line("plans for Zoë 🦀"), "plans for Zoë 🦀");
        assert_eq!(
            line("a\n[2] boss\r\t\u{1b}[2J\u{7f}\u{9b}"),
            "a\\n[2] boss\\r\\t\\u{1b}[2J\\u{7f}\\u{9b}"
        );
        assert_eq!(
            line("\u{2028}\u{202a}\u{202e}\u{2066}\u{2069}"),
            "\\u{2028}\\u{202a}\\u{202e}\\u{2066}\\u{2069}"
        );
    }

    #[test]
    fn a_body_keeps_its_lines_and_none_looks_like_a_message() {
        assert_eq!(body("one\n\ttwo\n\nthree"), "one\n  \ttwo\n  \n  three");
        assert_eq!(
            body("yes\r\n[99] boss (user): \u{1b}[31mno\u{202e}"),
            "yes\\r\n  [99] boss (user): \\u{1b}[31mno\\u{202e}"
        );
    }
}
