//! What a hit shows of its message, the same for every store.
//!
//! A store puts [`MARKS`] around what matched; only here do they become markup.

use crate::model::Hit;

/// What surrounds a match until it is known how the snippet is shown.
pub(super) const MARKS: [char; 2] = ['\u{1}', '\u{2}'];

/// Characters that such a snippet shows on either side of its match.
const SNIPPET_CHARS: usize = 30;

/// Whether a character belongs to a script that puts no spaces between words.
pub(crate) const fn has_no_spaces(c: char) -> bool {
    matches!(c, '\u{2e80}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}')
}

/// Quotes every word, so that nothing in it is syntax.
pub(super) fn literally(text: &str) -> String {
    let quote = |word: &str| format!("\"{}\"", word.replace('"', "\"\""));
    text.split_whitespace()
        .map(quote)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Cuts a snippet around the first match.
pub(super) fn around(content: &str, word: &str) -> String {
    let Some((before, after)) = content.split_once(word) else {
        return content.chars().take(2 * SNIPPET_CHARS).collect();
    };
    let left = before.chars().count().saturating_sub(SNIPPET_CHARS);
    let head: String = before.chars().skip(left).collect();
    let tail: String = after.chars().take(SNIPPET_CHARS).collect();
    let more = |cut: bool| if cut { "…" } else { "" };
    let (cut_head, cut_tail) = (more(left > 0), more(after.chars().count() > SNIPPET_CHARS));
    format!(
        "{cut_head}{head}{}{word}{}{tail}{cut_tail}",
        MARKS[0], MARKS[1]
    )
}

pub(super) fn show(hit: &mut Hit, marked: &str) {
    hit.snippet_html = with_marks(&escaped(marked));
    hit.snippet = with_marks(marked);
}

fn with_marks(text: &str) -> String {
    text.replace(MARKS[0], "<mark>")
        .replace(MARKS[1], "</mark>")
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_quoted() {
        assert_eq!(literally("foo-bar \"x"), "\"foo-bar\" \"\"\"x\"");
    }

    #[test]
    fn only_marks_are_markup() {
        assert_eq!(
            with_marks(&escaped("<b>\u{1}x\u{2} & 'y'")),
            "&lt;b&gt;<mark>x</mark> &amp; &#39;y&#39;"
        );
    }

    #[test]
    fn a_snippet_shows_both_sides_of_its_match() {
        assert_eq!(around("我们部署服务", "部署"), "我们\u{1}部署\u{2}服务");
    }
}
