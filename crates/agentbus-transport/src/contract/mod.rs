//! The contract kit: the promises of a transport as cases that any implementation can run.
//!
//! ```ignore
//! agentbus_transport::contract_tests!(open);
//!
//! async fn open() -> Arc<dyn Transport> { … }
//! ```
//!
//! Carriers may deliver later than a publish returns, so no case assumes that a message is there
//! at once; each waits, with one generous guard against hanging. What a transport says that it
//! cannot do is checked too: asking for it must be an error.

#![allow(
    clippy::unwrap_used,
    reason = "a case that cannot go on should say where"
)]
#![allow(missing_docs, reason = "the cases are named for what they check")]

mod calls;
mod groups;
mod queues;
mod routing;
mod settling;

use std::sync::Arc;
use std::time::Duration;

use agentbus_protocol::{
    Envelope, EventId, EventType, Pattern, Payload, Stamp, Subject, Timestamp,
};

use crate::{
    Delivery, Inbox, Message, PublishOptions, Receipt, Received, Subscribe, Subscription,
    Transport, TransportError,
};

pub use calls::*;
pub use groups::*;
pub use queues::*;
pub use routing::*;
pub use settling::*;

/// What a case runs against.
pub type Opened = Arc<dyn Transport>;

/// Longest time that any step of a case may take before the case has failed.
const GUARD: Duration = Duration::from_secs(10);

/// Makes one test of each case.
#[macro_export]
macro_rules! contract_tests {
    ($open:path) => {
        $crate::contract_tests!($open:
            a_literal_subject_reaches_its_subscribers_and_nobody_else,
            a_star_stands_for_one_token,
            a_greater_sign_stands_for_the_rest,
            every_plain_subscription_gets_every_message,
            order_is_kept_per_publisher,
            a_dropped_subscription_gets_nothing_more,
            large_envelopes_arrive_whole,
            a_group_shares_its_messages_fairly,
            a_group_is_one_receiver_whatever_its_patterns,
            work_is_left_to_the_group_when_a_member_goes,
            an_inbox_gets_its_replies_in_order,
            a_closed_inbox_is_known_to_its_replier,
            a_request_that_nobody_serves_fails_at_once,
            a_request_that_is_given_up_is_told_to_its_caller,
            a_nak_brings_the_message_back,
            a_reject_does_not,
            confirmation_means_that_every_receiver_has_acknowledged,
            confirmation_fails_when_a_receiver_does_not_acknowledge,
            confirmation_needs_a_receiver,
            a_higher_priority_overtakes,
            an_expired_message_is_never_live,
            a_full_queue_slows_its_publisher,
            a_full_queue_can_drop_its_oldest,
            a_full_queue_can_fail_the_publish,
            one_slow_subscriber_does_not_starve_another,
            a_stopped_subscription_gives_out_what_it_has,
            a_closed_transport_takes_nothing,
            what_a_transport_lacks_is_an_error,
        );
    };
    ($open:path: $($case:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                $crate::contract::$case($open().await).await;
            }
        )*
    };
}

fn subject(tail: &str) -> Subject {
    Subject::parse(&format!("acp.v1.events.{tail}")).unwrap()
}

fn pattern(tail: &str) -> Subscribe {
    Subscribe::new(Pattern::parse(&format!("acp.v1.events.{tail}")).unwrap())
}

fn group(tail: &str, name: &str) -> Subscribe {
    let mut request = pattern(tail);
    request.group = Some(name.into());
    request
}

/// A message whose payload is a number to recognise it by.
fn numbered(tail: &str, n: u64) -> Message {
    message(subject(tail), n)
}

fn message(subject: Subject, n: u64) -> Message {
    let random: [u8; 10] = rand::random();
    let stamp = Stamp {
        event_id: EventId::v7(n, &random),
        occurred_at: Timestamp::UNIX_EPOCH,
    };
    let mut envelope = Envelope::new(stamp, EventType::from("contract.case"));
    envelope.payload = Some(Payload::json(&n).unwrap());
    Message::new(subject, envelope)
}

async fn guarded<T>(what: &str, step: impl Future<Output = T>) -> T {
    match tokio::time::timeout(GUARD, step).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen within {GUARD:?}"),
    }
}

async fn publish(transport: &Opened, message: Message) -> Result<Receipt, TransportError> {
    publish_with(transport, message, PublishOptions::default()).await
}

async fn publish_with(
    transport: &Opened,
    message: Message,
    options: PublishOptions,
) -> Result<Receipt, TransportError> {
    guarded("a publish", transport.publish(Arc::new(message), options)).await
}

async fn subscribe(transport: &Opened, request: Subscribe) -> Subscription {
    guarded("a subscription", transport.subscribe(request))
        .await
        .unwrap()
}

/// Receives the next live delivery.
async fn receive(subscription: &mut Subscription) -> Delivery {
    match guarded("a delivery", subscription.receive()).await {
        Some(Received::Live(delivery)) => delivery,
        other => panic!("expected a live delivery, got {other:?}"),
    }
}

async fn receive_reply(inbox: &mut Inbox) -> Delivery {
    match guarded("a reply", inbox.receive()).await {
        Some(Received::Live(delivery)) => delivery,
        other => panic!("expected a reply, got {other:?}"),
    }
}

/// Receives, acknowledges and reads the number.
async fn next_number(subscription: &mut Subscription) -> u64 {
    let delivery = receive(subscription).await;
    let n = number(&delivery);
    delivery.ack().await.unwrap();
    n
}

fn number(delivery: &Delivery) -> u64 {
    delivery
        .envelope()
        .payload
        .as_ref()
        .unwrap()
        .decode()
        .unwrap()
}

/// Proves that nothing waits in a subscription: the marker published now is the next to come.
async fn expect_nothing_before(
    transport: &Opened,
    subscription: &mut Subscription,
    tail: &str,
    marker: u64,
) {
    publish(transport, numbered(tail, marker)).await.unwrap();
    assert_eq!(next_number(subscription).await, marker);
}
