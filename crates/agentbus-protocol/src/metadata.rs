//! Free-form metadata of an envelope.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::payload::without_blanks;
use crate::{Payload, PayloadError};

/// Keys that begin so belong to the runtime of one hop and never reach a reply.
const RUNTIME_PREFIX: &str = "acp.";

type Map = BTreeMap<String, Box<RawValue>>;

/// A map from text to any JSON value, shared by reference count.
///
/// Values are kept as the JSON text they came in, so that an integer above 2^53 or a number such
/// as `1.0` is the same after any number of hops.
#[derive(Clone, Default)]
pub struct Metadata(Option<Arc<Map>>);

impl Metadata {
    /// The map without keys.
    pub const EMPTY: Self = Self(None);

    /// The attempt that a retry is making, written on the request.
    pub const RETRY_ATTEMPT: &'static str = "acp.retry.attempt";

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|map| map.is_empty())
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |map| map.len())
    }

    /// Sets a value and returns whether it could be written as JSON.
    ///
    /// # Errors
    /// Fails when the value has no JSON form, for example a map with keys that are not text.
    pub fn insert(
        &mut self,
        key: impl Into<String>,
        value: &impl Serialize,
    ) -> Result<(), PayloadError> {
        let raw = serde_json::value::to_raw_value(value)
            .map_err(|error| PayloadError::Unwritable(error.to_string()))?;
        let mut raw = raw;
        on_one_line(&mut raw);
        self.edit().insert(key.into(), raw);
        Ok(())
    }

    /// Sets a text value.
    pub fn insert_text(&mut self, key: impl Into<String>, value: &str) {
        // A string always has a JSON form, so there is no error to report.
        let _ = self.insert(key, &value);
    }

    /// Removes an entry.
    pub fn remove(&mut self, key: &str) {
        if self.raw(key).is_some() {
            self.edit().remove(key);
        }
    }

    /// The JSON text of an entry.
    #[must_use]
    pub fn raw(&self, key: &str) -> Option<&str> {
        Some(self.0.as_ref()?.get(key)?.get())
    }

    /// An entry read as `T`; `None` when it is missing or of another shape.
    #[must_use]
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        serde_json::from_str(self.raw(key)?).ok()
    }

    /// All entries in key order, values as JSON text.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .flat_map(|map| map.iter())
            .map(|(key, value)| (key.as_str(), value.get()))
    }

    /// What a reply inherits: everything but the runtime's own keys (`acp.*`, case-sensitive).
    #[must_use]
    pub fn inherited(&self) -> Self {
        match &self.0 {
            Some(map) if map.keys().any(|key| key.starts_with(RUNTIME_PREFIX)) => {
                let kept = map
                    .iter()
                    .filter(|(key, _)| !key.starts_with(RUNTIME_PREFIX));
                Self::from_map(
                    kept.map(|(key, value)| (key.clone(), value.clone()))
                        .collect(),
                )
            }
            _ => self.clone(),
        }
    }

    /// Lays `other` over this map; on equal keys `other` wins.
    #[must_use]
    pub fn merged_with(&self, other: &Self) -> Self {
        let Some(overlay) = &other.0 else {
            return self.clone();
        };
        let mut merged = self.clone();
        for (key, value) in overlay.iter() {
            merged.edit().insert(key.clone(), value.clone());
        }
        merged
    }

    fn edit(&mut self) -> &mut Map {
        Arc::make_mut(self.0.get_or_insert_default())
    }

    fn from_map(map: Map) -> Self {
        if map.is_empty() {
            Self(None)
        } else {
            Self(Some(Arc::new(map)))
        }
    }

    /// The whole map as JSON, for example to hand it to a program.
    #[must_use]
    pub fn to_payload(&self) -> Option<Payload> {
        Payload::json(&self.0.as_deref()).ok()
    }
}

impl Serialize for Metadata {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().flat_map(|map| map.iter()))
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut map = Map::deserialize(deserializer)?;
        map.values_mut().for_each(on_one_line);
        Ok(Self::from_map(map))
    }
}

/// Takes the line breaks out of a value, as out of a payload: whoever prints an envelope prints one
/// line, and no part of it can pass for a line of its own.
fn on_one_line(value: &mut Box<RawValue>) {
    let text = value.get().as_bytes();
    if memchr::memchr2(b'\n', b'\r', text).is_none() {
        return;
    }
    let compact = String::from_utf8(without_blanks(text)).ok();
    if let Some(compact) = compact.and_then(|text| RawValue::from_string(text).ok()) {
        *value = compact;
    }
}

impl PartialEq for Metadata {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Metadata {}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        reason = "a test that cannot go on should say where"
    )]

    use super::*;

    #[test]
    fn a_value_never_holds_a_line_break() {
        let read: Metadata =
            serde_json::from_str("{\"a\":\n{\"x\": [1,\n\"y\\n z\"]}\r\n}").unwrap();
        assert_eq!(read.raw("a"), Some(r#"{"x":[1,"y\n z"]}"#));
    }
}
