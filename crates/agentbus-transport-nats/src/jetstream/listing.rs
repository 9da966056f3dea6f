//! Listing durable names.
//!
//! A durable name is a consumer that says of itself that it is ours. How far it has come, its
//! server knows. Who uses it, the server does not: it sees who waits for messages there, and not
//! who works on what it has, so nobody is counted.

use agentbus_transport::{DurableInfo, TransportError};
use async_nats::jetstream::consumer::Info;
use futures_util::TryStreamExt;

use super::names;
use super::store::Store;

/// Lists the durable names whose messages the stream keeps, page by page.
pub(super) async fn list(store: &Store) -> Result<Vec<DurableInfo>, TransportError> {
    let consumers = store.stream.consumers().try_collect::<Vec<_>>().await;
    let consumers = consumers.map_err(|error| store.failed(error))?;
    let mut listed: Vec<_> = consumers.into_iter().filter_map(told).collect();
    listed.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(listed)
}

/// What a consumer tells of its durable name; `None` where it has none, or is not ours.
fn told(info: Info) -> Option<DurableInfo> {
    let kept = info.config.durable_name?;
    let described = names::described(info.config.description.as_deref()?)?;
    Some(DurableInfo {
        name: described.name.unwrap_or(kept),
        group: described.group,
        pattern: info.config.filter_subject,
        members: None,
        unsettled: info.num_ack_pending,
        seen: info.delivered.stream_sequence,
        behind: info.num_pending,
    })
}
