//! Events.

use std::time::Duration;

use agentbus_transport::{Capability, TransportError};

use super::{Place, within};
use crate::{Delivery, Error, Subscription};

async fn next(events: &mut Subscription) -> Delivery {
    within("an event", events.next()).await.unwrap()
}

fn number(delivery: &Delivery) -> u64 {
    let payload = delivery.envelope().payload.as_ref();
    payload.unwrap().decode().unwrap()
}

pub async fn an_event_reaches_the_other_bus(place: Place) {
    let (agent, caller) = place.two().await;
    let mut events = agent.subscribe("order.*").await.unwrap();
    for n in 0..10 {
        caller.publish("order.paid", &n).await.unwrap();
    }
    for n in 0..10 {
        let delivery = next(&mut events).await;
        assert_eq!(number(&delivery), n);
        assert_eq!(delivery.envelope().from.as_str(), "caller");
        assert_eq!(delivery.envelope().event_type.as_str(), "order.paid");
    }
}

/// Over a carrier without durable names the refusal is what is checked.
pub async fn a_durable_name_gets_what_came_while_it_was_away(place: Place) {
    let (agent, caller) = place.two().await;
    let capabilities = agent.transport().capabilities();
    let kept = || agent.subscribe("order.*").durable("billing");
    let first = within("a subscription", kept().into_future()).await;
    if !capabilities.durable {
        return check_refusal(&first.unwrap_err(), Capability::Durable);
    }
    drop(first.unwrap());
    for n in 0..10 {
        caller.publish("order.paid", &n).await.unwrap();
    }
    let mut events = within("a subscription", kept().into_future())
        .await
        .unwrap();
    for n in 0..10 {
        let delivery = next(&mut events).await;
        assert_eq!(number(&delivery), n);
        delivery.ack().await.unwrap();
    }
    if !capabilities.lease {
        let leased = kept().lease(Duration::from_secs(1)).await.unwrap_err();
        check_refusal(&leased, Capability::Lease);
    }
}

fn check_refusal(error: &Error, lacks: Capability) {
    let Error::Transport(TransportError::Unsupported { capability, .. }) = error else {
        panic!("expected a refusal, got {error}");
    };
    assert_eq!(*capability, lacks);
    assert!(error.to_string().contains(&lacks.to_string()), "{error}");
}
