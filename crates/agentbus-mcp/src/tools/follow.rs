//! Telling listeners of resources what has changed in conversations.

use agentbus_chat::model::Event;
use agentbus_chat::{ChatError, Followed};

use super::Services;
use super::resources::{AGENTS, THREADS, uri, uris};
use crate::Catalog;

/// Follows the events of the conversations until they end. A store that fails for a while only
/// delays what listeners are told.
pub(crate) async fn follow(services: &Services, catalog: &Catalog) -> Result<(), ChatError> {
    let mut events = services.chat.follow(None, None).await?;
    let lists_threads = services.chat.config().expose_thread_resources;
    while let Some(followed) = events.next_patiently().await {
        match followed {
            Followed::Event(event) => tell(catalog, &event, lists_threads),
            // What happened meanwhile is not known any more; who listens to a list looks again.
            Followed::Gap(_) => {
                catalog.resource_updated(THREADS);
                catalog.resource_updated(AGENTS);
            }
        }
    }
    Ok(())
}

fn tell(catalog: &Catalog, event: &Event, lists_threads: bool) {
    let kind = &*event.kind;
    if kind.starts_with("agent.") && kind != "agent.typing" {
        catalog.resource_updated(AGENTS);
    }
    let Some(thread) = &event.thread_id else {
        return;
    };
    let thread = thread.as_str();
    if kind.starts_with("thread.") {
        catalog.resource_updated(THREADS);
        uris(thread)
            .iter()
            .for_each(|uri| catalog.resource_updated(uri));
        if lists_threads {
            catalog.resources_changed();
        }
    } else if kind.starts_with("msg.") {
        catalog.resource_updated(&uri(thread, "transcript"));
        catalog.resource_updated(&uri(thread, "state"));
    }
}
