//! The task that takes messages from a queue for one member.
//!
//! It reads in a connection of its own, because a read that waits would hold up everything behind
//! it. Its life: read while there is room, until told to stop; leave; hand over or give back what
//! is left.

use std::sync::Arc;
use std::time::Duration;

use agentbus_transport::clock::millis;
use agentbus_transport::remote::amb;
use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{RedisError, Value};
use tokio::time::{Instant, timeout};

use crate::commands::{Backoff, Order, connect, is_loss, may_pass, run as run_order};
use crate::entries::{Entry, claimed, fresh, pending};
use crate::limits;
use crate::member::{Member, Taken};
use crate::scripts::{CLAIM, DROP, LEAVE, RELEASE};

/// A connection for reads that wait, and its name at the server.
struct Reader {
    connection: MultiplexedConnection,
    id: i64,
}

/// Serves a member until it is dropped.
pub(crate) async fn run(member: Arc<Member>) {
    let lost = take_until_stopped(&member).await;
    let last = leave(&member).await;
    if lost {
        give_back_unknown(&member).await;
    }
    if !member.dropped.is_cancelled() {
        if last {
            drain(&member).await;
        }
        member.end_taking();
        member.dropped.cancelled().await;
    }
    let untouched = member.take_back();
    if last {
        member.put(untouched);
        drain(&member).await;
        for taken in member.take_back() {
            if let Some(inbox) = member.asker(&taken.message) {
                member.lose(&taken.message, inbox).await;
            }
        }
        call(&member, &DROP, |_| {}).await;
    } else {
        release(&member, &untouched).await;
    }
    member.link.leave(member.number);
    member.left().cancel();
}

/// Takes messages while there is room. Returns whether a read was lost, so that the server may
/// have given something that never arrived.
async fn take_until_stopped(member: &Arc<Member>) -> bool {
    let mut reader = None;
    let mut next_look = Instant::now();
    let mut pause = Backoff::default();
    let mut lost = false;
    loop {
        let room = tokio::select! {
            biased;
            () = member.stopped.cancelled() => return lost,
            room = member.room() => room,
        };
        let now = Instant::now();
        if now >= next_look {
            claim(member, room).await;
            next_look = now + interval(member);
            continue;
        }
        match read(member, &mut reader, room, next_look - now).await {
            Ok(entries) => {
                pause = Backoff::default();
                if admit(member, entries).await {
                    next_look = Instant::now();
                }
                // After what came was put down as known.
                if std::mem::take(&mut lost) {
                    give_back_unknown(member).await;
                }
            }
            Err(error) => {
                lost = true;
                reader = None;
                recover(member, &error).await;
                tokio::select! {
                    () = member.stopped.cancelled() => return lost,
                    () = pause.wait() => {}
                }
            }
        }
    }
}

/// How often to look for deliveries that are due again.
fn interval(member: &Member) -> Duration {
    let share = member.lease.map_or(Duration::MAX, |lease| lease / 4);
    share.clamp(limits::CLAIM_INTERVAL_MIN, limits::CLAIM_INTERVAL_MAX)
}

/// Joins again when the server has forgotten the queue.
async fn recover(member: &Member, error: &RedisError) {
    if may_pass(error) || is_loss(error) {
        tracing::debug!(%error, "a read from a queue was lost");
        return;
    }
    tracing::warn!(queue = member.plan.queue, %error, "a queue cannot be read; joining it again");
    if let Err(error) = member.join_again().await {
        tracing::warn!(%error, "a queue could not be joined again");
    }
}

/// Waits for messages for at most `patience`.
async fn read(
    member: &Member,
    reader: &mut Option<Reader>,
    room: usize,
    patience: Duration,
) -> Result<Vec<Entry>, RedisError> {
    let reader = match reader {
        Some(reader) => reader,
        none => none.insert(open(member).await?),
    };
    let mut cmd = redis::cmd("XREADGROUP");
    cmd.arg("GROUP").arg("bus").arg(&member.plan.consumer);
    // A wait of 0 would have no end.
    cmd.arg("COUNT")
        .arg(room)
        .arg("BLOCK")
        .arg(millis(patience).max(1));
    cmd.arg("STREAMS").arg(stream(member)).arg(">");
    let (order, id) = (Order::One(cmd), reader.id);
    let answer = timeout(
        patience + limits::RESPONSE_TIMEOUT,
        run_order(&mut reader.connection, &order),
    );
    let mut answer = std::pin::pin!(answer);
    let value = tokio::select! {
        value = &mut answer => value,
        () = interrupted(member, id) => return Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    };
    match value {
        Ok(value) => Ok(fresh(value?)),
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}

async fn open(member: &Member) -> Result<Reader, RedisError> {
    let client = member.link.commands().client();
    let mut connection = connect(client, None).await?;
    let id = redis::cmd("CLIENT")
        .arg("ID")
        .query_async(&mut connection)
        .await?;
    Ok(Reader { connection, id })
}

/// Once the member is stopped, asks the server to answer the read that waits, so that nothing is
/// given to somebody who no longer listens. Ends only when it does not.
async fn interrupted(member: &Member, id: i64) {
    member.stopped.cancelled().await;
    for _ in 0..limits::INTERRUPTS {
        let mut cmd = redis::cmd("CLIENT");
        cmd.arg("UNBLOCK").arg(id);
        let _ = member.link.commands().once(&Order::One(cmd)).await;
        tokio::time::sleep(limits::INTERRUPT_PAUSE).await;
    }
}

/// Takes over what is due again.
async fn claim(member: &Arc<Member>, room: usize) {
    let lease = member.lease.map_or(0, millis);
    let answer = call(member, &CLAIM, |cmd| {
        cmd.arg(&member.plan.consumer).arg(lease);
        cmd.arg(room).arg(limits::CLAIM_SCAN);
    });
    if let Some(value) = answer.await {
        admit(member, claimed(value)).await;
    }
}

/// Sorts what the server gave. Returns whether it was woken to look for what is due.
async fn admit(member: &Arc<Member>, entries: Vec<Entry>) -> bool {
    let (mut taken, mut over) = (Vec::new(), Vec::new());
    let mut woken = false;
    for entry in entries {
        let Some(data) = entry.data else {
            woken = true;
            over.push(entry.id);
            continue;
        };
        let Some(message) = readable(member, &data) else {
            over.push(entry.id);
            continue;
        };
        let one = Taken {
            entry: entry.id,
            attempt: entry.attempt,
            sequence: entry.sequence,
            message,
        };
        if one.attempt > member.attempts_max {
            if let Err(error) = member.bury(&one, &entry.cause).await {
                tracing::error!(%error, "a dead letter could not be written; it will be tried again");
            }
        } else if entry.cause == "gone"
            && let Some(inbox) = member.asker(&one.message)
        {
            // Nobody can say how far the agent got, so the caller decides.
            member.lose(&one.message, inbox).await;
            over.push(one.entry);
        } else {
            taken.push(one);
        }
    }
    member.put(taken);
    if let Err(error) = member.finish_woken(&over).await {
        tracing::warn!(%error, "entries could not be removed from a queue");
    }
    woken
}

fn readable(member: &Member, data: &Bytes) -> Option<Arc<agentbus_transport::Message>> {
    match amb::decode(data) {
        Ok(read) => Some(Arc::new(read.message)),
        Err(error) => {
            tracing::warn!(queue = member.plan.queue, %error, "a message cannot be read");
            None
        }
    }
}

/// Ends the membership. Returns whether the queue ends with it.
async fn leave(member: &Member) -> bool {
    let link = &member.link;
    let answer = call(member, &LEAVE, |cmd| {
        cmd.arg(&member.plan.consumer).arg(&link.desk().client);
        cmd.arg(agentbus_transport::remote::token());
    });
    matches!(answer.await, Some(Value::Int(1)))
}

/// Takes all that is left in a queue that ends.
async fn drain(member: &Arc<Member>) {
    let mut cmd = redis::cmd("XREADGROUP");
    cmd.arg("GROUP").arg("bus").arg(&member.plan.consumer);
    cmd.arg("COUNT")
        .arg(limits::DRAIN)
        .arg("STREAMS")
        .arg(stream(member))
        .arg(">");
    let order = Order::One(cmd);
    loop {
        let entries = match member.link.commands().once(&order).await {
            Ok(value) => fresh(value),
            Err(_) => return,
        };
        if entries.is_empty() {
            return;
        }
        admit(member, entries).await;
    }
}

/// Gives back what nobody has looked at.
async fn release(member: &Member, untouched: &[Taken]) {
    if untouched.is_empty() {
        return;
    }
    call(member, &RELEASE, |cmd| {
        cmd.arg(&member.plan.consumer);
        for taken in untouched {
            cmd.arg(&taken.entry).arg(taken.attempt - 1);
        }
    })
    .await;
}

/// Gives back what the server believes to be here and never arrived.
async fn give_back_unknown(member: &Member) {
    let mut cmd = redis::cmd("XPENDING");
    cmd.arg(stream(member)).arg("bus").arg("-").arg("+");
    cmd.arg(limits::PREFETCH_MAX).arg(&member.plan.consumer);
    let commands = member.link.commands();
    let order = Order::One(cmd);
    let Ok(value) = commands.patiently(order, limits::SETTLE_TIMEOUT).await else {
        return;
    };
    let unknown = pending(value)
        .into_iter()
        .filter(|(entry, _)| !member.knows(entry));
    let unknown: Vec<_> = unknown.collect();
    if unknown.is_empty() {
        return;
    }
    call(member, &RELEASE, |cmd| {
        cmd.arg(&member.plan.consumer);
        for (entry, attempts) in &unknown {
            cmd.arg(entry).arg(attempts.saturating_sub(1));
        }
    })
    .await;
}

/// Runs a script on the member's queue. What fails here is made good by whoever looks next.
async fn call(
    member: &Member,
    step: &'static crate::scripts::Step,
    fill: impl FnOnce(&mut redis::Cmd),
) -> Option<Value> {
    let desk = member.link.desk();
    let fill = |cmd: &mut redis::Cmd| {
        cmd.arg(desk.names.base()).arg(&member.plan.queue);
        fill(cmd);
    };
    match desk.commands.script(step, fill).await {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::warn!(queue = member.plan.queue, %error, "a queue could not be looked after");
            None
        }
    }
}

fn stream(member: &Member) -> String {
    member.link.names().key("queue", &member.plan.queue)
}
