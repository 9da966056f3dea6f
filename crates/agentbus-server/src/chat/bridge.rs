//! Publishes what happens in conversations on the bus, in the same order.

use std::sync::Arc;

use agentbus::Payload;
use agentbus_chat::model::Event;
use agentbus_chat::{ChatError, EventReader, Followed};
use bytes::Bytes;
use serde_json::Value;

use super::cards;
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
                next = self.events.next_patiently() => next,
            };
            match next {
                Some(Followed::Event(event)) => self.pass_on(&event).await,
                Some(Followed::Gap(upto)) => {
                    tracing::warn!(upto, "events were forgotten before they reached the bus");
                }
                None => return,
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
        self.announce(event);
    }

    /// Tells of cards what the board tells of its own questions.
    fn announce(&self, event: &Event) {
        let board = &self.app.decisions;
        let of_card = || serde_json::from_str::<Value>(&event.payload).unwrap_or_default();
        match &*event.kind {
            "admin.asked" => {
                let card = of_card();
                board.announce_opened(&cards::announced(&card["msg_id"], &card["thread_id"]));
            }
            "admin.decided" => {
                let card = of_card();
                let text = |name: &str| card[name].as_str().unwrap_or_default();
                board.announce_closed(text("msg_id"), text("decision_action"));
            }
            _ => {}
        }
    }
}
