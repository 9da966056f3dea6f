//! What is wrong in a configuration file, with the place and the nearest key.

use std::path::Path;

use super::KEYS;

/// Similarity from which on a key is suggested; below it a guess is noise.
const SIMILAR: f64 = 0.6;

pub(super) fn describe(path: &Path, text: &str, error: &toml::de::Error) -> String {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let before = &text[..text.floor_char_boundary(at)];
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .map_or(0, |rest| rest.chars().count())
        + 1;
    let place = format!("{}:{line}:{column}", path.display());
    match unknown_key(error.message()) {
        Some(key) => format!("{place}: unknown key `{key}`{}", suggestion(key)),
        None => format!("{place}: {}", error.message()),
    }
}

/// The parser says "unknown field `x`, expected one of …"; only the name is of use here.
fn unknown_key(message: &str) -> Option<&str> {
    message.strip_prefix("unknown field `")?.split('`').next()
}

fn suggestion(key: &str) -> String {
    let scored = KEYS
        .iter()
        .map(|known| (strsim::jaro_winkler(key, known.name), known.name));
    match scored.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((score, name)) if score > SIMILAR => format!("; did you mean `{name}`?"),
        _ => "; docs/configuration.md lists all keys".to_owned(),
    }
}
