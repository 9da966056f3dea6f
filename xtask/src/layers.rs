//! `cargo xtask layers`: dependencies point down, and each crate keeps its bounds.
//!
//! Three checks, each with its own file: arrows between our crates, what the protocol crate pulls
//! in, and names that only some crates may use. Dev-dependencies are exempt, because a test may
//! look at the house from any floor.

mod arrows;
mod bounds;
mod purity;

use std::fmt;

use crate::failure::Failure;
use crate::workspace::Workspace;

/// A floor of the house; a crate may depend only on crates of a lower floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    Protocol,
    Transport,
    /// One transport each, and the crate that starts processes; they never know each other.
    Carrier,
    Bus,
    Service,
    /// One outside protocol each; they never know each other.
    Gateway,
    Host,
    Binary,
    Tool,
}

/// The one table of layers. A name that ends in `*` stands for all names that begin like it.
const TABLE: &[(&str, Layer)] = &[
    ("agentbus-protocol", Layer::Protocol),
    ("agentbus-transport", Layer::Transport),
    ("agentbus-transport-*", Layer::Carrier),
    ("agentbus-process", Layer::Carrier),
    ("agentbus", Layer::Bus),
    ("agentbus-stdio", Layer::Service),
    ("agentbus-chat", Layer::Service),
    ("agentbus-decisions", Layer::Service),
    ("agentbus-mcp", Layer::Gateway),
    ("agentbus-acp", Layer::Gateway),
    ("agentbus-a2a", Layer::Gateway),
    ("agentbus-server", Layer::Host),
    ("agentbus-cli", Layer::Binary),
    ("agentbus-benches", Layer::Tool),
    ("xtask", Layer::Tool),
];

impl Layer {
    /// Looks a package up in the table.
    fn of(package: &str) -> Option<Self> {
        let row = TABLE.iter().find(|(name, _)| match name.strip_suffix('*') {
            Some(start) => package.starts_with(start),
            None => package == *name,
        });
        row.map(|(_, layer)| *layer)
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{self:?}").to_lowercase();
        write!(f, "{name} (layer {})", *self as u8)
    }
}

/// Runs the three checks and reports all findings together.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Failure> {
    let mut findings = arrows::check(workspace.manifest(), workspace.packages());
    findings.extend(purity::check_workspace(workspace)?);
    for package in workspace.packages() {
        for source in workspace.sources(package)? {
            findings.extend(bounds::check(&package.name, &source));
        }
    }
    Failure::unless_empty("the layers do not hold", &findings)?;
    println!("The layers hold for {} crates.", workspace.packages().len());
    Ok(())
}

#[cfg(test)]
mod tests;
