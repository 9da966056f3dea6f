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

/// What stands before the group in a description.
const OF_THE_GROUP: &str = " of the group ";

/// What a consumer says about itself: the group of a durable name is kept nowhere else, nor is a
/// name that differs from its consumer's.
pub(super) fn description(name: Option<&str>, group: Option<&str>) -> String {
    let mut text = DESCRIPTION.to_owned();
    if let Some(name) = name.filter(|name| durable(name) != **name) {
        // In quotes, so that it is seen where it ends, whatever it holds.
        let quoted = serde_json::Value::from(name);
        text = format!("{text} {quoted}");
    }
    if let Some(group) = group {
        text = format!("{text}{OF_THE_GROUP}{group}");
    }
    text
}

/// What a description says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    /// The durable name, where it differs from the consumer's.
    pub(super) name: Option<String>,
    pub(super) group: Option<String>,
}

/// Reads a description; `None` where it is none of ours.
pub(super) fn described(text: &str) -> Option<Described> {
    let rest = text.strip_prefix(DESCRIPTION)?;
    let (name, rest) = match rest.strip_prefix(' ') {
        Some(quoted) if quoted.starts_with('"') => {
            let mut read = serde_json::Deserializer::from_str(quoted).into_iter::<String>();
            let name = read.next()?.ok()?;
            (Some(name), quoted.get(read.byte_offset()..)?)
        }
        _ => (None, rest),
    };
    let group = rest.strip_prefix(OF_THE_GROUP).map(str::to_owned);
    Some(Described { name, group })
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
    use super::{Described, covers, described, description, durable, group, group_prefix};

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
    fn a_description_says_what_a_consumer_is_for() {
        let (odd, group) = ("a \"b\".* of the group c", Some("g of the group h"));
        for (name, group, text) in [
            (None, None, "AgentBus subscription"),
            (
                None,
                group,
                "AgentBus subscription of the group g of the group h",
            ),
            (
                Some(odd),
                None,
                r#"AgentBus subscription "a \"b\".* of the group c""#,
            ),
            (
                Some(odd),
                group,
                r#"AgentBus subscription "a \"b\".* of the group c" of the group g of the group h"#,
            ),
        ] {
            assert_eq!(description(name, group), text);
            let said = Described {
                name: name.map(str::to_owned),
                group: group.map(str::to_owned),
            };
            assert_eq!(described(text), Some(said), "{text}");
        }
        // The consumer's own name says it.
        assert_eq!(description(Some("a-1"), None), "AgentBus subscription");
        for theirs in ["", "something", r#"AgentBus subscription "a"#] {
            assert_eq!(described(theirs), None, "{theirs}");
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
