//! What the bus itself offers: conversations as AgentChatBus's agents know them, and the bus.

mod agents;
mod config;
mod connect;
mod decisions;
mod describe;
mod edits;
mod events;
mod follow;
pub(crate) mod handles;
mod images;
mod invoke;
mod keyed;
mod messages;
mod people;
mod posting;
mod prompts;
mod refusal;
mod resources;
mod settings;
mod templates;
mod threads;
mod views;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use agentbus::Bus;
use agentbus_chat::Chat;
use agentbus_decisions::Board;

pub(crate) use follow::follow;
use handles::Handles;

use crate::{Catalog, CatalogError, McpConfig, Uploads};

/// What the tools work on.
#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) chat: Chat,
    pub(crate) bus: Bus,
    pub(crate) handles: Handles,
    pub(crate) language: String,
    pub(crate) endpoint: String,
    pub(crate) invoke_timeout: Duration,
    pub(crate) board: Option<Board>,
    pub(crate) uploads: Option<Uploads>,
}

impl Services {
    pub(crate) fn new(config: &McpConfig, chat: Chat, bus: Bus) -> Self {
        Self {
            chat,
            bus,
            handles: Handles::default(),
            language: config.language.clone(),
            endpoint: config.endpoint.clone(),
            invoke_timeout: config.invoke_timeout,
            board: config.board.clone(),
            uploads: config.uploads.clone(),
        }
    }
}

/// Puts all of it into a catalogue. The first tools are those that agents use most.
pub(crate) fn install(catalog: &Catalog, services: &Arc<Services>) -> Result<(), CatalogError> {
    connect::install(catalog, services)?;
    posting::install(catalog, services)?;
    waiting::install(catalog, services)?;
    messages::install(catalog, services)?;
    threads::install(catalog, services)?;
    agents::install(catalog, services)?;
    edits::install(catalog, services)?;
    describe::install(catalog)?;
    settings::install(catalog, services)?;
    people::install(catalog, services)?;
    templates::install(catalog, services)?;
    config::install(catalog, services)?;
    invoke::install(catalog, services)?;
    events::install(catalog, services)?;
    if let Some(board) = &services.board {
        decisions::install(catalog, board)?;
    }
    resources::install(catalog, services)?;
    prompts::install(catalog, services)
}

/// Adds a tool whose handler works on the services.
macro_rules! tool {
    ($catalog:ident, $services:ident, $about:expr, $handler:path) => {{
        let services = std::sync::Arc::clone($services);
        $catalog.add_tool($about, move |call, asked| {
            let services = std::sync::Arc::clone(&services);
            async move { $handler(&services, &call, asked).await }
        })
    }};
}
use tool;

/// The same for a handler that writes: it also takes the conversations to write to, which do it once
/// for the key that the call may have.
macro_rules! writing_tool {
    ($catalog:ident, $services:ident, $about:expr, $handler:path) => {{
        let services = std::sync::Arc::clone($services);
        let about: crate::Tool = $about;
        let name = about.name().to_owned();
        $catalog.add_tool(about, move |call, keyed: super::keyed::Keyed<_>| {
            let services = std::sync::Arc::clone(&services);
            let opened = keyed.open(&services.chat, &call, &name);
            async move {
                match opened {
                    Ok((asked, chat)) => $handler(&services, &call, (asked, chat)).await,
                    Err(error) => super::refusal::answer(&error),
                }
            }
        })
    }};
}
use writing_tool;
