//! Where a session works and with what, in words that its agent understands.

use std::path::PathBuf;

use agent_client_protocol::v1::schema::{EnvVariable, McpServer, McpServerStdio};

use super::driving::Abilities;
use super::prompt::Meta;
use crate::client::{BusServer, Setup};

/// Where a session works and with what, as far as its agent can.
#[derive(Debug)]
pub(crate) struct Place {
    pub(super) cwd: PathBuf,
    pub(super) directories: Vec<PathBuf>,
    pub(super) servers: Vec<McpServer>,
    pub(super) meta: Option<Meta>,
    /// Names of the servers that the agent does not take.
    pub(super) left_out: Vec<String>,
}

impl Place {
    /// What the agent can take of a setup, with the server of the bus besides.
    pub(crate) fn new(
        abilities: &Abilities,
        cwd: PathBuf,
        setup: &Setup,
        bus: Option<&BusServer>,
    ) -> Self {
        let mut servers: Vec<McpServer> = bus.map(server).into_iter().collect();
        let mut left_out = Vec::new();
        for asked in &setup.servers {
            let takes = match asked["type"].as_str() {
                None | Some("stdio") => true,
                Some("http") => abilities.http,
                Some("sse") => abilities.sse,
                Some(_) => false,
            };
            match serde_json::from_value(asked.clone()) {
                Ok(server) if takes => servers.push(server),
                _ => left_out.push(asked["name"].as_str().unwrap_or_default().to_owned()),
            }
        }
        let directories = match abilities.directories {
            true => setup.directories.clone(),
            false => Vec::new(),
        };
        Self {
            cwd: setup.cwd.clone().unwrap_or(cwd),
            directories,
            servers,
            meta: setup.meta.clone(),
            left_out,
        }
    }
}

/// The server of the bus as an agent has to start it.
fn server(bus: &BusServer) -> McpServer {
    let env = bus.env.iter();
    let env = env.map(|(name, value)| EnvVariable::new(name.clone(), value.clone()));
    let server = McpServerStdio::new("agentbus", bus.command.clone())
        .args(bus.args.clone())
        .env(env.collect());
    McpServer::Stdio(server)
}
