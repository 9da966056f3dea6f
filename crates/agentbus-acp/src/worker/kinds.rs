//! Guesses what kind of thing a tool does, from what it is called.

use crate::sdk::serving::schema::ToolKind;

/// Words of a tool's name, first match first. A description decides before all of them.
const BY_NAME: &[(&[&str], ToolKind)] = &[
    (&["read", "get", "list", "fetch"], ToolKind::Read),
    (&["write", "edit", "update", "modify"], ToolKind::Edit),
    (&["delete", "remove"], ToolKind::Delete),
    (&["move", "rename"], ToolKind::Move),
    (&["search", "find", "query"], ToolKind::Search),
    (&["exec", "run", "shell", "command"], ToolKind::Execute),
    (&["http", "api", "request"], ToolKind::Fetch),
];

/// Words of a description that speak of something outside.
const OUTSIDE: &[&str] = &["external", "api", "http"];

/// Returns the kind of a tool.
pub(super) fn kind_of(name: &str, description: &str) -> ToolKind {
    let (name, description) = (name.to_lowercase(), description.to_lowercase());
    if OUTSIDE.iter().any(|word| description.contains(word)) {
        return ToolKind::Fetch;
    }
    let found = BY_NAME
        .iter()
        .find(|(words, _)| words.iter().any(|word| name.contains(word)));
    found.map_or(ToolKind::Other, |(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tool_kinds_follow_the_name_and_the_description_decides_first() {
        for (name, description, kind) in [
            ("read_file", "", ToolKind::Read),
            ("get_weather", "Calls an external service", ToolKind::Fetch),
            ("GetThing", "", ToolKind::Read),
            ("update_row", "", ToolKind::Edit),
            ("remove", "", ToolKind::Delete),
            ("rename", "", ToolKind::Move),
            ("find_symbol", "", ToolKind::Search),
            ("shell", "", ToolKind::Execute),
            ("request", "", ToolKind::Fetch),
            ("echo", "Returns the text.", ToolKind::Other),
            // The first row that matches counts: a list is read before it is searched.
            ("list_and_search", "", ToolKind::Read),
        ] {
            assert_eq!(kind_of(name, description), kind, "{name}");
        }
    }
}
