//! Takes texts apart into words, as the index of the SQLite store does: runs of letters and digits,
//! in small letters, without marks on them. PostgreSQL only compares what comes out.

use std::collections::BTreeMap;
use std::fmt::Write;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::limits;
use crate::store::snippet::MARKS;

/// PostgreSQL knows no place beyond this one; later words all stand there.
const PLACE_MAX: usize = 16_383;

/// Places of one word that PostgreSQL keeps.
const PLACES_MAX: usize = 256;

/// A word of a text, and where it stands in it.
pub(super) struct Word<'t> {
    pub(super) text: &'t str,
    pub(super) begin: usize,
}

impl Word<'_> {
    /// The form in which words are compared.
    pub(super) fn plain(&self) -> String {
        let mut plain = String::new();
        let letters = self.text.nfkd().filter(|c| !is_combining_mark(*c));
        for c in letters.flat_map(char::to_lowercase) {
            if plain.len() + c.len_utf8() > limits::WORD_BYTES_MAX {
                break;
            }
            plain.push(c);
        }
        plain
    }

    fn end(&self) -> usize {
        self.begin + self.text.len()
    }
}

pub(super) fn of(text: &str) -> impl Iterator<Item = Word<'_>> {
    let belongs = |c: char| c.is_alphanumeric() || is_combining_mark(c);
    let mut rest = 0;
    std::iter::from_fn(move || {
        let begin = rest + text[rest..].find(belongs)?;
        let length = text[begin..].find(|c| !belongs(c));
        let end = length.map_or(text.len(), |length| begin + length);
        rest = end;
        Some(Word {
            text: &text[begin..end],
            begin,
        })
    })
}

/// The text form of a `tsvector`. Words consist of letters and digits, so nothing needs quoting
/// but the words themselves.
pub(super) fn vector(text: &str) -> String {
    let mut places: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut bytes = 0;
    for (at, word) in of(text).enumerate() {
        let plain = word.plain();
        if plain.is_empty() {
            continue;
        }
        bytes += plain.len();
        if bytes > limits::INDEXED_BYTES_MAX {
            break;
        }
        let found = places.entry(plain).or_default();
        if found.len() < PLACES_MAX {
            found.push((at + 1).min(PLACE_MAX));
        }
    }
    let mut vector = String::with_capacity(2 * bytes);
    for (word, places) in places {
        let _ = write!(vector, "'{word}':");
        for (n, place) in places.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            let _ = write!(vector, "{comma}{place}");
        }
        vector.push(' ');
    }
    vector
}

/// A word that a query looks for, or how it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sought {
    pub(super) word: String,
    pub(super) is_prefix: bool,
}

impl Sought {
    fn fits(&self, plain: &str) -> bool {
        plain == self.word || self.is_prefix && plain.starts_with(&self.word)
    }
}

/// Words that a snippet shows.
const SHOWN: usize = 20;

/// Words that it shows before the first match.
const BEFORE: usize = 4;

/// Cuts a snippet around the first match and marks all matches in it.
pub(super) fn marked(content: &str, sought: &[Sought]) -> String {
    let fits = |word: &Word<'_>| {
        let plain = word.plain();
        sought.iter().any(|one| one.fits(&plain))
    };
    let first = of(content).position(|word| fits(&word)).unwrap_or(0);
    let skipped = first.saturating_sub(BEFORE);
    let mut shown = of(content)
        .skip(skipped)
        .take(SHOWN + 1)
        .collect::<Vec<_>>();
    let goes_on = shown.len() > SHOWN;
    shown.truncate(SHOWN);
    let end = match shown.last().filter(|_| goes_on) {
        Some(last) => last.end(),
        None => content.len(),
    };
    let mut at = if skipped == 0 {
        0
    } else {
        shown.first().map_or(0, |word| word.begin)
    };
    let mut snippet = String::from(if skipped == 0 { "" } else { "…" });
    for word in shown.iter().filter(|word| fits(word)) {
        snippet.push_str(&content[at..word.begin]);
        snippet.push(MARKS[0]);
        snippet.push_str(word.text);
        snippet.push(MARKS[1]);
        at = word.end();
    }
    snippet.push_str(&content[at..end]);
    snippet + if goes_on { "…" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_small_and_bare() {
        let words: Vec<_> = of("A Résumé, foo-bar!").map(|word| word.plain()).collect();
        assert_eq!(words, ["a", "resume", "foo", "bar"]);
        assert_eq!(vector("b a b"), "'a':2 'b':1,3 ");
        assert_eq!(vector("--"), "");
    }

    #[test]
    fn what_is_too_long_for_the_index_is_cut() {
        let long = "x".repeat(10_000);
        assert_eq!(vector(&long).len(), limits::WORD_BYTES_MAX + 5);
        let many: String = (0..200_000).map(|n| format!("w{n} ")).collect();
        assert!(vector(&many).len() < 1024 * 1024);
    }

    #[test]
    fn a_snippet_shows_the_first_match_and_marks_all() {
        let sought = [Sought {
            word: "dep".into(),
            is_prefix: true,
        }];
        assert_eq!(
            marked("we deploy, and Deployed", &sought),
            "we \u{1}deploy\u{2}, and \u{1}Deployed\u{2}"
        );
        let long = format!("{}deploy {}", "x ".repeat(30), "y ".repeat(30));
        let cut = marked(&long, &sought);
        assert!(cut.starts_with("…x x x x \u{1}deploy\u{2} y"), "{cut}");
        assert!(cut.ends_with("y…"), "{cut}");
    }
}
