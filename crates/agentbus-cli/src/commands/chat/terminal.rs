//! Who sits at the terminal.
//!
//! A thread needs a creator who is registered. That is one agent for all threads of a bus, whose id
//! and token lie beside the token of the bus.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use agentbus_transport_ws::credentials;
use serde_json::{Map, Value, json};

use super::Api;
use crate::failure::{Exit, Failure};

const FILE: &str = "terminal.json";

/// Creates a thread in the name of whoever sits here.
pub(super) async fn create(api: &Api, thread: Value) -> Result<Value, Failure> {
    let file = credentials::data_dir().map(|directory| directory.join(FILE));
    if let Some(known) = file
        .as_deref()
        .and_then(|file| read(file).remove(api.url()))
    {
        match created_by(&known, api, thread.clone()).await {
            // Another bus at the same address does not know it.
            Err(failure) if failure.exit == Exit::Refused => {}
            created => return created,
        }
    }
    let person = json!({ "ide": "Terminal", "model": "person" });
    let registered = api.post("/api/agents/register", &person).await?;
    if let Some(file) = file
        && let Err(error) = keep(&file, api.url(), &registered)
    {
        let file = file.display();
        let note =
            format!("{file} cannot be written ({error}); the next thread has another creator");
        api.output.note(&note);
    }
    created_by(&registered, api, thread).await
}

async fn created_by(agent: &Value, api: &Api, mut thread: Value) -> Result<Value, Failure> {
    thread["creator_agent_id"] = agent["agent_id"].clone();
    let token = agent["token"].as_str().unwrap_or_default();
    let headers = [("x-agent-token", token)];
    api.send("POST", "/api/threads", &headers, Some(&thread))
        .await
}

/// Reads who sits here by the URLs of buses; what cannot be read is nobody.
fn read(file: &Path) -> Map<String, Value> {
    let text = fs::read(file).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Remembers who sits here, where there is a data directory already.
fn keep(file: &Path, url: &str, agent: &Value) -> io::Result<()> {
    if !file.parent().is_some_and(Path::is_dir) {
        return Ok(());
    }
    let mut all = read(file);
    while all.len() >= BUSES_MAX {
        let first = all.keys().next().cloned().unwrap_or_default();
        all.remove(&first);
    }
    let known = json!({ "agent_id": agent["agent_id"], "token": agent["token"] });
    all.insert(url.to_owned(), known);
    let draft = draft_of(file);
    let mut options = fs::OpenOptions::new();
    let mut written = options
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&draft)?;
    written.write_all(Value::from(all).to_string().as_bytes())?;
    fs::rename(draft, file)
}

/// Buses that are remembered; one on a port of its own at each start would add one every time.
const BUSES_MAX: usize = 64;

fn draft_of(file: &Path) -> PathBuf {
    file.with_extension(format!("{}.new", std::process::id()))
}
