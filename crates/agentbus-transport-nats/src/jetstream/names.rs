//! Names of consumers, and which patterns contain which.

/// Longest part of a readable name that is kept before its hash.
const READABLE_BYTES: usize = 32;

/// A name that the server takes for a durable subscription, the same on every machine.
pub(super) fn durable(name: &str) -> String {
    let plain = readable(name);
    if plain == name {
        return plain;
    }
    format!("{plain}-{:016x}", hash(&[name]))
}

/// The name of the consumer that the members of a group share.
pub(super) fn group(name: &str, pattern: &str) -> String {
    format!("{}{:016x}", group_prefix(name), hash(&[name, pattern]))
}

/// How the names of all consumers of a group begin.
pub(super) fn group_prefix(name: &str) -> String {
    format!("group-{}-{:08x}-", readable(name), hash(&[name]) >> 32)
}

/// How the description of every consumer of ours begins.
const DESCRIPTION: &str = "AgentBus subscription";

/// What a consumer says about itself: the group of a durable name is kept nowhere else.
pub(super) fn description(group: Option<&str>) -> String {
    match group {
        Some(group) => format!("{DESCRIPTION} of the group {group}"),
        None => DESCRIPTION.to_owned(),
    }
}

/// Whether a description is one of ours.
pub(super) fn is_description(text: &str) -> bool {
    text.starts_with(DESCRIPTION)
}

/// The name of a consumer that one subscription uses alone.
pub(super) fn lone(random: u64) -> String {
    format!("lone-{random:016x}")
}

/// What a consumer name can hold: no dots, blanks or wildcards.
fn readable(name: &str) -> String {
    let kept = name.chars().take(READABLE_BYTES);
    kept.map(|c| {
        if c.is_ascii_alphanumeric() || c == '-' {
            c
        } else {
            '_'
        }
    })
    .collect()
}

/// FNV-1a: the name must be the same on every machine and in every version.
fn hash(parts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        // The zero keeps `a` and `bc` apart from `ab` and `c`; no name holds it.
        for byte in part.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

/// Whether every subject that `narrow` matches is matched by `wide`.
pub(super) fn covers(wide: &str, narrow: &str) -> bool {
    let (mut wide, mut narrow) = (wide.split('.'), narrow.split('.'));
    loop {
        match (wide.next(), narrow.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(token), Some(same)) if token == same => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{covers, durable, group, group_prefix};

    #[test]
    fn a_pattern_contains_what_is_narrower() {
        for (wide, narrow, expect) in [
            ("a.>", "a.b", true),
            ("a.>", "a.b.>", true),
            ("a.>", "a.*.c", true),
            ("a.>", "a", false),
            ("a.*", "a.b", true),
            ("a.*", "a.*", true),
            ("a.*", "a.>", false),
            ("a.*", "a.b.c", false),
            ("a.b", "a.*", false),
            ("a.*.events.>", "a.t.events.x", true),
            (">", "a", true),
        ] {
            assert_eq!(covers(wide, narrow), expect, "{wide} {narrow}");
        }
    }

    #[test]
    fn names_are_what_a_server_takes_and_stay_the_same() {
        assert_eq!(durable("billing-1"), "billing-1");
        let dotted = durable("billing.1");
        assert!(dotted.starts_with("billing_1-"), "{dotted}");
        assert_ne!(dotted, durable("billing_1"));
        let name = group("g.x", "a.>");
        assert!(name.starts_with(&group_prefix("g.x")));
        assert!(!name.starts_with(&group_prefix("g_x")));
        assert!(!name.contains(['.', '>', '*', ' ']));
        // Written down, because another version must find the consumers of this one.
        assert_eq!(
            group("workers", "a.b"),
            "group-workers-236d09c5-5d2f2e251080e829"
        );
    }
}
