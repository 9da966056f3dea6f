//! Publishes what happens in conversations on the bus, in the same order.

use std::sync::Arc;

use agentbus::Payload;
use agentbus_chat::model::Event;
use agentbus_chat::{ChatError, EventReader, Followed};
use bytes::Bytes;

use crate::state::App;

/// Follows the events of the conversations and passes them on.
pub(super) struct Bridge {
    app: Arc<App>,
    events: EventReader,
}

impl Bridge {
    /// Begins with the next event: who subscribes to the bus hears what happens from now on.
    pub(super) async fn new(app: &Arc<App>) -> Result<Self, ChatError> {
        Ok(Self {
            events: app.chat.chat.follow(None, None).await?,
            app: Arc::clone(app),
        })
    }

    pub(super) async fn run(mut self) {
        let hang_up = self.app.hang_up.clone();
        loop {
            let next = tokio::select! {
                () = hang_up.cancelled() => return,
                next = self.events.next() => next,
            };
            match next {
                Ok(Some(Followed::Event(event))) => self.pass_on(&event).await,
                Ok(Some(Followed::Gap(upto))) => {
                    tracing::warn!(upto, "events were forgotten before they reached the bus");
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(%error, "events of conversations do not reach the bus any more");
                    return;
                }
            }
        }
    }

    async fn pass_on(&self, event: &Event) {
        let payload = Bytes::copy_from_slice(event.payload.as_bytes());
        let Ok(payload) = Payload::from_bytes(&payload) else {
            return;
        };
        let kind = format!("chat.{}", event.kind);
        let published = self.app.bus.publish_payload(kind, payload).await;
        if let Err(error) = published {
            tracing::debug!(%error, id = event.id, "an event was not taken by the bus");
        }
    }
}
