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
//! cannot do is checked too: asking for it must be an error. Only for want of that is a case skipped;
//! a case that is skipped for another reason fails.

#![allow(
    clippy::unwrap_used,
    reason = "a case that cannot go on should say where"
)]
#![allow(missing_docs, reason = "the cases are named for what they check")]

mod abilities;
mod calls;
mod durable;
mod envelopes;
mod groups;
mod hosted;
mod idempotency;
mod needs;
mod queues;
mod redelivery;
mod replay;
mod routing;
mod settling;

use std::sync::Arc;
use std::time::Duration;

use agentbus_protocol::{
    Envelope, ErrorCode, EventId, EventType, Pattern, Payload, Stamp, Subject, Timestamp,
};

use crate::{
    Delivery, Inbox, Message, PublishOptions, Receipt, Received, Subscribe, Subscription,
    Transport, TransportError,
};

pub use abilities::*;
pub use calls::*;
pub use durable::*;
pub use envelopes::*;
pub use groups::*;
pub use hosted::Hosted;
pub use idempotency::*;
pub use needs::{Need, check_printed, check_table, run};
pub use queues::*;
pub use redelivery::*;
pub use replay::*;
pub use routing::*;
pub use settling::*;

/// What a case runs against.
pub type Opened = Arc<dyn Transport>;

/// Longest time that any step of a case may take before the case has failed.
const GUARD: Duration = Duration::from_secs(60);

/// Makes one test of each case. With the capabilities that are printed for the transport, they are
/// compared with what a connection says.
#[macro_export]
macro_rules! contract_tests {
    ($open:path, $printed:expr) => {
        $crate::contract_tests!($open);

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn the_printed_table_says_what_a_connection_does() {
            $crate::contract::check_printed(&$open().await.capabilities(), &$printed);
        }
    };
    ($open:path) => {
        $crate::contract_tests!($open:
            a_literal_subject_reaches_its_subscribers_and_nobody_else,
            a_star_stands_for_one_token,
            a_greater_sign_stands_for_the_rest,
            every_plain_subscription_gets_every_message,
            order_is_kept_per_publisher,
            a_dropped_subscription_gets_nothing_more,
            large_envelopes_arrive_whole,
            an_envelope_beyond_the_limit_is_refused,
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
            confirmation_comes_from_the_carrier_where_handlers_give_none,
            a_higher_priority_overtakes,
            an_expired_message_is_never_live,
            a_full_queue_slows_its_publisher,
            a_full_queue_can_drop_its_oldest,
            a_full_queue_can_fail_the_publish,
            one_slow_subscriber_does_not_starve_another,
            a_stopped_subscription_gives_out_what_it_has,
            a_closed_transport_takes_nothing,
            what_a_transport_lacks_is_an_error,
            a_refused_subscription_leaves_nothing_behind,
            a_receipt_says_where_the_message_is,
            a_receipt_claims_no_more_than_is_kept,
            a_reply_claims_no_more_than_memory,
            a_durable_name_gets_what_came_while_nobody_listened,
            a_durable_name_goes_on_after_what_it_settled,
            what_a_durable_name_left_unsettled_comes_again,
            durable_names_each_get_everything,
            a_durable_name_that_nobody_uses_is_a_receiver,
            members_of_a_durable_name_share_its_messages,
            a_member_that_goes_leaves_its_messages_to_the_others,
            a_member_that_holds_enough_does_not_keep_others_asleep,
            a_durable_name_without_group_has_one_user,
            a_durable_name_keeps_its_pattern,
            a_durable_name_may_have_wildcards,
            a_durable_name_begins_where_it_was_asked_to,
            a_durable_name_that_was_removed_begins_anew,
            durable_names_are_listed_with_how_far_they_are,
            a_slow_durable_name_does_not_slow_its_publishers,
            a_higher_priority_overtakes_in_a_durable_name,
            an_expired_message_is_never_live_in_a_durable_name,
            a_delivery_has_its_number_in_the_log,
            a_delayed_nak_waits_and_holds_nobody_up,
            a_nak_comes_back_to_a_durable_name,
            a_delivery_that_was_forgotten_comes_back,
            a_reject_does_not_come_back_to_a_durable_name,
            a_lease_that_ends_gives_the_message_to_somebody_else,
            an_extended_lease_lasts,
            a_lease_that_ended_cannot_be_extended,
            a_late_ack_settles_all_the_same,
            a_message_that_is_given_back_too_often_is_a_dead_letter,
            a_message_that_nobody_finishes_is_a_dead_letter,
            dead_letters_can_be_read_later,
            no_more_is_handed_out_than_was_asked_ahead,
            a_replay_begins_at_the_beginning,
            a_replay_begins_at_a_number,
            a_replay_begins_at_a_time,
            a_replay_goes_over_into_the_present_without_a_gap,
            a_replay_gets_only_what_matches,
            a_replay_settles_nothing_for_others,
            a_number_that_is_not_there_yet_begins_with_the_next,
            a_repeated_publish_is_delivered_once,
            different_keys_are_different_messages,
            publishers_that_race_under_one_key_store_one_message,
            every_field_of_an_envelope_arrives,
            payloads_of_every_kind_arrive,
            an_envelope_may_have_no_payload,
            priority_and_time_left_arrive,
            subjects_are_told_apart_by_case_and_length,
            publishers_beside_each_other_keep_their_orders,
            a_wait_that_is_given_up_loses_nothing,
            a_batch_is_no_larger_than_asked,
            replies_find_their_own_inbox,
            a_group_serves_requests_once_each,
            a_stopped_member_leaves_the_rest_to_its_group,
            groups_of_different_names_each_get_everything,
        );
    };
    ($open:path: $($case:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let transport = $open().await;
                $crate::contract::run(stringify!($case), transport, $crate::contract::$case).await;
            }
        )*

        #[test]
        fn the_table_of_needs_names_cases() {
            $crate::contract::check_table(&[$(stringify!($case)),*]);
        }
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

fn durable(tail: &str, name: &str) -> Subscribe {
    let mut request = pattern(tail);
    request.durable = Some(name.into());
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

/// Whether a receipt names this many receivers, where the carrier knows them.
fn reached(receipt: Receipt, receivers: usize) -> bool {
    receipt.receivers.is_none_or(|count| count == receivers)
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

/// Whether a use of a durable name was refused; a remote bus says so in a sentence of its own.
fn is_misuse(error: &TransportError) -> bool {
    match error {
        TransportError::Durable { .. } => true,
        TransportError::Remote(told) => told.code == ErrorCode::InvalidRequest,
        _ => false,
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
