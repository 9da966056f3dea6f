//! The JSON Schemas of the file.

use std::path::{Path, PathBuf};

use agentbus::schemas::Schemas;
use serde::{Deserialize, Serialize};

use super::Config;
use crate::failure::{Exit, Failure};

/// One `[[schemas]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    file: PathBuf,
}

impl Config {
    /// Reads the files that `schemas` names.
    pub(crate) fn schemas(&self) -> Result<Schemas, Failure> {
        let mut schemas = Schemas::default();
        for entry in &self.schemas {
            let schema = read(&entry.file)?;
            let added = match (&entry.event, &entry.target) {
                (Some(event), None) => schemas.event(event, &schema),
                (None, Some(target)) => schemas.target(target, &schema),
                _ => return Err(refused(&entry.file, "name either an event or a target")),
            };
            schemas = added.map_err(|error| refused(&entry.file, &error.to_string()))?;
        }
        Ok(schemas)
    }
}

fn read(file: &Path) -> Result<serde_json::Value, Failure> {
    let text = std::fs::read(file).map_err(|error| refused(file, &error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| refused(file, &format!("no JSON: {error}")))
}

fn refused(file: &Path, why: &str) -> Failure {
    let message = format!("[[schemas]] with the file {}: {why}", file.display());
    Failure::new(Exit::Configuration, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Schemas, String> {
        let config: Config = toml::from_str(text).map_err(|error| error.to_string())?;
        config.schemas().map_err(|failure| failure.message)
    }

    #[test]
    fn a_schema_is_for_an_event_or_a_target_and_its_file_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("order.json");
        std::fs::write(&file, r#"{"type":"object"}"#).unwrap();
        let entry = |who: &str| format!("[[schemas]]\n{who}\nfile = {file:?}\n");
        assert!(!load(&entry("event = \"order.paid\"")).unwrap().is_empty());
        assert!(!load(&entry("target = \"planner\"")).unwrap().is_empty());
        for (text, says) in [
            (entry(""), "either an event or a target"),
            (
                entry("event = \"a\"\ntarget = \"b\""),
                "either an event or a target",
            ),
            (entry("evnt = \"a\""), "unknown field `evnt`"),
            (
                "[[schemas]]\nevent = \"a\"\nfile = \"none.json\"".to_owned(),
                "none.json",
            ),
        ] {
            let refused = load(&text).unwrap_err();
            assert!(refused.contains(says), "{refused}");
        }
        std::fs::write(&file, r#"{"type":"objct"}"#).unwrap();
        let refused = load(&entry("event = \"order.paid\"")).unwrap_err();
        assert!(
            refused.contains("the schema of `order.paid` cannot be used"),
            "{refused}"
        );
    }
}
