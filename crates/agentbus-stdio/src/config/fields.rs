//! Reads typed fields from one object of the configuration and notices those it does not have.

use serde_json::Value;

use super::{ConfigError, Object, invalid};

/// One object, with the place it stands at and the keys that it may have.
pub(super) struct Fields<'a> {
    place: String,
    object: &'a Object,
    known: &'static [&'static str],
}

impl<'a> Fields<'a> {
    pub(super) fn new(
        place: impl Into<String>,
        object: &'a Object,
        known: &'static [&'static str],
    ) -> Self {
        Self {
            place: place.into(),
            object,
            known,
        }
    }

    /// Returns the place of a key in words.
    pub(super) fn place_of(&self, key: &str) -> String {
        match self.place.as_str() {
            "" => key.to_owned(),
            place if place.ends_with('"') => format!("{place}: {key}"),
            place => format!("{place}.{key}"),
        }
    }

    pub(super) fn rename(&mut self, place: String) {
        self.place = place;
    }

    pub(super) fn error(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        invalid(self.place_of(key), problem)
    }

    /// Returns a value of any type. `null` counts as absent.
    pub(super) fn take(&self, key: &'static str) -> Option<&'a Value> {
        debug_assert!(self.known.contains(&key), "{key} is in no table of keys");
        self.object.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, key: &'static str) -> Result<Option<&'a str>, ConfigError> {
        let value = self.take(key);
        value
            .map(|value| {
                value
                    .as_str()
                    .ok_or_else(|| self.error(key, "give a string"))
            })
            .transpose()
    }

    pub(super) fn whole_number(&self, key: &'static str) -> Result<Option<u64>, ConfigError> {
        let value = self.take(key);
        let need = "give a whole number, 0 or more";
        value
            .map(|value| value.as_u64().ok_or_else(|| self.error(key, need)))
            .transpose()
    }

    pub(super) fn object(&self, key: &'static str) -> Result<Option<&'a Object>, ConfigError> {
        let value = self.take(key);
        value
            .map(|value| {
                value
                    .as_object()
                    .ok_or_else(|| self.error(key, "give an object"))
            })
            .transpose()
    }

    pub(super) fn texts(&self, key: &'static str) -> Result<Vec<String>, ConfigError> {
        let Some(value) = self.take(key) else {
            return Ok(Vec::new());
        };
        let need = "give an array of strings";
        let entries = value.as_array().ok_or_else(|| self.error(key, need))?;
        entries
            .iter()
            .map(|entry| entry.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or_else(|| self.error(key, need))
    }

    /// Warns of keys that nobody knows. A leading underscore marks a comment.
    pub(super) fn warn_of_unknown(&self, warnings: &mut Vec<String>) {
        let unknown = self
            .object
            .keys()
            .filter(|key| !key.starts_with('_') && !self.known.contains(&key.as_str()));
        for key in unknown {
            let place = self.place_of(key);
            let near = self
                .known
                .iter()
                .map(|known| (strsim::jaro_winkler(known, key), known))
                .filter(|(likeness, _)| *likeness > 0.8)
                .max_by(|left, right| left.0.total_cmp(&right.0));
            warnings.push(match near {
                Some((_, known)) => {
                    format!("config: {place} is not known and has no effect: is it {known}?")
                }
                None => format!("config: {place} is not known and has no effect"),
            });
        }
    }
}
