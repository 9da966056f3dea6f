//! `agentbus import`.

use std::path::Path;

use agentbus_chat::{Chat, ChatError};
use agentbus_server::DataDir;
use agentbus_transport_ws::credentials;
use serde_json::json;

use crate::args::ImportFrom;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Between two lines of progress there are so many messages.
const STEP: usize = 10_000;

pub(crate) async fn import(
    from: ImportFrom,
    config: &Config,
    output: &Output,
) -> Result<(), Failure> {
    let ImportFrom::Agentchatbus { file, data_dir } = from;
    let data_dir = data_dir
        .or_else(|| config.data_dir.clone())
        .or_else(credentials::data_dir);
    let data_dir = data_dir.ok_or_else(|| {
        let text = "there is no home directory; name one with --data-dir";
        Failure::new(Exit::Configuration, text)
    })?;
    // Held until the end, so that no bus starts meanwhile.
    let _held = DataDir::open(&data_dir)?;
    let failed = |error: ChatError| Failure::new(Exit::NotTaken, error.to_string());
    let chat = open(config, &data_dir).await.map_err(failed)?;
    let mut told = 0;
    let mut progress = |done: usize, total: usize| {
        if done == total || done >= told + STEP {
            told = done;
            output.note(&format!("{done} of {total} messages"));
        }
    };
    let imported = chat.import(&file, &mut progress).await;
    chat.close().await;
    let imported = imported.map_err(failed)?;
    let figures = json!({ "threads": imported.threads, "messages": imported.messages,
        "agents": imported.agents, "templates": imported.templates, "known": imported.known });
    if output.is_json() {
        return output.line(&figures.to_string());
    }
    output.line(&format!(
        "imported {} threads, {} messages, {} agents and {} templates; {} messages were there already",
        imported.threads, imported.messages, imported.agents, imported.templates, imported.known
    ))
}

/// Opens the conversations where `agentbus serve` would.
async fn open(config: &Config, data_dir: &Path) -> Result<Chat, ChatError> {
    if let Some(url) = &config.chat_store {
        return Chat::open_url(url, config.chat()).await;
    }
    let file = config.chat_database.clone();
    let file = file.unwrap_or_else(|| data_dir.join("chat.db"));
    Chat::open(file, config.chat()).await
}
