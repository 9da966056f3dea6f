//! Inboxes and requests.

use std::time::Instant;

use agentbus_protocol::Subject;

use super::{
    Opened, group, message, number, numbered, pattern, publish, publish_with, receive,
    receive_reply, subscribe,
};
use crate::{PublishOptions, TransportError};

const REQUEST: PublishOptions = PublishOptions {
    confirm: false,
    require_responder: true,
    idempotency_key: None,
};

pub async fn an_inbox_gets_its_replies_in_order(transport: Opened) {
    let mut served = subscribe(&transport, pattern("ask")).await;
    let mut inbox = transport.open_inbox().unwrap();
    let mut request = numbered("ask", 1);
    request.envelope.reply_to = inbox.subject().as_str().into();
    publish_with(&transport, request, REQUEST).await.unwrap();
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
    let mut served = subscribe(&transport, pattern("ask")).await;
    let inbox = transport.open_inbox().unwrap();
    let mut request = numbered("ask", 1);
    request.envelope.reply_to = inbox.subject().as_str().into();
    publish_with(&transport, request, REQUEST).await.unwrap();
    let reply_to = Subject::parse(&receive(&mut served).await.envelope().reply_to).unwrap();
    drop(inbox);
    for n in 0.. {
        match publish(&transport, message(reply_to.clone(), n)).await {
            Err(TransportError::NoResponder { .. }) => break,
            other => assert!(n < 1000, "the inbox still takes replies: {other:?}"),
        }
    }
}

pub async fn a_request_that_nobody_serves_fails_at_once(transport: Opened) {
    let begun = Instant::now();
    let error = publish_with(&transport, numbered("nobody", 1), REQUEST)
        .await
        .unwrap_err();
    assert!(
        matches!(error, TransportError::NoResponder { .. }),
        "{error}"
    );
    assert!(begun.elapsed() < super::GUARD);
    // Without the demand, an event that nobody hears is no error.
    assert_eq!(
        publish(&transport, numbered("nobody", 2))
            .await
            .unwrap()
            .receivers,
        Some(0)
    );
}

pub async fn a_request_that_is_given_up_is_told_to_its_caller(transport: Opened) {
    let mut served = subscribe(&transport, group("ask", "workers")).await;
    for unstarted in [false, true] {
        let mut inbox = transport.open_inbox().unwrap();
        let mut request = numbered("ask", 1);
        request.envelope.reply_to = inbox.subject().as_str().into();
        publish_with(&transport, request, REQUEST).await.unwrap();
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
