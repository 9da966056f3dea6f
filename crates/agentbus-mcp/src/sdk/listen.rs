//! Telling clients what has changed.
//!
//! A session of the older revisions hears of every list, and of the resources that it subscribed
//! to. A client of the newest keeps a stream open that names what it wants to hear of.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use rmcp::RoleServer;
use rmcp::model::{ResourceUpdatedNotificationParam, SubscriptionFilter};
use rmcp::service::{Peer, ServiceError, SubscriptionContext, SubscriptionSendError};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_util::sync::CancellationToken;

use crate::catalog::Change;
use crate::{Fault, limits};

/// The resources that a session subscribed to.
#[derive(Debug, Default, Clone)]
pub(super) struct Subscribed(Arc<Mutex<BTreeSet<String>>>);

impl Subscribed {
    pub(super) fn add(&self, uri: String) -> Result<(), Fault> {
        let mut uris = self.0.lock();
        if uris.len() >= limits::SUBSCRIPTIONS_MAX && !uris.contains(&uri) {
            let limit = limits::SUBSCRIPTIONS_MAX;
            return Err(Fault::Invalid(format!(
                "a session can listen to {limit} resources; unsubscribe from one first"
            )));
        }
        uris.insert(uri);
        Ok(())
    }

    pub(super) fn remove(&self, uri: &str) {
        self.0.lock().remove(uri);
    }

    fn has(&self, uri: &str) -> bool {
        self.0.lock().contains(uri)
    }

    fn all(&self) -> Vec<Change> {
        let uris = self.0.lock();
        uris.iter()
            .map(|uri| Change::Updated(uri.as_str().into()))
            .collect()
    }
}

/// Passes changes on to a session until it ends.
pub(super) async fn to_session(
    peer: Peer<RoleServer>,
    subscribed: Subscribed,
    mut changes: Receiver<Change>,
) {
    loop {
        let news = match next(&mut changes).await {
            News::Changed(Change::Updated(uri)) if !subscribed.has(&uri) => continue,
            News::Changed(change) => vec![change],
            News::Missed => lists().into_iter().chain(subscribed.all()).collect(),
            News::Over => return,
        };
        for change in news {
            if tell_session(&peer, change).await.is_err() {
                return;
            }
        }
    }
}

async fn tell_session(peer: &Peer<RoleServer>, change: Change) -> Result<(), ServiceError> {
    match change {
        Change::Tools => peer.notify_tool_list_changed().await,
        Change::Prompts => peer.notify_prompt_list_changed().await,
        Change::Resources => peer.notify_resource_list_changed().await,
        Change::Updated(uri) => {
            let note = ResourceUpdatedNotificationParam::new(uri.to_string());
            peer.notify_resource_updated(note).await
        }
    }
}

/// Passes changes on to a stream until its client, or the bus, ends it.
pub(super) async fn to_stream(
    stream: SubscriptionContext,
    mut changes: Receiver<Change>,
    stopping: CancellationToken,
) {
    loop {
        let news = tokio::select! {
            news = next(&mut changes) => news,
            () = stream.cancelled() => return,
            () = stopping.cancelled() => return,
        };
        let news = match news {
            News::Changed(change) => vec![change],
            News::Missed => everything(stream.accepted()),
            News::Over => return,
        };
        for change in news {
            match tell_stream(&stream, change).await {
                Ok(()) | Err(SubscriptionSendError::NotificationNotAccepted(_)) => {}
                Err(_) => return,
            }
        }
    }
}

async fn tell_stream(
    stream: &SubscriptionContext,
    change: Change,
) -> Result<(), SubscriptionSendError> {
    let sink = stream.sink();
    match change {
        Change::Tools => sink.notify_tool_list_changed().await,
        Change::Prompts => sink.notify_prompt_list_changed().await,
        Change::Resources => sink.notify_resource_list_changed().await,
        Change::Updated(uri) => sink.notify_resource_updated(uri.to_string()).await,
    }
}

enum News {
    Changed(Change),
    /// The listener was too slow; anything may have changed.
    Missed,
    Over,
}

async fn next(changes: &mut Receiver<Change>) -> News {
    match changes.recv().await {
        Ok(change) => News::Changed(change),
        Err(RecvError::Lagged(_)) => News::Missed,
        Err(RecvError::Closed) => News::Over,
    }
}

fn lists() -> Vec<Change> {
    vec![Change::Tools, Change::Prompts, Change::Resources]
}

fn everything(filter: &SubscriptionFilter) -> Vec<Change> {
    let uris = filter.resource_subscriptions.iter().flatten();
    let updated = uris.map(|uri| Change::Updated(uri.as_str().into()));
    lists().into_iter().chain(updated).collect()
}
