//! Listing durable names.
//!
//! A queue has its copy of each message from the moment of the publish, and loses it when it is
//! settled. So a name has looked past all of the log, unless the past is still being copied for it,
//! and what lies in its queue is what it has not settled; entries that only wake somebody are not
//! counted. The server answers for some names at a time, each answer being of one moment.

use agentbus_transport::{DurableInfo, TransportError};
use redis::Value;
use tokio::time::timeout;

use crate::commands::carrier;
use crate::limits;
use crate::link::Link;
use crate::routes::Route;
use crate::scripts::LIST;

/// Lists the durable names of the bus; one that is removed meanwhile may be left out.
pub(crate) async fn list(link: &Link) -> Result<Vec<DurableInfo>, TransportError> {
    if link.is_closed() {
        return Err(TransportError::Closed);
    }
    let routes = link.desk().reload().await?;
    let queues: Vec<_> = routes.durable().collect();
    // Who has been dropped here is no user any more, though the server may not know it yet.
    let leaving = async {
        for queue in &queues {
            link.leaving().wait(queue, limits::READY_TIMEOUT).await;
        }
    };
    let _ = timeout(limits::READY_TIMEOUT, leaving).await;
    let mut listed = Vec::with_capacity(queues.len());
    for piece in queues.chunks(limits::LISTED_NAMES) {
        listed.extend(ask(link, piece).await?);
    }
    listed.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(listed)
}

async fn ask(link: &Link, queues: &[&str]) -> Result<Vec<DurableInfo>, TransportError> {
    let desk = link.desk();
    let fill = |cmd: &mut redis::Cmd| {
        cmd.arg(desk.names.base());
        for queue in queues {
            cmd.arg(*queue);
        }
    };
    let answer = desk.commands.script(&LIST, fill).await?;
    read(answer).ok_or_else(|| carrier("the server's list of durable names cannot be read"))
}

/// Reads the answer of the script: the newest number of the log, then the names.
fn read(answer: Value) -> Option<Vec<DurableInfo>> {
    let mut answer = answer.into_sequence().ok()?.into_iter();
    let newest: u64 = redis::from_redis_value(answer.next()?).ok()?;
    answer.map(|one| info(one, newest)).collect()
}

fn info(one: Value, newest: u64) -> Option<DurableInfo> {
    type Told = (String, String, usize, usize, String);
    let told: Told = redis::from_redis_value(one).ok()?;
    let (queue, route, members, unsettled, position) = told;
    let route: Route = serde_json::from_str(&route).ok()?;
    let seen = match position.as_str() {
        "" => newest,
        position => copied(position)?.min(newest),
    };
    Some(DurableInfo {
        name: queue.strip_prefix("d:")?.to_owned(),
        group: route.group,
        pattern: route.pattern,
        members: Some(members),
        unsettled,
        seen,
        behind: newest - seen,
    })
}

/// How far a copy of the past has come: it goes on with the number `17`, or behind the entry
/// `(17-1700000000000`.
fn copied(position: &str) -> Option<u64> {
    match position.strip_prefix('(') {
        Some(last) => last.split('-').next()?.parse().ok(),
        None => position
            .parse()
            .ok()
            .map(|next: u64| next.saturating_sub(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn what_is_still_copied_is_behind() {
        let listed = |position: &str| {
            let route = r#"{"pattern":"a.*","group":"g"}"#;
            let (members, unsettled) = (Value::Int(2), Value::Int(5));
            let name = vec![text("d:n"), text(route), members, unsettled, text(position)];
            let answer = Value::Array(vec![Value::Int(20), Value::Array(name)]);
            read(answer).and_then(|mut listed| listed.pop())
        };
        for (position, seen) in [("", 20), ("17", 16), ("0", 0), ("(17-1700", 17), ("99", 20)] {
            let expected = DurableInfo {
                name: "n".to_owned(),
                group: Some("g".to_owned()),
                pattern: "a.*".to_owned(),
                members: Some(2),
                unsettled: 5,
                seen,
                behind: 20 - seen,
            };
            assert_eq!(listed(position), Some(expected), "{position}");
        }
        assert_eq!(listed("x"), None);
    }
}
