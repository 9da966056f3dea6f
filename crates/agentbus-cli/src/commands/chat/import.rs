//! `agentbus import`.

use agentbus_chat::Chat;
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
    let database = config.chat_database.clone();
    let database = database.unwrap_or_else(|| data_dir.join("chat.db"));
    let failed = |error: agentbus_chat::ChatError| Failure::new(Exit::NotTaken, error.to_string());
    let chat = Chat::open(database, config.chat()).await.map_err(failed)?;
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
