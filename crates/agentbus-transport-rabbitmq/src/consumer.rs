//! The task that takes messages from a queue for one member.
//!
//! Its life: take what the broker gives, until told to stop; leave; hand over or give back what is
//! left.

use std::sync::Arc;

use agentbus_transport::remote::amb;
use agentbus_transport::{Message, TransportError};
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicQosOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Consumer};

use crate::errors::asked;
use crate::limits;
use crate::line::backoff;
use crate::member::{Member, Taken};
use crate::names::binding;
use crate::outlet::Parcel;
use crate::settle;

/// Why a member takes no more by a channel.
enum End {
    Stopped(Option<Consumer>),
    Lost,
}

/// Serves a member until it is dropped.
pub(crate) async fn run(member: Arc<Member>, channel: Arc<Channel>) {
    let channel = serve(&member, channel).await;
    let last = leave(&member, channel.as_deref()).await;
    if !member.dropped.is_cancelled() {
        if last && let Some(channel) = &channel {
            drain(&member, channel).await;
        }
        member.end_taking();
        member.dropped.cancelled().await;
    }
    if let Some(channel) = channel {
        clear(&member, &channel, last).await;
    }
    member.forget();
    member.link.leaving().end(&member.plan.queue);
}

/// Takes messages until the member is stopped, over reconnects. Returns the channel, if there is
/// one at the end.
async fn serve(member: &Arc<Member>, mut channel: Arc<Channel>) -> Option<Arc<Channel>> {
    let mut pause = backoff();
    loop {
        match take(member, &channel).await {
            End::Stopped(consumer) => {
                cancel(member, &channel, consumer).await;
                return Some(channel);
            }
            End::Lost => {}
        }
        // The broker has them again and gives them to somebody, with their attempts counted.
        drop(member.take_back());
        loop {
            tokio::select! {
                () = member.stopped.cancelled() => return None,
                () = pause.wait() => {}
            }
            match member.join().await {
                Ok(again) => break channel = again,
                Err(error) => {
                    tracing::debug!(queue = member.plan.queue, %error, "a queue cannot be joined yet");
                }
            }
        }
        pause = backoff();
    }
}

/// Takes what comes by one channel.
async fn take(member: &Arc<Member>, channel: &Arc<Channel>) -> End {
    if let Some(end) = idle(member, channel).await {
        return end;
    }
    let mut consumer = match consume(member, channel).await {
        Ok(consumer) => consumer,
        Err(error) => {
            tracing::debug!(queue = member.plan.queue, %error, "a queue cannot be read");
            return End::Lost;
        }
    };
    loop {
        tokio::select! {
            biased;
            () = member.stopped.cancelled() => return End::Stopped(Some(consumer)),
            given = consumer.next() => match given {
                Some(Ok(delivery)) => admit(member, channel, delivery).await,
                _ => return End::Lost,
            },
        }
    }
}

/// Waits until somebody reads, and shows meanwhile that the queue is in use.
async fn idle(member: &Member, channel: &Channel) -> Option<End> {
    loop {
        tokio::select! {
            biased;
            () = member.stopped.cancelled() => return Some(End::Stopped(None)),
            () = member.until_wanted() => return None,
            () = tokio::time::sleep(limits::GROUP_BEAT) => {}
        }
        if let Err(error) = member.plan.declare(channel, member.link.names()).await {
            tracing::debug!(queue = member.plan.queue, %error, "a queue was lost");
            return Some(End::Lost);
        }
    }
}

async fn consume(member: &Member, channel: &Channel) -> Result<Consumer, TransportError> {
    asked(channel.basic_qos(member.prefetch(), BasicQosOptions::default())).await?;
    let consuming = channel.basic_consume(
        member.plan.queue.as_str().into(),
        "".into(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    asked(consuming).await
}

/// Has the broker give no more, and takes what it had sent.
async fn cancel(member: &Arc<Member>, channel: &Arc<Channel>, consumer: Option<Consumer>) {
    let Some(mut consumer) = consumer else { return };
    let cancelled = channel.basic_cancel(consumer.tag(), <_>::default());
    if asked(cancelled).await.is_err() {
        return;
    }
    while let Some(Ok(delivery)) = consumer.next().await {
        admit(member, channel, delivery).await;
    }
}

/// Sorts what the broker gave.
async fn admit(member: &Arc<Member>, channel: &Arc<Channel>, delivery: Delivery) {
    let attempt = attempt(&delivery);
    let (tag, redelivered) = (delivery.delivery_tag, delivery.redelivered);
    let message = match amb::decode(&delivery.data.into()) {
        Ok(read) => Arc::new(read.message),
        Err(error) => {
            tracing::warn!(queue = member.plan.queue, %error, "a message cannot be read");
            return settle::refuse(channel, tag).await;
        }
    };
    let taken = Taken {
        channel: Arc::clone(channel),
        tag,
        attempt,
        message,
    };
    if !is_meant(member, &taken.message) {
        settle::finish(&taken).await;
    } else if taken.attempt > member.attempts_max {
        member.bury_or_retry(taken).await;
    } else if redelivered && member.asker(&taken.message).is_some() {
        // Nobody can say how far the agent got that had it before, so the caller decides.
        member.lose(&taken.message).await;
        settle::finish(&taken).await;
    } else {
        member.put(taken);
    }
}

/// Whether a message is for this subscription: replies of AMB peers pass the exchange, and a
/// subject may hold what a binding takes for a wildcard.
fn is_meant(member: &Member, message: &Message) -> bool {
    let subject = &message.subject;
    !subject.is_inbox() && member.plan.pattern.matches(subject.as_str())
}

/// Which attempt this is. Quorum queues count; of others it is only known that there was one.
fn attempt(delivery: &Delivery) -> u32 {
    let headers = delivery.properties.headers().as_ref();
    let counted = headers.and_then(|headers| headers.inner().get("x-delivery-count"));
    let before = match counted {
        Some(AMQPValue::LongLongInt(count)) => u32::try_from(*count).unwrap_or(u32::MAX),
        Some(AMQPValue::LongInt(count)) => u32::try_from(*count).unwrap_or(u32::MAX),
        _ => u32::from(delivery.redelivered),
    };
    before.saturating_add(1)
}

/// Gives the membership up. Says whether the queue ends with it.
async fn leave(member: &Member, channel: Option<&Channel>) -> bool {
    let last_here = member.link.seats().leave(&member.plan.queue);
    if member.plan.is_durable() {
        return false;
    }
    if !member.plan.is_group() {
        return true;
    }
    let Some(channel) = channel.filter(|_| last_here) else {
        return false;
    };
    let look = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let queue = member.plan.queue.as_str();
    let looked = channel.queue_declare(queue.into(), look, FieldTable::default());
    if !matches!(asked(looked).await, Ok(queue) if queue.consumer_count() == 0) {
        return false;
    }
    // Whoever asks from now on hears that nobody is there.
    if let Ok(key) = binding(&member.plan.pattern) {
        let exchange = member.link.names().exchange().into();
        let unbound = channel.queue_unbind(queue.into(), exchange, key.into(), <_>::default());
        let _ = asked(unbound).await;
    }
    true
}

/// Takes all that is left in a queue that ends.
async fn drain(member: &Arc<Member>, channel: &Arc<Channel>) {
    loop {
        let queue = member.plan.queue.as_str().into();
        match asked(channel.basic_get(queue, BasicGetOptions::default())).await {
            Ok(Some(got)) => admit(member, channel, got.delivery).await,
            Ok(None) | Err(_) => return,
        }
    }
}

/// Gives back what nobody has looked at, or ends the queue with it.
async fn clear(member: &Arc<Member>, channel: &Arc<Channel>, last: bool) {
    if last {
        drain(member, channel).await;
        for taken in member.take_back() {
            member.lose(&taken.message).await;
            settle::finish(&taken).await;
        }
        let queue = member.plan.queue.as_str().into();
        let _ = asked(channel.queue_delete(queue, QueueDeleteOptions::default())).await;
        return;
    }
    for taken in member.take_back() {
        give_back(member, taken).await;
    }
    // The answer comes when the broker has heard all of it.
    let _ = asked(channel.basic_qos(member.prefetch(), BasicQosOptions::default())).await;
    member.plan.unlock(channel).await;
}

/// Gives back a message that nobody has looked at. A request goes as a new message: one that comes
/// again would be taken for one that an agent may have begun.
async fn give_back(member: &Arc<Member>, taken: Taken) {
    if member.asker(&taken.message).is_none() {
        return settle::give_back(&taken).await;
    }
    let parcel = Parcel {
        subject: taken.message.subject.clone(),
        exchange: "".into(),
        key: member.plan.queue.as_str().into(),
        properties: crate::publish::properties(&taken.message, true),
        body: amb::encode(&taken.message, &amb::Extra::default()),
    };
    if member.link.outlet().ask(parcel).await.is_err() {
        member.lose(&taken.message).await;
    }
    settle::finish(&taken).await;
}
