//! What is wrong in a configuration file, with the place and the nearest key.

use std::path::Path;

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
        Some((key, known)) => format!("{place}: unknown key `{key}`{}", suggestion(key, &known)),
        None => format!("{place}: {}", error.message()),
    }
}

/// The parser says "unknown field `x`, expected one of `a`, `b`": the name, and those that the
/// table it stands in has.
fn unknown_key(message: &str) -> Option<(&str, Vec<&str>)> {
    let mut names = message
        .strip_prefix("unknown field `")?
        .split('`')
        .step_by(2);
    Some((
        names.next()?,
        names.filter(|name| !name.is_empty()).collect(),
    ))
}

fn suggestion(key: &str, known: &[&str]) -> String {
    let scored = known
        .iter()
        .map(|name| (strsim::jaro_winkler(key, name), *name));
    match scored.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((score, name)) if score > SIMILAR => format!("; did you mean `{name}`?"),
        _ => "; docs/configuration.md lists all keys".to_owned(),
    }
}
