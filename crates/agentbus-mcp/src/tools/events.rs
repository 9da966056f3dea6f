//! `event_publish` and `event_wait`: events on the bus.

use std::sync::Arc;
use std::time::Duration;

use agentbus::{Overflow, Payload, Subscription};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::handles::Open;
use super::invoke::{context, failed, full, payload_of, tenant};
use super::{Services, tool};
use crate::{Call, Catalog, CatalogError, Fault, Reply, Tool, limits};

#[derive(Debug, Deserialize, JsonSchema)]
struct Publish {
    /// The type of the event, for example `order.paid`.
    event_type: String,
    /// What happened: any JSON.
    payload: Option<Value>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Wait {
    /// Which events: `*` stands for one word of the type, `>` for the rest. All without it.
    pattern: Option<String>,
    /// The subscription that the call before returned: nothing in between is missed.
    subscription_id: Option<String>,
    /// How long to wait in milliseconds; 30000 without it. With 0, only what is there.
    timeout_ms: Option<u64>,
    /// At most so many events; 50 without it.
    max_events: Option<usize>,
    /// Whether to end the subscription.
    #[serde(default)]
    close: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Event {
    r#type: String,
    id: String,
    from: String,
    payload: Option<Value>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Events {
    events: Vec<Event>,
    /// Events that were dropped because nobody read them in time.
    missed: u64,
    /// For the next call.
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription_id: Option<String>,
}

/// How long a wait lasts, and how much it takes, without other wishes.
const WAIT: Duration = Duration::from_secs(30);
const EVENTS: usize = 50;

pub(super) fn install(catalog: &Catalog, services: &Arc<Services>) -> Result<(), CatalogError> {
    let about = Tool::new("event_publish", "Publish an event on the bus.")
        .gives::<super::views::Ok>()
        .open_world();
    tool!(catalog, services, about.extended(), publish)?;
    let about = Tool::new(
        "event_wait",
        "Wait for events on the bus. Returns a subscription_id; pass it to the next call to miss \
         nothing in between.",
    )
    .gives::<Events>();
    tool!(catalog, services, about.extended(), wait)
}

async fn publish(services: &Services, call: &Call, asked: Publish) -> Result<Reply, Fault> {
    let by_agent = call.visitor().principal.as_agent().is_some();
    if by_agent && asked.event_type.starts_with("decision.") {
        // Whoever shows decisions takes these for the board's.
        return Ok(Reply::error("events of decisions are the bus's own"));
    }
    let payload = asked.payload.as_ref().map(Payload::json).transpose();
    let payload = payload.map_err(Fault::failed)?;
    Ok(
        match services
            .bus
            .publish_payload(asked.event_type, payload)
            .context(context(services, call, None))
            .await
        {
            Ok(_) => Reply::data(&json!({ "ok": true })),
            Err(error) => failed(&error),
        },
    )
}

async fn wait(services: &Services, call: &Call, asked: Wait) -> Result<Reply, Fault> {
    let principal = &call.visitor().principal;
    let id = match asked.subscription_id {
        Some(id) => id,
        None => {
            let pattern = asked.pattern.unwrap_or_else(|| ">".to_owned());
            let events = services
                .bus
                .subscribe(pattern)
                .tenant(tenant(call))
                .capacity(limits::EVENT_QUEUE)
                .overflow(Overflow::DropOldest)
                .await;
            let events = match events {
                Ok(events) => events,
                Err(error) => return Ok(failed(&error)),
            };
            match services.handles.keep(principal, Open::Events(events)) {
                Some(id) => id,
                None => return Ok(full()),
            }
        }
    };
    let unknown = "there is no such subscription; call again without subscription_id";
    let Some(shared) = services.handles.get(&id, principal) else {
        return Ok(Reply::error(unknown));
    };
    if asked.close {
        services.handles.drop(&id);
        return Ok(Reply::data(&Events {
            events: Vec::new(),
            missed: 0,
            subscription_id: None,
        }));
    }
    let Ok(mut open) = shared.try_lock() else {
        return Ok(Reply::error(
            "another call waits on this subscription; let it answer first",
        ));
    };
    let Open::Events(subscription) = &mut *open else {
        return Ok(Reply::error(unknown));
    };
    let time = asked.timeout_ms.map_or(WAIT, Duration::from_millis);
    let most = asked
        .max_events
        .unwrap_or(EVENTS)
        .clamp(1, limits::ITEMS_MAX);
    let (events, missed) = take(call, subscription, time.min(limits::WAIT_MAX), most).await;
    let subscription_id = Some(id);
    Ok(Reply::data(&Events {
        events,
        missed,
        subscription_id,
    }))
}

async fn take(
    call: &Call,
    subscription: &mut Subscription,
    time: Duration,
    most: usize,
) -> (Vec<Event>, u64) {
    let over = Instant::now() + time;
    let mut events = Vec::new();
    let mut missed = 0;
    while events.len() < most {
        let until = if events.is_empty() {
            over
        } else {
            Instant::now()
        };
        let delivery = tokio::select! {
            biased;
            delivery = subscription.next() => delivery,
            () = tokio::time::sleep_until(until) => break,
            () = call.stopping().cancelled() => break,
        };
        let Some(delivery) = delivery else { break };
        missed += delivery.missed();
        let envelope = delivery.envelope();
        events.push(Event {
            r#type: envelope.event_type.to_string(),
            id: envelope.event_id.to_string(),
            from: envelope.from.to_string(),
            payload: payload_of(envelope),
        });
        // What the agent does with it cannot be known; the event was handed out.
        let _ = delivery.ack().await;
    }
    (events, missed)
}
