//! The pools of the file, in the words of the crate that runs them.

use std::fmt;

use agentbus_stdio::Config as PoolsConfig;
use agentbus_stdio::config::{HANDSHAKE_KEYS, POOL_KEYS, check_limits};
use agentbus_stdio::limits::LIMIT_NAMES;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::json;

use super::Config;
use crate::failure::{Exit, Failure};

impl Config {
    /// Reads `pools` and `pool_limits`; `None` without pools, whose limits must be right all the same.
    pub(crate) fn pools(&self) -> Result<Option<PoolsConfig>, Failure> {
        if self.pools.is_empty() {
            return check_limits(&json!(self.pool_limits))
                .map(|()| None)
                .map_err(|error| Failure::new(Exit::Configuration, error.to_string()));
        }
        let text = json!({ "pools": self.pools, "limits": self.pool_limits }).to_string();
        PoolsConfig::parse(text.as_bytes())
            .map(Some)
            .map_err(|error| Failure::new(Exit::Configuration, error.to_string()))
    }
}

/// Reads `[[pools]]`.
///
/// A key that is only warned of in the configuration of `agentbus stdio`, where comments are
/// written as keys, is an error here, and one that is found while its place is still known.
pub(super) fn entries<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<toml::Table>, D::Error> {
    let entries = Vec::<Entry>::deserialize(from)?;
    Ok(entries.into_iter().map(|entry| entry.0).collect())
}

/// Reads `[pool_limits]`.
pub(super) fn limits<'de, D: Deserializer<'de>>(from: D) -> Result<toml::Table, D::Error> {
    Keyed::new(LIMIT_NAMES).deserialize(from)
}

/// One of `[[pools]]`.
struct Entry(toml::Table);

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let keys = Keyed {
            keys: POOL_KEYS,
            table: Some(("handshake", HANDSHAKE_KEYS)),
        };
        keys.deserialize(from).map(Self)
    }
}

/// Reads a table that has no other keys than these, and leaves its values as they are.
struct Keyed {
    keys: &'static [&'static str],
    /// The key whose value is such a table again, and the keys of that.
    table: Option<(&'static str, &'static [&'static str])>,
}

impl Keyed {
    fn new(keys: &'static [&'static str]) -> Self {
        Self { keys, table: None }
    }
}

impl<'de> DeserializeSeed<'de> for Keyed {
    type Value = toml::Table;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<toml::Table, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Keyed {
    type Value = toml::Table;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a table")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<toml::Table, A::Error> {
        let mut table = toml::Table::new();
        while let Some(key) = from.next_key_seed(OneOf(self.keys))? {
            let value = match self.table {
                Some((name, keys)) if name == key => {
                    toml::Value::Table(from.next_value_seed(Keyed::new(keys))?)
                }
                _ => from.next_value::<toml::Value>()?,
            };
            table.insert(key, value);
        }
        Ok(table)
    }
}

/// Reads a key, which is one of these. Refused here it is refused with its place.
struct OneOf(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for OneOf {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<String, D::Error> {
        let key = String::deserialize(from)?;
        match self.0.contains(&key.as_str()) {
            true => Ok(key),
            false => Err(D::Error::unknown_field(&key, self.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse;

    const POOL: &str = "[[pools]]\nid = \"p\"\ncommand = \"cat\"\ninstances = 2\n";

    fn read(text: &str) -> Result<Option<PoolsConfig>, String> {
        let config = parse(Path::new("agentbus.toml"), text);
        let pools = config.and_then(|config| config.pools());
        pools.map_err(|failure| failure.message)
    }

    #[test]
    fn pools_are_read_and_their_keys_are_checked() {
        assert_eq!(read(""), Ok(None));
        let config = read(&format!(
            "{POOL}method = \"m\"\n[pool_limits]\nmax_restarts = 7\n"
        ));
        let config = config.unwrap().unwrap();
        assert_eq!(
            (config.pools[0].instances, config.limits.max_restarts),
            (2, 7)
        );
        assert_eq!(config.pools[0].method.as_deref(), Some("m"));
        assert!(
            read("[[pools]]\nid = \"p\"\n")
                .unwrap_err()
                .contains("command")
        );
        let handshake = read(&format!(
            "{POOL}handshake = {{ method = \"i\", timeout_sec = 3 }}"
        ));
        let handshake = handshake.unwrap().unwrap().pools[0].handshake.clone();
        assert_eq!(handshake.unwrap().timeout.as_secs(), 3);
    }

    #[test]
    fn a_misspelt_key_is_named_with_its_place_and_the_nearest_one() {
        let misspelt = |more: &str| read(&format!("{POOL}{more}\n")).unwrap_err();
        insta::assert_snapshot!(misspelt("blance = \"least-loaded\""),
            @"agentbus.toml:5:1: unknown key `blance`; did you mean `balance`?");
        insta::assert_snapshot!(misspelt("zzz = 1"),
            @"agentbus.toml:5:1: unknown key `zzz`; docs/configuration.md lists all keys");
        insta::assert_snapshot!(misspelt("handshake.timout_sec = 3"),
            @"agentbus.toml:5:11: unknown key `timout_sec`; did you mean `timeout_sec`?");
        insta::assert_snapshot!(misspelt("[pool_limits]\nmax_restart = 3"),
            @"agentbus.toml:6:1: unknown key `max_restart`; did you mean `max_restarts`?");
        insta::assert_snapshot!(misspelt("handshake = 3"),
            @"agentbus.toml:5:13: invalid type: integer `3`, expected a table");
        assert!(
            read("[pool_limits]\nmax_restart = 3").is_err(),
            "without pools too"
        );
        let wrong = "[pool_limits]\nmax_restarts = \"many\"\n";
        let alone = read(wrong).unwrap_err();
        assert!(alone.contains("limits.max_restarts"), "{alone}");
        assert_eq!(read(&format!("{POOL}{wrong}")).unwrap_err(), alone);
        assert_eq!(read("[pool_limits]\nmax_restarts = 3\n"), Ok(None));
    }
}
