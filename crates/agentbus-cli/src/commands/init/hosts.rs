//! The MCP hosts that are known, as one table: where they keep their configuration and how an
//! entry looks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::edit;

/// Variables of the environment by name.
pub(super) type Variables = BTreeMap<&'static str, String>;

/// A host.
pub(super) struct Host {
    /// What the command line calls it.
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    /// It is installed if one of these is in the home directory.
    signs: &'static [&'static str],
    /// The configuration, in the home directory; the first whose directory is there.
    files: &'static [&'static str],
    form: Form,
}

/// How a host writes its servers down.
enum Form {
    /// JSON, in the object under this key; comments are allowed.
    Json(&'static str, fn(&str) -> Value),
    /// TOML, in a table under this one.
    Toml(&'static str),
}

/// An entry as most hosts want it.
fn plain(program: &str) -> Value {
    json!({ "command": program, "args": ["mcp"] })
}

fn typed(program: &str) -> Value {
    json!({ "type": "stdio", "command": program, "args": ["mcp"] })
}

fn custom(program: &str) -> Value {
    json!({ "source": "custom", "command": program, "args": ["mcp"], "env": {} })
}

pub(super) const HOSTS: &[Host] = &[
    Host {
        id: "claude",
        name: "Claude Code",
        signs: &[".claude.json", ".claude"],
        files: &[".claude.json"],
        form: Form::Json("mcpServers", typed),
    },
    Host {
        id: "codex",
        name: "Codex",
        signs: &[".codex"],
        files: &[".codex/config.toml"],
        form: Form::Toml("mcp_servers"),
    },
    Host {
        id: "gemini",
        name: "Gemini CLI",
        signs: &[".gemini"],
        files: &[".gemini/settings.json"],
        form: Form::Json("mcpServers", plain),
    },
    Host {
        id: "vscode",
        name: "VS Code",
        signs: &[".config/Code/User", "Library/Application Support/Code/User"],
        files: &[
            ".config/Code/User/mcp.json",
            "Library/Application Support/Code/User/mcp.json",
        ],
        form: Form::Json("servers", typed),
    },
    Host {
        id: "cursor",
        name: "Cursor",
        signs: &[".cursor"],
        files: &[".cursor/mcp.json"],
        form: Form::Json("mcpServers", plain),
    },
    Host {
        id: "zed",
        name: "Zed",
        signs: &[".config/zed"],
        files: &[".config/zed/settings.json"],
        form: Form::Json("context_servers", custom),
    },
];

impl Host {
    pub(super) fn is_installed(&self, home: &Path) -> bool {
        self.signs.iter().any(|sign| home.join(sign).exists())
    }

    pub(super) fn file(&self, home: &Path) -> PathBuf {
        let mut files = self.files.iter().map(|file| home.join(file));
        let there = files
            .clone()
            .find(|file| file.parent().is_some_and(Path::is_dir));
        // A host has a file.
        there.or_else(|| files.next()).unwrap_or_default()
    }

    /// What is entered: how to start the bus as an MCP server. The whole path, because editors
    /// often run with another search path than the shell.
    ///
    /// Hosts do not have the shell's variables either, so those that lead to the bus go along.
    pub(super) fn entry(&self, program: &Path, variables: &Variables) -> String {
        let program = program.to_string_lossy();
        match &self.form {
            Form::Json(_, entry) => {
                let mut entry = entry(&program);
                if !variables.is_empty() {
                    entry["env"] = json!(variables);
                }
                entry.to_string()
            }
            Form::Toml(_) => {
                let program = toml::Value::from(program.as_ref());
                let mut entry = format!("command = {program}\nargs = [\"mcp\"]\n");
                if !variables.is_empty() {
                    let inline = toml::Value::try_from(variables).map(|value| value.to_string());
                    entry.push_str(&format!("env = {}\n", inline.unwrap_or_default()));
                }
                entry
            }
        }
    }

    /// Adds an entry to a configuration; none if it has one.
    pub(super) fn insert(
        &self,
        text: &str,
        name: &str,
        entry: &str,
    ) -> Result<Option<String>, String> {
        match &self.form {
            Form::Json(root, _) => edit::insert_json(text, root, name, entry),
            Form::Toml(root) => edit::insert_toml(text, root, name, entry),
        }
    }
}
