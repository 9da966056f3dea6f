//! What a transport says that it can do, and what it answers when it cannot.

use super::needs::{Need, meets};
use super::{
    Opened, durable, group, guarded, is_misuse, numbered, pattern, publish, publish_with, reached,
};
use crate::{
    Capability, Durability, Overflow, PublishOptions, Start, Subscribe, Subscription,
    TransportError,
};

/// Opens a subscription that needs an ability. Where the transport lacks it, the refusal is what
/// is checked and there is nothing more to the case, which is noted.
pub(super) async fn if_able(transport: &Opened, request: Subscribe) -> Option<Subscription> {
    for needed in request.needs() {
        meets(transport, Need::Can(needed));
    }
    open_or_refused(transport, request).await
}

/// Opens a subscription, or checks how it is refused where the transport lacks what it needs.
async fn open_or_refused(transport: &Opened, request: Subscribe) -> Option<Subscription> {
    let capabilities = transport.capabilities();
    let missing = request
        .needs()
        .find(|needed| capabilities.require(*needed).is_err());
    let opened = guarded("a subscription", transport.subscribe(request)).await;
    match missing {
        None => Some(opened.unwrap()),
        Some(missing) => {
            check_refusal(transport, missing, &opened.unwrap_err());
            None
        }
    }
}

/// A refusal names the transport, what it lacks, and a transport that has it.
pub(super) fn check_refusal(transport: &Opened, missing: Capability, error: &TransportError) {
    let name = transport.capabilities().name;
    let typed = TransportError::Unsupported {
        transport: name,
        capability: missing,
    };
    assert_eq!(*error, typed);
    let text = error.to_string();
    for part in [name, missing.who_has_it()] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

pub async fn what_a_transport_lacks_is_an_error(transport: Opened) {
    let mut replay = pattern("lacks");
    replay.start = Start::Beginning;
    let mut lease = pattern("lacks");
    lease.lease = Some(crate::limits::LEASE);
    let mut attempts = pattern("lacks");
    attempts.max_attempts = Some(3);
    let mut strict = pattern("lacks");
    strict.overflow = Overflow::Fail;
    for wanted in [durable("lacks", "name"), replay, lease, attempts, strict] {
        drop(open_or_refused(&transport, wanted).await);
    }
    let options = PublishOptions {
        idempotency_key: Some("key".into()),
        ..PublishOptions::default()
    };
    let published = publish_with(&transport, numbered("lacks", 1), options).await;
    if transport.capabilities().idempotency {
        published.unwrap();
    } else {
        check_refusal(&transport, Capability::Idempotency, &published.unwrap_err());
    }
}

/// A transport that is asked for several things it lacks refuses the subscription as a whole.
pub async fn a_refused_subscription_leaves_nothing_behind(transport: Opened) {
    let mut wanted = durable("behind", "name");
    wanted.group = Some("g".into());
    let Some(opened) = open_or_refused(&transport, wanted).await else {
        let receipt = publish(&transport, numbered("behind", 1)).await.unwrap();
        assert!(reached(receipt, 0), "{receipt:?}");
        return;
    };
    drop(opened);
    // The same name with another group is the refusal here.
    let mut other = durable("behind", "name");
    other.group = Some("h".into());
    let error = transport.subscribe(other).await.unwrap_err();
    assert!(is_misuse(&error), "{error}");
    let receipt = publish(&transport, numbered("behind", 1)).await.unwrap();
    assert!(reached(receipt, 1), "{receipt:?}");
}

/// Has the events of a subject kept at the level of the transport: a carrier without a log keeps
/// them for those who come back.
pub(super) async fn kept(transport: &Opened, tail: &str) -> Option<Subscription> {
    match transport.capabilities().durable {
        true => Some(super::subscribe(transport, durable(tail, "keeper")).await),
        false => None,
    }
}

pub async fn a_receipt_says_where_the_message_is(transport: Opened) {
    let capabilities = transport.capabilities();
    let _kept = kept(&transport, "where").await;
    let receipt = publish(&transport, numbered("where", 1)).await.unwrap();
    assert_eq!(receipt.durability, capabilities.durability);
    assert_eq!(receipt.sequence.is_some(), capabilities.replay);
    assert!(!receipt.duplicate);
}

/// Without a log, what nobody comes back for is in no place that lasts, whoever listens now.
pub async fn a_receipt_claims_no_more_than_is_kept(transport: Opened) {
    let capabilities = transport.capabilities();
    let level = match capabilities.replay {
        true => capabilities.durability,
        false => Durability::Memory,
    };
    let receipt = publish(&transport, numbered("kept", 1)).await.unwrap();
    assert_eq!(receipt.durability, level);
    let _live = super::subscribe(&transport, pattern("kept")).await;
    let receipt = publish(&transport, numbered("kept", 2)).await.unwrap();
    assert_eq!(receipt.durability, level);
}

/// A message for somebody who waits now need not be stored, and the receipt does not claim it.
pub async fn a_reply_claims_no_more_than_memory(transport: Opened) {
    let inbox = transport.open_inbox().unwrap();
    let mut served = super::subscribe(&transport, group("ask", "g")).await;
    let mut request = numbered("ask", 1);
    request.envelope.reply_to = inbox.subject().as_str().into();
    let receipt = publish(&transport, request).await.unwrap();
    assert_eq!(receipt.durability, Durability::Memory);
    let delivery = super::receive(&mut served).await;
    assert_eq!(delivery.sequence(), None);
}
