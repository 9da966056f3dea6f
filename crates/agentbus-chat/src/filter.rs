//! Keeps secrets out of conversations: eleven patterns of credentials, the first hit counts.

use std::sync::LazyLock;

use regex::{Regex, RegexSet};

const PATTERNS: [(&str, &str); 11] = [
    ("AWS Access Key ID", r"AKIA[0-9A-Z]{16}"),
    ("AWS Temporary Access Key", r"ASIA[0-9A-Z]{16}"),
    ("JWT Token", r"eyJ[A-Za-z0-9_-]{20,}\.eyJ[A-Za-z0-9_-]{20,}"),
    ("GitHub Personal Access Token", r"ghp_[A-Za-z0-9]{36}"),
    ("GitHub OAuth Token", r"gho_[A-Za-z0-9]{36}"),
    ("GitHub App Token", r"ghs_[A-Za-z0-9]{36}"),
    (
        "Private Key",
        r"-----BEGIN (?:RSA |EC |OPENSSH )?PRIVATE KEY-----",
    ),
    (
        "OpenAI API Key",
        r"sk-[A-Za-z0-9]{20,}T3BlbkFJ[A-Za-z0-9]{20,}",
    ),
    ("Slack Token", r"xox[bprs]-[0-9A-Za-z\-]{10,}"),
    ("Google API Key", r"AIza[0-9A-Za-z\-_]{35}"),
    (
        "Azure Storage Key",
        r"[Aa][Zz][Uu][Rr][Ee][A-Za-z0-9_]{10,}=[A-Za-z0-9+/]{43}=",
    ),
];

static SET: LazyLock<Option<RegexSet>> =
    LazyLock::new(|| RegexSet::new(PATTERNS.map(|(_, pattern)| pattern)).ok());

/// One pass for the literal that every pattern has keeps ordinary text cheap.
static HINT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new("AKIA|ASIA|eyJ|gh[pos]_|-----BEGIN |sk-|xox[bprs]-|AIza|(?i:azure)").ok()
});

/// Returns the label of the first pattern that a text matches.
#[must_use]
pub fn secret_in(text: &str) -> Option<&'static str> {
    if !HINT.as_ref().is_some_and(|hint| hint.is_match(text)) {
        return None;
    }
    let matches = SET.as_ref()?.matches(text);
    let first = matches.iter().next()?;
    PATTERNS.get(first).map(|(label, _)| *label)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One example of each, put together here so that no file of ours looks like a leak.
    fn examples() -> [(String, &'static str); 11] {
        let a = |n| "a".repeat(n);
        let up = |n| "A".repeat(n);
        [
            (format!("AKIA{}", up(16)), "AWS Access Key ID"),
            (format!("ASIA{}", up(16)), "AWS Temporary Access Key"),
            (format!("eyJ{}.eyJ{}", a(20), a(20)), "JWT Token"),
            (format!("ghp_{}", a(36)), "GitHub Personal Access Token"),
            (format!("gho_{}", a(36)), "GitHub OAuth Token"),
            (format!("ghs_{}", a(36)), "GitHub App Token"),
            ("-----BEGIN EC PRIVATE KEY-----".into(), "Private Key"),
            (format!("sk-{}T3BlbkFJ{}", a(20), a(20)), "OpenAI API Key"),
            (format!("xoxb-{}", a(10)), "Slack Token"),
            (format!("AIza{}", a(35)), "Google API Key"),
            (format!("aZuRe{}={}=", a(10), a(43)), "Azure Storage Key"),
        ]
    }

    #[test]
    fn each_pattern_is_found_inside_a_sentence() {
        for (secret, label) in examples() {
            assert_eq!(secret_in(&format!("see {secret} here")), Some(label));
        }
    }

    #[test]
    fn what_is_a_little_too_short_passes() {
        for (secret, _) in examples() {
            let short = &secret[..secret.len() - 1];
            assert_eq!(secret_in(short), None, "{short}");
        }
    }

    #[test]
    fn ordinary_text_passes() {
        assert_eq!(secret_in("we deploy to azure with a sk-learn model"), None);
        assert_eq!(secret_in(""), None);
    }
}
