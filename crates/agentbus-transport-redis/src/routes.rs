//! Which queues a subject goes to.
//!
//! A publisher names the queues of its messages, and the server takes them only when its routes
//! are still those that the publisher looked at. So a lookup costs nothing, and yet every publish
//! reaches whoever had subscribed before it.

use std::collections::HashMap;
use std::sync::Arc;

use agentbus_protocol::Pattern;
use agentbus_transport::{TransportError, limits as common};
use foldhash::quality::RandomState;
use parking_lot::Mutex;
use redis::Value;
use serde::{Deserialize, Serialize};

use crate::commands::{Commands, Order, carrier};
use crate::limits;
use crate::names::Names;

/// What the server keeps of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Route {
    pub(crate) pattern: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// The past is still being copied; it takes no new messages yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) copying: bool,
}

impl Route {
    /// As the server keeps it.
    pub(crate) fn text(&self) -> String {
        // Text and a flag always have a JSON form.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Subjects whose queues were looked up.
type Known = HashMap<String, Arc<[Arc<str>]>, RandomState>;

/// The routes at one moment.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    /// Changes with every change; empty when there were never any.
    pub(crate) version: String,
    queues: Vec<(Arc<str>, Pattern, Route)>,
    known: Mutex<Known>,
}

impl Routes {
    /// Reads them from the server.
    pub(crate) async fn load(
        commands: &Commands,
        names: &Names,
    ) -> Result<Arc<Self>, TransportError> {
        let mut both = redis::pipe();
        both.atomic();
        both.cmd("GET").arg(names.single("version"));
        both.cmd("HGETALL").arg(names.single("routes"));
        let value = commands
            .patiently(Order::Many(both), limits::PUBLISH_TIMEOUT)
            .await?;
        Self::read(value).ok_or_else(|| carrier("the server's list of queues cannot be read"))
    }

    fn read(value: Value) -> Option<Arc<Self>> {
        let (version, routes): (Option<String>, HashMap<String, String>) =
            redis::from_redis_value(value).ok()?;
        let queues = routes.into_iter().filter_map(|(queue, text)| {
            let route: Route = serde_json::from_str(&text).ok()?;
            let pattern = Pattern::parse(&route.pattern).ok()?;
            Some((Arc::from(queue), pattern, route))
        });
        Some(Arc::new(Self {
            version: version.unwrap_or_default(),
            queues: queues.collect(),
            known: Mutex::default(),
        }))
    }

    /// The queues that a message of this subject goes to.
    pub(crate) fn of(&self, subject: &str) -> Arc<[Arc<str>]> {
        let mut known = self.known.lock();
        if let Some(queues) = known.get(subject) {
            return Arc::clone(queues);
        }
        let matching = self
            .queues
            .iter()
            .filter(|(_, pattern, route)| !route.copying && pattern.matches(subject));
        let queues: Arc<[_]> = matching.map(|(queue, ..)| Arc::clone(queue)).collect();
        if known.len() >= common::ROUTES_MAX {
            known.clear();
        }
        known.insert(subject.to_owned(), Arc::clone(&queues));
        queues
    }

    /// The queues of durable names.
    pub(crate) fn durable(&self) -> impl Iterator<Item = &str> {
        let queues = self.queues.iter().map(|(queue, ..)| &**queue);
        queues.filter(|queue| queue.starts_with("d:"))
    }

    /// The route of a queue.
    pub(crate) fn get(&self, queue: &str) -> Option<&Route> {
        let found = self.queues.iter().find(|(name, ..)| **name == *queue);
        found.map(|(.., route)| route)
    }

    /// Whether another queue of this group has a pattern that shares subjects with this one.
    pub(crate) fn mixes(&self, queue: &str, group: &str, pattern: &str) -> bool {
        self.queues.iter().any(|(name, _, route)| {
            !name.starts_with("d:")
                && **name != *queue
                && route.group.as_deref() == Some(group)
                && agentbus_protocol::overlap(&route.pattern, pattern)
        })
    }
}
