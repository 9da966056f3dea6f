//! Publishes what happens in conversations on the bus, in the same order.
//!
//! Nodes that share a store each publish every event, because each may have a bus of its own. An
//! event has the same id wherever it comes from, so that where they share a bus as well, a carrier
//! that knows repetitions keeps one, and subscribers can tell.

use std::sync::Arc;

use agentbus::protocol::{Stamp, Timestamp};
use agentbus::transport::remote::Backoff;
use agentbus::{EventId, Payload};
use agentbus_chat::model::Event;
use agentbus_chat::{ChatError, EventReader, Followed};
use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::cards;
use crate::limits;
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
                Some(Followed::Event(event)) => {
                    // The console hears at once, whatever the carrier does.
                    self.announce(&event);
                    tokio::select! {
                        () = hang_up.cancelled() => return,
                        () = self.pass_on(&event) => {}
                    }
                }
                Some(Followed::Gap(upto)) => {
                    tracing::warn!(upto, "events were forgotten before they reached the bus");
                }
                None => return,
            }
        }
    }

    /// Tells the bus of an event, and goes on trying while the carrier cannot take it: the next
    /// event must not come before it. The id tells a subscriber that hears it twice.
    async fn pass_on(&self, event: &Event) {
        let payload = Bytes::copy_from_slice(event.payload.as_bytes());
        let Ok(payload) = Payload::from_bytes(&payload) else {
            return;
        };
        let stamp = stamp_of(event);
        let (shortest, longest) = limits::CARRIER_RETRY;
        let mut pause = Backoff::new(shortest, longest).jittered();
        let mut told = false;
        while let Err(error) = self.publish(event, payload.clone(), stamp.clone()).await {
            if !error.is_retryable() {
                return tracing::warn!(%error, id = event.id, "the bus takes no such event");
            }
            // Told once for each trouble: a carrier may be away for hours.
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(%error, id = event.id, "the bus is told again until it takes it");
            }
            pause.wait().await;
        }
    }

    async fn publish(
        &self,
        event: &Event,
        payload: Option<Payload>,
        stamp: Stamp,
    ) -> Result<(), agentbus::Error> {
        let kind = format!("chat.{}", event.kind);
        let bus = &self.app.bus;
        let id = stamp.event_id.clone();
        let mut publish = bus.publish_payload(kind, payload).stamp(stamp);
        // Remembered by the carrier for a day, so only where another node may publish it as well.
        let shared = self.app.config.chat_store.is_some();
        if shared && bus.transport().capabilities().idempotency {
            publish = publish.idempotency_key(id.to_string());
        }
        publish.await.map(drop)
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

/// Id and time of an event on the bus: the same for everyone who publishes it, and others for an
/// event of the same number in another store.
fn stamp_of(event: &Event) -> Stamp {
    let Event {
        id,
        kind,
        payload,
        created_at,
        ..
    } = event;
    let digest = Sha256::digest(format!("{id} {created_at} {kind} {payload}").as_bytes());
    let mut rest = [0; 10];
    rest.copy_from_slice(&digest[..10]);
    let occurred_at = Timestamp::from_unix_nanos(i128::from(created_at.micros()) * 1000);
    Stamp {
        event_id: EventId::v7(occurred_at.unix_millis(), &rest),
        occurred_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: i64, micros: i64, payload: &str) -> Event {
        Event {
            id,
            kind: "msg.new".into(),
            thread_id: None,
            payload: payload.into(),
            created_at: agentbus_chat::Stamp::from_micros(micros),
        }
    }

    #[test]
    fn an_event_has_one_id_and_no_other_event_has_it() {
        let one = stamp_of(&event(1, 1_700_000_000_123_456, "{}"));
        assert_eq!(one, stamp_of(&event(1, 1_700_000_000_123_456, "{}")));
        assert_eq!(one.occurred_at.unix_millis(), 1_700_000_000_123);
        for other in [
            event(2, 1_700_000_000_123_456, "{}"),
            event(1, 1_700_000_000_123_457, "{}"),
            event(1, 1_700_000_000_123_456, "[]"),
        ] {
            assert_ne!(one.event_id, stamp_of(&other).event_id);
        }
    }
}
