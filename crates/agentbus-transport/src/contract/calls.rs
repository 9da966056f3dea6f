//! Inboxes and requests.

use std::time::Instant;

use agentbus_protocol::{Pattern, Subject};

use super::needs::{NO_RESPONDER, meets};
use super::{
    Opened, message, number, publish, publish_with, reached, receive, receive_reply, subscribe,
};
use crate::{Message, PublishOptions, Subscribe, TransportError};

const REQUEST: PublishOptions = PublishOptions {
    confirm: false,
    require_responder: true,
    idempotency_key: None,
};

/// Requests travel on subjects of their own; a carrier may well keep events and not them.
fn request(target: &str, n: u64) -> Message {
    message(
        Subject::parse(&format!("acp.v1.invoke.{target}")).unwrap(),
        n,
    )
}

fn target(name: &str) -> Subscribe {
    Subscribe::new(Pattern::parse(&format!("acp.v1.invoke.{name}")).unwrap())
}

fn workers(name: &str) -> Subscribe {
    let mut served = target(name);
    served.group = Some("workers".into());
    served
}

pub async fn an_inbox_gets_its_replies_in_order(transport: Opened) {
    let mut served = subscribe(&transport, target("ask")).await;
    let mut inbox = transport.open_inbox().unwrap();
    let mut asked = request("ask", 1);
    asked.envelope.reply_to = inbox.subject().as_str().into();
    publish_with(&transport, asked, REQUEST).await.unwrap();
    let delivery = receive(&mut served).await;
    let reply_to = Subject::parse(&delivery.envelope().reply_to).unwrap();
    assert!(reply_to.is_inbox());
    for n in 0..50 {
        publish(&transport, message(reply_to.clone(), n))
            .await
            .unwrap();
    }
    for n in 0..50 {
        let reply = receive_reply(&mut inbox).await;
        assert_eq!(number(&reply), n);
        reply.ack().await.unwrap();
    }
}

pub async fn a_closed_inbox_is_known_to_its_replier(transport: Opened) {
    let mut served = subscribe(&transport, target("ask")).await;
    let inbox = transport.open_inbox().unwrap();
    let mut asked = request("ask", 1);
    asked.envelope.reply_to = inbox.subject().as_str().into();
    publish_with(&transport, asked, REQUEST).await.unwrap();
    let reply_to = Subject::parse(&receive(&mut served).await.envelope().reply_to).unwrap();
    drop(inbox);
    super::guarded("the news that the inbox is closed", async {
        loop {
            match publish(&transport, message(reply_to.clone(), 1)).await {
                Err(TransportError::NoResponder { .. }) => break,
                // A remote carrier may need a moment to hear of it.
                _ => tokio::task::yield_now().await,
            }
        }
    })
    .await;
}

pub async fn a_request_that_nobody_serves_fails_at_once(transport: Opened) {
    if !meets(&transport, NO_RESPONDER) {
        return lacks_notice(&transport).await;
    }
    let begun = Instant::now();
    let error = publish_with(&transport, request("nobody", 1), REQUEST)
        .await
        .unwrap_err();
    assert!(
        matches!(error, TransportError::NoResponder { .. }),
        "{error}"
    );
    assert!(begun.elapsed() < super::GUARD);
    // Without the demand, an event that nobody hears is no error.
    let receipt = publish(&transport, request("nobody", 2)).await.unwrap();
    assert!(reached(receipt, 0), "{receipt:?}");
}

/// Without the notice, asking for it is an error and publishing without it is not.
async fn lacks_notice(transport: &Opened) {
    let error = publish_with(transport, request("nobody", 1), REQUEST)
        .await
        .unwrap_err();
    assert!(
        matches!(error, TransportError::Unsupported { .. }),
        "{error}"
    );
    publish(transport, request("nobody", 2)).await.unwrap();
}

pub async fn a_request_that_is_given_up_is_told_to_its_caller(transport: Opened) {
    let mut served = subscribe(&transport, workers("ask")).await;
    for unstarted in [false, true] {
        let mut inbox = transport.open_inbox().unwrap();
        let mut asked = request("ask", 1);
        asked.envelope.reply_to = inbox.subject().as_str().into();
        publish_with(&transport, asked, REQUEST).await.unwrap();
        if unstarted {
            // Whether it waits here or in the queue, it goes with its last receiver.
            drop(served);
            lost(&mut inbox).await;
            return;
        }
        drop(receive(&mut served).await);
        lost(&mut inbox).await;
    }
}

async fn lost(inbox: &mut crate::Inbox) {
    let told = super::guarded("the notice that the request was lost", inbox.receive()).await;
    assert!(matches!(told, Some(crate::Received::Lost)), "{told:?}");
}
