//! Showing that a client is alive, and noticing that others are not.
//!
//! Memberships and deliveries belong to a client for as long as it shows itself. A client that was
//! given up meanwhile, because it stood still or the server lost its data, joins its queues again.

use std::sync::{Arc, Weak};

use agentbus_transport::TransportError;
use agentbus_transport::clock::millis;
use agentbus_transport::remote::token;
use redis::Value;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::commands::Order;
use crate::desk::Desk;
use crate::limits;
use crate::link::Link;
use crate::scripts::BEAT;

/// Shows itself once. Returns whether the server had given the client up.
pub(crate) async fn beat(desk: &Desk) -> Result<bool, TransportError> {
    let fill = |cmd: &mut redis::Cmd| {
        cmd.arg(desk.names.base()).arg(&desk.client);
        cmd.arg(millis(limits::CLIENT_LIFE)).arg(token());
        cmd.arg(limits::DEAD_CLIENTS);
    };
    let answer = desk.commands.script(&BEAT, fill).await?;
    Ok(matches!(answer, Value::Int(1)))
}

/// Shows itself until the transport ends.
pub(crate) async fn run(link: Weak<Link>, desk: Arc<Desk>, ending: CancellationToken) {
    let mut beats = interval(limits::HEARTBEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = ending.cancelled() => return,
            _ = beats.tick() => {}
        }
        match beat(&desk).await {
            Ok(false) => {}
            Ok(true) => join_again(&link).await,
            Err(error) => tracing::warn!(%error, "the Redis server did not take the heartbeat"),
        }
    }
}

async fn join_again(link: &Weak<Link>) {
    let Some(link) = link.upgrade() else { return };
    for member in link.members() {
        if let Err(error) = member.join_again().await {
            tracing::warn!(%error, "a queue could not be joined again");
        }
    }
}

/// Says goodbye, so that nobody has to wait for the silence.
pub(crate) async fn farewell(desk: &Desk) {
    let mut both = redis::pipe();
    both.atomic();
    both.cmd("ZREM")
        .arg(desk.names.single("clients"))
        .arg(&desk.client);
    both.cmd("DEL").arg(desk.names.key("client", &desk.client));
    for place in 0..limits::BATCHES {
        let sent = format!("{}:{place}", desk.client);
        both.cmd("DEL").arg(desk.names.key("sent", &sent));
    }
    if let Err(error) = desk.commands.once(&Order::Many(both)).await {
        tracing::debug!(%error, "the Redis server did not hear the farewell");
    }
}
