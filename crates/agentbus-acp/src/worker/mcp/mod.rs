//! The MCP servers of one session: started or connected with it, and ended with it.
//!
//! A server that cannot be reached does not keep a session from beginning; what became of each is
//! told in the answer. One that ends takes its tools with it, and whoever calls one of them is told
//! that it ended and what it last said.

mod client;
mod person;

use std::collections::HashMap;
use std::path::PathBuf;

use agentbus_process::{Process, Program};
use futures_util::future::join_all;
use reqwest::header::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use self::client::{Connection, Trouble};
pub(super) use self::client::{Held, Said, Tool};
pub(super) use self::person::Person;
use super::limits::{CONNECT_TIMEOUT, LIST_TIMEOUT, SERVER_GRACE, SERVERS_MAX, TOOLS_MAX};
use crate::sdk::serving;
use crate::sdk::serving::Error;
use crate::sdk::serving::schema::{McpServer, McpServerHttp, McpServerStdio};

/// All servers of a session.
#[derive(Debug, Default)]
pub(super) struct Servers(Vec<Server>);

/// One server, reached or not.
#[derive(Debug)]
struct Server {
    name: String,
    reached: Result<Reached, String>,
}

/// A server that answered.
#[derive(Debug)]
struct Reached {
    connection: Connection,
    /// The program behind the connection; dropping it kills it.
    process: Option<Process>,
}

/// A tool with the server that has it.
#[derive(Debug, Clone)]
pub(super) struct Offer {
    pub(super) tool: Tool,
    /// An index into the servers of the session.
    server: usize,
}

impl Servers {
    /// Refuses what no session can have, before any is started.
    pub(super) fn check(asked: &[McpServer]) -> Result<(), Error> {
        if asked.len() > SERVERS_MAX {
            let data = format!("a session can have {SERVERS_MAX} MCP servers");
            return Err(serving::invalid(data));
        }
        for server in asked {
            let name = match server {
                McpServer::Stdio(_) | McpServer::Http(_) => continue,
                McpServer::Sse(server) => &server.name,
                _ => "of a kind that this agent does not know",
            };
            let data = format!(
                "the MCP server {name} is neither stdio nor http; this agent does not advertise another kind"
            );
            return Err(serving::invalid(data));
        }
        Ok(())
    }

    /// Reaches all servers at the same time.
    pub(super) async fn connect(
        asked: Vec<McpServer>,
        directory: PathBuf,
        person: &Person,
    ) -> Self {
        let connecting = asked.into_iter();
        let connecting =
            connecting.map(|server| Server::connect(server, directory.clone(), person.clone()));
        Self(join_all(connecting).await)
    }

    /// Says of each server whether it was reached.
    pub(super) fn report(&self) -> Value {
        let servers = self.0.iter().map(|server| match &server.reached {
            Ok(_) => json!({ "name": server.name, "connected": true }),
            Err(why) => json!({ "name": server.name, "connected": false, "error": why }),
        });
        servers.collect()
    }

    /// Lists the tools of all servers that live, and says of the others why they have none. The
    /// first tool of a name counts.
    pub(super) async fn tools(&self) -> (Vec<Offer>, Vec<String>) {
        let lists = self.0.iter().map(Server::tools);
        let lists = join_all(lists).await;
        let (mut offers, mut lost): (Vec<Offer>, _) = (Vec::new(), Vec::new());
        for (server, tools) in lists.into_iter().enumerate() {
            let tools = tools.unwrap_or_else(|why| {
                tracing::warn!("{why}");
                lost.push(why);
                Vec::new()
            });
            for tool in tools {
                let known = offers.iter().any(|offer| offer.tool.name == tool.name);
                if !known && offers.len() < TOOLS_MAX {
                    offers.push(Offer { tool, server });
                }
            }
        }
        (offers, lost)
    }

    /// Calls a tool.
    pub(super) async fn call(
        &self,
        offer: &Offer,
        arguments: Map<String, Value>,
    ) -> Result<Said, String> {
        let Some(server) = self.0.get(offer.server) else {
            return Err("its MCP server is gone".to_owned());
        };
        let reached = server.reached.as_ref().map_err(Clone::clone)?;
        let said = reached.connection.call(&offer.tool.name, arguments).await;
        said.map_err(|trouble| match trouble {
            Trouble::Refused(why) => format!("the MCP server {}: {why}", server.name),
            Trouble::Lost(why) => server.lost(reached, &why),
        })
    }

    /// Reads a resource from the first server that has it.
    pub(super) async fn read(&self, uri: &str) -> Option<Held> {
        for server in &self.0 {
            if let Ok(reached) = &server.reached
                && let Ok(Ok(held)) = timeout(LIST_TIMEOUT, reached.connection.read(uri)).await
            {
                return Some(held);
            }
        }
        None
    }

    /// Ends all of them: the connection first, then what does not end by itself.
    pub(super) async fn close(self) {
        join_all(self.0.into_iter().map(Server::close)).await;
    }
}

impl Server {
    async fn connect(server: McpServer, directory: PathBuf, person: Person) -> Self {
        let (name, connecting) = match server {
            McpServer::Stdio(server) => (
                server.name.clone(),
                timeout(CONNECT_TIMEOUT, stdio(server, directory, person)).await,
            ),
            McpServer::Http(server) => (
                server.name.clone(),
                timeout(CONNECT_TIMEOUT, http(server, person)).await,
            ),
            // Refused by `check`.
            _ => (String::new(), Ok(Err("of an unknown kind".to_owned()))),
        };
        let too_late = || Err(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()));
        let reached = connecting.unwrap_or_else(|_| too_late());
        if let Err(why) = &reached {
            tracing::warn!(server = name, why, "an MCP server cannot be used");
        }
        Self { name, reached }
    }
}

impl Server {
    /// Lists the tools, or says why there are none.
    async fn tools(&self) -> Result<Vec<Tool>, String> {
        let unreached =
            |why: &String| format!("the MCP server {} was not reached: {why}", self.name);
        let reached = self.reached.as_ref().map_err(unreached)?;
        if reached.connection.is_closed() {
            return Err(self.lost(reached, "it hung up"));
        }
        match timeout(LIST_TIMEOUT, reached.connection.tools()).await {
            Ok(listed) => listed.map_err(|why| self.lost(reached, &why)),
            Err(_) => {
                let name = &self.name;
                Err(format!(
                    "the MCP server {name} does not list its tools in time"
                ))
            }
        }
    }

    /// Says that it was there and is not any more: what was a program has ended, what is elsewhere
    /// may come back.
    fn lost(&self, reached: &Reached, why: &str) -> String {
        let name = &self.name;
        match reached.process {
            Some(_) => format!(
                "the MCP server {name} ended unexpectedly; begin the session anew to start it again"
            ),
            None => format!(
                "the MCP server {name} cannot be reached any more ({why}); begin the session anew when it is back"
            ),
        }
    }

    async fn close(self) {
        if let Ok(mut reached) = self.reached {
            reached.connection.close().await;
            if let Some(mut process) = reached.process {
                process.terminate(SERVER_GRACE).await;
            }
        }
    }
}

async fn stdio(
    server: McpServerStdio,
    directory: PathBuf,
    person: Person,
) -> Result<Reached, String> {
    let mut program = Program::new(server.command)
        .args(server.args)
        .current_dir(directory);
    for variable in server.env {
        program = program.env(variable.name, variable.value);
    }
    let mut process = program.spawn().await.map_err(|error| error.to_string())?;
    let pipes = process.take_stdin().zip(process.take_stdout());
    let (stdin, stdout) = pipes.ok_or("it came without its pipes")?;
    match Connection::over_pipes(stdin, stdout, person).await {
        Ok(connection) => Ok(Reached {
            connection,
            process: Some(process),
        }),
        Err(why) => {
            // What it wrote last says more than how the handshake broke off.
            let outcome = process.terminate(SERVER_GRACE).await;
            let said = outcome.stderr_tail.join("\n");
            Err(format!("{why}\n{said}").trim_end().to_owned())
        }
    }
}

async fn http(server: McpServerHttp, person: Person) -> Result<Reached, String> {
    let mut headers = HashMap::new();
    for header in server.headers {
        let name = HeaderName::try_from(&header.name);
        let value = HeaderValue::try_from(&header.value);
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(format!("its header {} cannot be sent", header.name));
        };
        headers.insert(name, value);
    }
    let connection = Connection::over_http(&server.url, headers, person).await?;
    Ok(Reached {
        connection,
        process: None,
    })
}
