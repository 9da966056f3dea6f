//! Spans on both sides of a carrier.

use std::sync::Arc;

use super::{Place, check_child, within};
use crate::telemetry::Span;
use crate::{Error, Request};

pub async fn the_spans_of_both_buses_are_one_trace(place: Place) {
    let (here, there) = (Arc::default(), Arc::default());
    let agent = place.observed("agent", &there).await;
    let caller = place.observed("caller", &here).await;
    agent
        .handle("worker", |_: Request| async { Ok::<_, Error>(()) })
        .await
        .unwrap();
    agent
        .handle("planner", |request: Request| async move {
            request.bus().invoke("worker", &1).await?;
            Ok::<_, Error>(())
        })
        .await
        .unwrap();
    agent
        .on("order.*", |_: Request| async { Ok(()) })
        .await
        .unwrap();
    let called = within("a reply", caller.invoke("planner", &1).send()).await;
    called.unwrap();
    caller.publish("order.paid", &1).await.unwrap();

    let call = here.soon("invoke_agent planner").await;
    assert_eq!(call.parent, None);
    let handled = there.soon("process planner").await;
    check_hop(&handled, &call);
    let nested = there.soon("invoke_agent worker").await;
    check_child(&nested, &handled);
    check_hop(&there.soon("process worker").await, &nested);
    let sent = here.soon("send order.paid").await;
    check_hop(&there.soon("process order.*").await, &sent);
}

/// The span of a handler belongs to that of whoever sent the message, and is about the same one.
fn check_hop(handled: &Span, sent: &Span) {
    check_child(handled, sent);
    for key in ["messaging.message.id", "messaging.destination.name"] {
        let of = |span: &Span| {
            let found = span.attributes.iter().find(|(name, _)| *name == key);
            found.map(|(_, value)| value.clone()).unwrap()
        };
        assert_eq!(of(handled), of(sent), "{key}");
    }
}
