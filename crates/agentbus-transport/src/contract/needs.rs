//! What cases need, and the proof that nothing else is skipped.
//!
//! The table names every case that some transport cannot run. A case that is skipped, in whole or
//! in part, says for want of what; each run compares that with the table and with what the transport
//! says of itself, so that a case which is skipped for no reason fails, and so does one which runs
//! although the transport lacks what it needs.

use std::cell::RefCell;

use super::Opened;
use crate::{Capabilities, Capability, Confirmation};

/// What a case needs of a transport beyond what every one has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Can(Capability),
    /// Confirmation by the carrier rather than the handlers.
    AcceptedConfirmation,
    /// A limit to the size of an envelope.
    PayloadLimit,
}

use Need::{AcceptedConfirmation, Can, PayloadLimit};

pub(super) const BACKPRESSURE: Need = Can(Capability::Backpressure);
pub(super) const DURABLE_LISTING: Need = Can(Capability::DurableListing);
pub(super) const DURABLE_REMOVAL: Need = Can(Capability::DurableRemoval);
pub(super) const HANDLED: Need = Can(Capability::HandledConfirmation);
pub(super) const IDEMPOTENCY: Need = Can(Capability::Idempotency);
pub(super) const MIXED_GROUPS: Need = Can(Capability::MixedGroups);
pub(super) const NO_RESPONDER: Need = Can(Capability::NoResponder);
pub(super) const PRIORITY: Need = Can(Capability::Priority);
const DEAD_LETTERS: Need = Can(Capability::DeadLetters);
const DURABLE: Need = Can(Capability::Durable);
const LEASE: Need = Can(Capability::Lease);
const REPLAY: Need = Can(Capability::Replay);

/// The cases that not every transport runs, by what they need.
const NEEDS: &[(&[Need], &[&str])] = &[
    (
        &[Can(Capability::Wildcards)],
        &[
            "a_star_stands_for_one_token",
            "a_greater_sign_stands_for_the_rest",
        ],
    ),
    (
        &[Can(Capability::QueueGroups)],
        &[
            "a_group_shares_its_messages_fairly",
            "groups_of_different_names_each_get_everything",
        ],
    ),
    (
        &[MIXED_GROUPS],
        &["a_group_is_one_receiver_whatever_its_patterns"],
    ),
    (
        &[NO_RESPONDER],
        &["a_request_that_nobody_serves_fails_at_once"],
    ),
    (
        &[PayloadLimit],
        &["an_envelope_beyond_the_limit_is_refused"],
    ),
    (
        &[HANDLED],
        &[
            "confirmation_means_that_every_receiver_has_acknowledged",
            "confirmation_fails_when_a_receiver_does_not_acknowledge",
            "confirmation_needs_a_receiver",
        ],
    ),
    (
        &[AcceptedConfirmation],
        &["confirmation_comes_from_the_carrier_where_handlers_give_none"],
    ),
    (&[PRIORITY], &["a_higher_priority_overtakes"]),
    (
        &[BACKPRESSURE],
        &[
            "a_full_queue_slows_its_publisher",
            "a_full_queue_can_fail_the_publish",
        ],
    ),
    (
        &[IDEMPOTENCY],
        &[
            "a_repeated_publish_is_delivered_once",
            "different_keys_are_different_messages",
            "publishers_that_race_under_one_key_store_one_message",
        ],
    ),
    (
        &[DURABLE],
        &[
            "a_durable_name_gets_what_came_while_nobody_listened",
            "a_durable_name_goes_on_after_what_it_settled",
            "what_a_durable_name_left_unsettled_comes_again",
            "durable_names_each_get_everything",
            "a_durable_name_that_nobody_uses_is_a_receiver",
            "members_of_a_durable_name_share_its_messages",
            "a_member_that_goes_leaves_its_messages_to_the_others",
            "a_member_that_holds_enough_does_not_keep_others_asleep",
            "a_durable_name_without_group_has_one_user",
            "a_durable_name_keeps_its_pattern",
            "a_durable_name_may_have_wildcards",
            "a_slow_durable_name_does_not_slow_its_publishers",
            "an_expired_message_is_never_live_in_a_durable_name",
            "a_delivery_has_its_number_in_the_log",
            "a_delayed_nak_waits_and_holds_nobody_up",
            "a_nak_comes_back_to_a_durable_name",
            "a_delivery_that_was_forgotten_comes_back",
            "a_reject_does_not_come_back_to_a_durable_name",
            "no_more_is_handed_out_than_was_asked_ahead",
        ],
    ),
    (
        &[DURABLE_REMOVAL],
        &["a_durable_name_that_was_removed_begins_anew"],
    ),
    (
        &[DURABLE_LISTING],
        &["durable_names_are_listed_with_how_far_they_are"],
    ),
    (
        &[DURABLE, PRIORITY],
        &["a_higher_priority_overtakes_in_a_durable_name"],
    ),
    (
        &[DURABLE, LEASE],
        &[
            "a_lease_that_ends_gives_the_message_to_somebody_else",
            "an_extended_lease_lasts",
            "a_lease_that_ended_cannot_be_extended",
            "a_late_ack_settles_all_the_same",
        ],
    ),
    (
        &[DURABLE, DEAD_LETTERS],
        &["a_message_that_is_given_back_too_often_is_a_dead_letter"],
    ),
    (
        &[DURABLE, DEAD_LETTERS, LEASE],
        &["a_message_that_nobody_finishes_is_a_dead_letter"],
    ),
    (
        &[DURABLE, DEAD_LETTERS, REPLAY],
        &["dead_letters_can_be_read_later"],
    ),
    (
        &[DURABLE, REPLAY],
        &[
            "a_durable_name_begins_where_it_was_asked_to",
            "a_replay_settles_nothing_for_others",
        ],
    ),
    (
        &[REPLAY],
        &[
            "a_replay_begins_at_the_beginning",
            "a_replay_begins_at_a_number",
            "a_replay_begins_at_a_time",
            "a_replay_goes_over_into_the_present_without_a_gap",
            "a_replay_gets_only_what_matches",
            "a_number_that_is_not_there_yet_begins_with_the_next",
        ],
    ),
];

tokio::task_local! {
    /// For want of what the running case was skipped.
    static LACKED: RefCell<Vec<Need>>;
}

impl Need {
    fn is_met(self, capabilities: &Capabilities) -> bool {
        match self {
            Can(capability) => capabilities.require(capability).is_ok(),
            AcceptedConfirmation => capabilities.confirmation == Confirmation::Accepted,
            PayloadLimit => capabilities.max_payload_bytes.is_some(),
        }
    }
}

/// Whether the transport has what the rest of a case needs; where not, it is noted, and the case
/// skips that.
pub(super) fn meets(transport: &Opened, need: Need) -> bool {
    let met = need.is_met(&transport.capabilities());
    if !met {
        // A task beside the case notes nothing; the case itself does.
        let _ = LACKED.try_with(|lacked| lacked.borrow_mut().push(need));
    }
    met
}

/// Runs a case and checks that it was skipped where the transport lacks what it needs, and nowhere
/// else.
pub async fn run<F: Future<Output = ()>>(
    name: &str,
    transport: Opened,
    case: impl FnOnce(Opened) -> F,
) {
    let capabilities = transport.capabilities();
    let noted = async {
        case(transport).await;
        LACKED.with(RefCell::take)
    };
    let lacked = LACKED.scope(RefCell::default(), noted).await;
    let rows = NEEDS.iter().filter(|(_, cases)| cases.contains(&name));
    let needs = rows.flat_map(|(needs, _)| needs.iter().copied());
    let unmet: Vec<_> = needs.filter(|need| !need.is_met(&capabilities)).collect();
    let transport = capabilities.name;
    assert_eq!(
        lacked.is_empty(),
        unmet.is_empty(),
        "{name} over {transport}: by the table it lacks {unmet:?}, and was skipped for {lacked:?}"
    );
    assert!(
        lacked.iter().all(|need| unmet.contains(need)),
        "{name} over {transport}: skipped for {lacked:?}, and the table says {unmet:?}"
    );
}

/// Every case of the table is one of the kit.
pub fn check_table(cases: &[&str]) {
    let named = NEEDS.iter().flat_map(|(_, cases)| cases.iter());
    let unknown: Vec<_> = named.filter(|name| !cases.contains(name)).collect();
    assert!(unknown.is_empty(), "no such cases: {unknown:?}");
}

/// What a connection says of itself is what is printed for its kind. How safe an accepted publish is
/// and how large it may be can depend on the settings of its server.
pub fn check_printed(connected: &Capabilities, printed: &Capabilities) {
    let printed = Capabilities {
        durability: connected.durability,
        max_payload_bytes: connected.max_payload_bytes,
        ..*printed
    };
    assert_eq!(*connected, printed);
}
