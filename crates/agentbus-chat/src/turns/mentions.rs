//! Who is asked by a message.

use std::collections::HashMap;

use crate::AgentId;
use crate::model::Message;

/// The agents that a message asks: by `@name` in its text, by `mentions` and by `handoff_target` of
/// its metadata. Nobody asks themselves.
pub(super) fn of(
    message: &Message,
    agents: &[String],
    ids: &HashMap<String, AgentId>,
) -> Vec<String> {
    let named = names(&message.content);
    let metadata = message.metadata.as_ref();
    let listed = metadata.and_then(|metadata| metadata.get("mentions")?.as_array());
    let listed = listed.into_iter().flatten().filter_map(|one| one.as_str());
    let handed: Vec<&str> = listed.chain(message.meta("handoff_target")).collect();
    let is_asked = |name: &&String| {
        let id = ids.get(*name).map(AgentId::as_str);
        let by_text = named.iter().any(|one| one.eq_ignore_ascii_case(name));
        let by_hand = handed
            .iter()
            .any(|one| *one == name.as_str() || Some(*one) == id);
        let is_author = message.author_id.is_some() && message.author_id.as_deref() == id;
        (by_text || by_hand) && !is_author
    };
    agents.iter().filter(is_asked).cloned().collect()
}

/// The names after an `@` in a text. One inside of a word is an address, one in backquotes is about
/// a name and asks nobody.
fn names(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let (mut quoted, mut before) = (false, ' ');
    for (at, c) in text.char_indices() {
        if c == '`' {
            quoted = !quoted;
        } else if c == '@' && !quoted && !before.is_alphanumeric() {
            let rest = &text[at + 1..];
            let end = rest.find(|c: char| !(c.is_alphanumeric() || "_-.".contains(c)));
            let name = rest[..end.unwrap_or(rest.len())].trim_end_matches(['.', '-']);
            if !name.is_empty() {
                names.push(name);
            }
        }
        before = c;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_after_an_at_sign_that_begins_a_word() {
        for (text, want) in [
            ("@reviewer please", vec!["reviewer"]),
            ("ask @a, then (@b-2).", vec!["a", "b-2"]),
            ("mail me at x@y.org", vec![]),
            ("write `@reviewer` to ask it", vec![]),
            ("@ nobody, and an end@", vec![]),
        ] {
            assert_eq!(names(text), want, "{text}");
        }
    }
}
