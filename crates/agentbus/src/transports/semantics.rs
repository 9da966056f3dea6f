//! What the transports can do, side by side.

use agentbus_transport::{Capabilities, Confirmation, Ordering};

use super::all;

/// One line of the comparison: what is asked, and the answer of each transport.
pub type Row = (&'static str, Vec<String>);

/// The comparison of all transports of this build. The first row holds their URLs.
#[must_use]
pub fn rows() -> Vec<Row> {
    let all = all();
    let mut rows = vec![("", all.iter().map(|(form, _)| (*form).to_owned()).collect())];
    let answers: Vec<_> = all
        .iter()
        .map(|(_, abilities)| answers(abilities))
        .collect();
    for (number, (question, _)) in answers[0].iter().enumerate() {
        let row = answers.iter().map(|answers| answers[number].1.clone());
        rows.push((question, row.collect()));
    }
    rows
}

/// The comparison as a Markdown table.
#[must_use]
pub fn table() -> String {
    let mut lines = Vec::new();
    for (number, (question, answers)) in rows().into_iter().enumerate() {
        let quoted = |answer: String| {
            if number == 0 {
                format!("`{answer}`")
            } else {
                answer
            }
        };
        let cells: Vec<_> = answers.into_iter().map(quoted).collect();
        lines.push(format!("| {question} | {} |\n", cells.join(" | ")));
        if number == 0 {
            lines.push(format!("|---|{}\n", "---|".repeat(cells.len())));
        }
    }
    lines.concat()
}

/// Every field of the capabilities in words; one that is added does not compile before it is here.
fn answers(capabilities: &Capabilities) -> Vec<(&'static str, String)> {
    let Capabilities {
        name,
        ordering,
        durability,
        confirmation,
        ack,
        redelivery,
        exact_attempts,
        replay,
        durable,
        durable_removal,
        durable_listing,
        lease,
        dead_letters,
        idempotency,
        queue_groups,
        shared_queues,
        mixed_groups,
        wildcards,
        priority,
        ttl,
        no_responder,
        backpressure,
        max_payload_bytes,
    } = *capabilities;
    let mut answers = vec![
        ("name", name.to_owned()),
        ("order", order(ordering).to_owned()),
        ("an accepted publish is", durability.to_string()),
        ("a confirmed publish is", confirmed(confirmation).to_owned()),
    ];
    let abilities = [
        ("ack and nak", ack),
        ("redelivery with attempt numbers", redelivery),
        ("only what was handed out is an attempt", exact_attempts),
        ("replay from the past", replay),
        ("durable subscriptions", durable),
        ("removal of a durable name", durable_removal),
        ("a list of durable names", durable_listing),
        ("leases", lease),
        ("a limit of attempts, then a dead letter", dead_letters),
        ("idempotent publish by key", idempotency),
        ("queue groups", queue_groups),
        ("a group is one queue for all members", shared_queues),
        ("one group over overlapping patterns", mixed_groups),
        ("wildcards", wildcards),
        ("priority", priority),
        ("ttl", ttl),
        ("no-responder notice", no_responder),
        ("back-pressure from a full queue", backpressure),
    ];
    let yes_or_no = |able| if able { "yes" } else { "no" }.to_owned();
    answers.extend(abilities.map(|(question, able)| (question, yes_or_no(able))));
    answers.push(("largest envelope", largest(max_payload_bytes)));
    answers
}

const fn order(ordering: Ordering) -> &'static str {
    match ordering {
        Ordering::PerPublisher => "per publisher and priority",
        Ordering::None => "none",
    }
}

const fn confirmed(confirmation: Confirmation) -> &'static str {
    match confirmation {
        Confirmation::Accepted => "taken by the carrier",
        Confirmation::Handled => "handled by every live subscriber",
    }
}

/// In MiB; where there is no limit of its own, that is the memory.
fn largest(envelope_bytes: Option<usize>) -> String {
    envelope_bytes.map_or("memory".to_owned(), |bytes| {
        format!("{} MiB", bytes / (1024 * 1024))
    })
}
