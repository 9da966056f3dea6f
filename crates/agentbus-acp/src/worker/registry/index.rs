//! The index of a registry: which agents there are, and how each is started.
//!
//! An entry that cannot be read is left out with a warning, so that one mistake in an index does not
//! take all agents away.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// The agents by their id.
#[derive(Debug, Clone, Default)]
pub(super) struct Index(BTreeMap<String, Entry>);

/// An agent.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) distribution: Distribution,
    /// MCP servers that each of its sessions gets.
    #[serde(default)]
    pub(super) mcp_servers: Vec<McpServer>,
    #[serde(default)]
    pub(super) auth_required: bool,
    #[serde(default)]
    pub(super) auth_methods: Vec<Value>,
}

/// How an agent is obtained; the first one that is there counts.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Distribution {
    pub(super) npx: Option<Package>,
    pub(super) uvx: Option<Package>,
    pub(super) binary: Option<BTreeMap<String, Binary>>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Package {
    pub(super) package: String,
    #[serde(default)]
    pub(super) args: Vec<String>,
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
}

/// A program for one platform, alone or in an archive.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Binary {
    pub(super) archive: Option<String>,
    pub(super) cmd: String,
    #[serde(default)]
    pub(super) args: Vec<String>,
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct McpServer {
    pub(super) name: String,
    pub(super) command: String,
    #[serde(default)]
    pub(super) args: Vec<String>,
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
}

impl Index {
    /// Reads the text of an index.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct File {
            agents: Vec<Value>,
        }
        let file: File = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let mut agents = BTreeMap::new();
        for agent in file.agents {
            let id = agent["id"].as_str().unwrap_or("without an id").to_owned();
            match serde_json::from_value::<Entry>(agent) {
                Ok(entry) => {
                    agents.insert(entry.id.clone(), entry);
                }
                Err(error) => tracing::warn!(agent = id, %error, "an entry cannot be used"),
            }
        }
        Ok(Self(agents))
    }

    /// Lays other entries over these.
    pub(super) fn lay(&mut self, over: Self) {
        self.0.extend(over.0);
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.0.values()
    }

    pub(super) fn get(&self, id: &str) -> Option<&Entry> {
        self.0.get(id)
    }
}
