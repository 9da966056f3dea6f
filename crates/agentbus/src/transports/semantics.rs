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
    let yes = |able: bool| if able { "yes" } else { "no" }.to_owned();
    let order = match ordering {
        Ordering::PerPublisher => "per publisher and priority",
        Ordering::None => "none",
    };
    let confirm = match confirmation {
        Confirmation::Accepted => "taken by the carrier",
        Confirmation::Handled => "handled by every live subscriber",
    };
    let largest = max_payload_bytes.map_or("memory".to_owned(), |bytes| {
        format!("{} MiB", bytes / (1024 * 1024))
    });
    vec![
        ("name", name.to_owned()),
        ("order", order.to_owned()),
        ("an accepted publish is", durability.to_string()),
        ("a confirmed publish is", confirm.to_owned()),
        ("ack and nak", yes(ack)),
        ("redelivery with attempt numbers", yes(redelivery)),
        (
            "only what was handed out is an attempt",
            yes(exact_attempts),
        ),
        ("replay from the past", yes(replay)),
        ("durable subscriptions", yes(durable)),
        ("removal of a durable name", yes(durable_removal)),
        ("leases", yes(lease)),
        ("a limit of attempts, then a dead letter", yes(dead_letters)),
        ("idempotent publish by key", yes(idempotency)),
        ("queue groups", yes(queue_groups)),
        ("a group is one queue for all members", yes(shared_queues)),
        ("one group over overlapping patterns", yes(mixed_groups)),
        ("wildcards", yes(wildcards)),
        ("priority", yes(priority)),
        ("ttl", yes(ttl)),
        ("no-responder notice", yes(no_responder)),
        ("back-pressure from a full queue", yes(backpressure)),
        ("largest envelope", largest),
    ]
}
