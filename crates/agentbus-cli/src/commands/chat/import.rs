//! `agentbus import`.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use agentbus_chat::{Chat, ChatError, store::StoreError};
use agentbus_server::DataDir;
use agentbus_transport_ws::credentials;
use serde_json::json;

use crate::args::ImportFrom;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Between two lines of progress there are so many messages.
const STEP: usize = 10_000;

/// How every database file of SQLite begins.
const SQLITE: [u8; 16] = *b"SQLite format 3\0";

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
    // First, so that a mistyped name leaves no data directory behind.
    check(&file)?;
    let checked = Chat::check_import(&file).await;
    checked.map_err(|error| not_imported(&error))?;
    // Held until the end, so that no bus starts meanwhile.
    let _held = DataDir::open(&data_dir)?;
    let chat = open(config, &data_dir).await;
    let chat = chat.map_err(|error| not_opened(&error))?;
    let mut told = 0;
    let mut progress = |done: usize, total: usize| {
        if done == total || done >= told + STEP {
            told = done;
            output.note(&format!("{done} of {total} messages"));
        }
    };
    let imported = chat.import(&file, &mut progress).await;
    chat.close().await;
    let imported = imported.map_err(|error| not_imported(&error))?;
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

/// Refuses what cannot be the database of another program.
fn check(file: &Path) -> Result<(), Failure> {
    let shown = file.display();
    let begins = beginning(file).map_err(|error| {
        let text = format!(
            "{shown} cannot be read: {error}; name the database of an AgentChatBus, such as \
             ~/.agentchatbus/bus.db"
        );
        Failure::usage(text)
    })?;
    if begins == SQLITE {
        return Ok(());
    }
    let text = format!("{shown} is not a database of AgentChatBus: it is no file of SQLite");
    Err(Failure::usage(text))
}

/// The first bytes of a file.
fn beginning(file: &Path) -> io::Result<Vec<u8>> {
    // Asked first: a pipe would be waited for.
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::with_capacity(SQLITE.len());
    let opened = File::open(file)?;
    opened.take(SQLITE.len() as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Our own store is named by the configuration, so that says where to look.
fn not_opened(error: &ChatError) -> Failure {
    let exit = match error {
        ChatError::Store(StoreError::Locked) => Exit::Listen,
        ChatError::Store(
            StoreError::Open { .. }
            | StoreError::Foreign { .. }
            | StoreError::Newer { .. }
            | StoreError::Failed(_),
        ) => Exit::Configuration,
        _ => Exit::NotTaken,
    };
    Failure::new(exit, error.to_string())
}

/// The file was named on the command line; everything else is a matter of our store.
fn not_imported(error: &ChatError) -> Failure {
    let exit = match error {
        ChatError::Store(
            StoreError::Open { .. } | StoreError::Foreign { .. } | StoreError::Newer { .. },
        ) => Exit::Usage,
        _ => Exit::NotTaken,
    };
    Failure::new(exit, error.to_string())
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
