//! Reads the queries that both stores know: words, `"phrases"`, `prefix*`, `AND`, `OR`, `NOT`,
//! `NEAR(…)` and brackets; and writes them as PostgreSQL reads them.
//!
//! ```text
//! any   = all { "OR" all }
//! all   = not { ["AND"] not }
//! not   = one { "NOT" one }
//! one   = "(" any ")" | "NEAR(" text text… ["," n] ")" | text
//! text  = (word | "phrase") ["*"]
//! ```

use super::words::{self, Sought};
use crate::limits;

/// Why a query could not be read.
pub(super) type Problem = String;

/// A query that could be read.
#[derive(Debug)]
pub(super) struct Query {
    /// The text form of a `tsquery`; empty when nothing can match.
    pub(super) text: String,
    /// What matches contain, for their snippets.
    pub(super) sought: Vec<Sought>,
}

/// Reads a query.
pub(super) fn read(text: &str) -> Result<Query, Problem> {
    let tokens = tokens(text)?;
    let mut reader = Reader {
        tokens: &tokens,
        sought: Vec::new(),
        depth: 0,
    };
    let found = reader.any()?;
    match reader.tokens.first() {
        None => Ok(Query {
            text: found.unwrap_or_default(),
            sought: reader.sought,
        }),
        Some(token) => Err(token.unexpected()),
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token<'q> {
    Open,
    Close,
    Comma,
    Star,
    Word(&'q str),
    Phrase(String),
}

impl Token<'_> {
    fn unexpected(&self) -> Problem {
        let shown = match self {
            Self::Open => "(",
            Self::Close => ")",
            Self::Comma => ",",
            Self::Star => "*",
            Self::Word(word) => word,
            Self::Phrase(phrase) => phrase,
        };
        format!("syntax error near \"{shown}\"")
    }
}

fn tokens(text: &str) -> Result<Vec<Token<'_>>, Problem> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            ',' => (Token::Comma, 1),
            '*' => (Token::Star, 1),
            '"' => quoted(rest)?,
            c if is_bare(c) => {
                let length = rest.find(|c| !is_bare(c)).unwrap_or(rest.len());
                (Token::Word(&rest[..length]), length)
            }
            other => return Err(format!("syntax error near \"{other}\"")),
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

/// What stands in a query without quotes.
fn is_bare(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || !c.is_ascii() && !c.is_whitespace()
}

/// Reads up to the closing quote; a doubled one is part of the phrase.
fn quoted<'q>(text: &str) -> Result<(Token<'q>, usize), Problem> {
    let mut phrase = String::new();
    let mut at = 1;
    while let Some(length) = text[at..].find('"') {
        phrase.push_str(&text[at..at + length]);
        at += length + 1;
        if !text[at..].starts_with('"') {
            return Ok((Token::Phrase(phrase), at));
        }
        phrase.push('"');
        at += 1;
    }
    Err("unterminated string".to_owned())
}

struct Reader<'q> {
    tokens: &'q [Token<'q>],
    sought: Vec<Sought>,
    depth: usize,
}

/// A part of a query as PostgreSQL reads it; `None` where no word is left of it.
type Part = Option<String>;

impl Reader<'_> {
    fn take(&mut self, token: &Token<'_>) -> bool {
        let is_next = self.tokens.first() == Some(token);
        if is_next {
            self.tokens = &self.tokens[1..];
        }
        is_next
    }

    fn any(&mut self) -> Result<Part, Problem> {
        let mut parts = vec![self.all()?];
        while self.take(&Token::Word("OR")) {
            parts.push(self.all()?);
        }
        Ok(joined(parts, " | "))
    }

    fn all(&mut self) -> Result<Part, Problem> {
        let mut parts = vec![self.not()?];
        loop {
            match self.tokens.first() {
                None | Some(Token::Close | Token::Comma | Token::Word("OR")) => {
                    return Ok(joined(parts, " & "));
                }
                Some(Token::Word("AND")) => self.tokens = &self.tokens[1..],
                Some(_) => {}
            }
            parts.push(self.not()?);
        }
    }

    fn not(&mut self) -> Result<Part, Problem> {
        let mut parts = vec![self.one()?];
        while self.take(&Token::Word("NOT")) {
            // A snippet does not show what must not be there.
            let sought = self.sought.len();
            let part = self.one()?;
            self.sought.truncate(sought);
            parts.push(part.map(|part| format!("!{part}")));
        }
        Ok(joined(parts, " & "))
    }

    fn one(&mut self) -> Result<Part, Problem> {
        match self.tokens {
            [Token::Word("NEAR"), Token::Open, rest @ ..] => {
                self.tokens = rest;
                self.near()
            }
            [Token::Open, rest @ ..] => {
                self.tokens = rest;
                self.depth += 1;
                if self.depth > limits::QUERY_DEPTH_MAX {
                    return Err("too many brackets".to_owned());
                }
                let inner = self.any()?;
                self.depth -= 1;
                self.close()?;
                Ok(inner)
            }
            _ => Ok(self.text()?.map(|text| self.written(text))),
        }
    }

    fn close(&mut self) -> Result<(), Problem> {
        if self.take(&Token::Close) {
            return Ok(());
        }
        Err("a bracket is not closed".to_owned())
    }

    /// One word, or the words of a phrase.
    fn text(&mut self) -> Result<Option<Vec<Sought>>, Problem> {
        let text = match self.tokens.first() {
            None => return Err("the query ends too soon".to_owned()),
            Some(Token::Word(word)) if !["AND", "OR", "NOT"].contains(word) => *word,
            Some(Token::Phrase(phrase)) => phrase,
            Some(other) => return Err(other.unexpected()),
        };
        self.tokens = &self.tokens[1..];
        let plain = words::of(text).map(|word| word.plain());
        let mut words: Vec<Sought> = plain
            .filter(|word| !word.is_empty())
            .map(|word| Sought {
                word,
                is_prefix: false,
            })
            .collect();
        let is_prefix = self.take(&Token::Star);
        if let Some(last) = words.last_mut() {
            last.is_prefix = is_prefix;
        }
        Ok(Some(words).filter(|words| !words.is_empty()))
    }

    fn written(&mut self, phrase: Vec<Sought>) -> String {
        let parts = phrase.iter().map(|one| {
            let star = if one.is_prefix { ":*" } else { "" };
            Some(format!("'{}'{star}", one.word))
        });
        let written = joined(parts.collect(), " <-> ").unwrap_or_default();
        self.sought.extend(phrase);
        written
    }

    /// Texts that stand close to each other, in any order: neighbours in the query are neighbours
    /// in the message, with at most so many words between.
    fn near(&mut self) -> Result<Part, Problem> {
        let mut texts = Vec::new();
        while !matches!(self.tokens.first(), Some(Token::Close | Token::Comma)) {
            texts.extend(self.text()?);
        }
        let mut between = limits::NEAR_WORDS;
        if self.take(&Token::Comma) {
            let number = match self.tokens.first() {
                Some(Token::Word(word)) => word.parse::<usize>().ok(),
                _ => None,
            };
            let number = number.ok_or("NEAR wants a number after its comma")?;
            between = number.min(limits::NEAR_WORDS);
            self.tokens = &self.tokens[1..];
        }
        self.close()?;
        let written: Vec<String> = texts.into_iter().map(|text| self.written(text)).collect();
        if let [only] = written.as_slice() {
            return Ok(Some(only.clone()));
        }
        let pairs = written.windows(2).map(|pair| {
            let distances = (1..=between + 1).flat_map(|n| {
                let (a, b) = (&pair[0], &pair[1]);
                [
                    Some(format!("({a} <{n}> {b})")),
                    Some(format!("({b} <{n}> {a})")),
                ]
            });
            joined(distances.collect(), " | ")
        });
        Ok(joined(pairs.collect(), " & "))
    }
}

/// Parts that are there, joined; in brackets if there are several.
fn joined(parts: Vec<Part>, by: &str) -> Part {
    let mut parts: Vec<String> = parts.into_iter().flatten().collect();
    match parts.len() {
        0 => None,
        1 => parts.pop(),
        _ => Some(format!("({})", parts.join(by))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        assert_eq!(read(text).unwrap().text, expect, "{text}");
    }

    fn wrong(text: &str) {
        assert!(read(text).is_err(), "{text}");
    }

    #[test]
    fn what_is_known_is_read() {
        check("Urgent", "'urgent'");
        check("a b", "('a' & 'b')");
        check("a AND b OR c", "(('a' & 'b') | 'c')");
        check("a NOT b", "('a' & !'b')");
        check("(a OR b) c", "(('a' | 'b') & 'c')");
        check("\"a b\"", "('a' <-> 'b')");
        check("\"say \"\"hi\"\"\"", "('say' <-> 'hi')");
        check("foo_bar", "('foo' <-> 'bar')");
        check("depl*", "'depl':*");
        check("\"a depl\" *", "('a' <-> 'depl':*)");
        check("NEAR(a b, 0)", "(('a' <1> 'b') | ('b' <1> 'a'))");
        check("near", "'near'");
        check("\"!\" a", "'a'");
        check("\"!\"", "");
    }

    #[test]
    fn what_is_not_known_is_a_problem() {
        for text in [
            "foo-bar", "\"open", "foo AND", "*", "OR a", "(a", "a)", "NEAR(a", "a:b", "^a",
        ] {
            wrong(text);
        }
        wrong(&"(".repeat(1000));
    }

    #[test]
    fn snippets_do_not_show_what_must_not_be_there() {
        let sought = read("a NOT b").unwrap().sought;
        assert_eq!(sought.len(), 1);
    }

    #[test]
    fn nothing_can_be_smuggled_in() {
        check("\"a' | 'b\"", "('a' <-> 'b')");
        check("\"a\\\"", "'a'");
    }
}
