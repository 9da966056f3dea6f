//! Becoming a member of a queue.

use agentbus_protocol::Text;
use agentbus_transport::clock::millis;
use agentbus_transport::remote::token;
use agentbus_transport::{Capability, Start, Subscribe, TransportError, limits as common};
use redis::Value;

use crate::commands::{NAME, carrier};
use crate::desk::Desk;
use crate::limits;
use crate::routes::{Route, Routes};
use crate::scripts::{COPY, JOIN};

/// Which queue a subscription is a member of, and how.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) queue: String,
    pub(crate) consumer: String,
    pub(crate) route: Route,
    pub(crate) durable: Option<Text>,
    start: Start,
}

impl Plan {
    /// Plans the queue of a subscription: of its durable name, of its group, or of its own.
    pub(crate) fn new(
        request: &Subscribe,
        client: &str,
        number: u64,
    ) -> Result<Self, TransportError> {
        let queue = match (&request.durable, &request.group) {
            (Some(name), _) => {
                check_name(name)?;
                format!("d:{name}")
            }
            (None, Some(group)) => {
                check_group(group, request)?;
                format!("g:{group}:{}", request.pattern)
            }
            (None, None) => format!("a:{}", token()),
        };
        Ok(Self {
            queue,
            consumer: format!("{client}:{number}"),
            route: Route {
                pattern: request.pattern.to_string(),
                group: request.group.as_ref().map(ToString::to_string),
                copying: false,
            },
            durable: request.durable.clone(),
            start: request.start,
        })
    }

    /// The same plan once the past was read.
    pub(crate) fn again(&self) -> Self {
        Self {
            start: Start::New,
            ..self.clone()
        }
    }

    /// Joins; every later publish reaches the queue when this returns.
    pub(crate) async fn join(&self, desk: &Desk) -> Result<(), TransportError> {
        for _ in 0..limits::STALE_ROUTES {
            let routes = desk.reload().await?;
            self.check(&routes)?;
            let answer = self.ask(desk, &routes).await?;
            match answer {
                Value::Int(0) => return desk.reload().await.map(drop),
                Value::Int(_) => return self.copy(desk).await,
                Value::BulkString(word) if word == b"used" => return Err(self.in_use()),
                // Somebody else joined or left meanwhile.
                _ => {}
            }
        }
        Err(carrier(
            "the list of queues changed faster than it could be read",
        ))
    }

    async fn ask(&self, desk: &Desk, routes: &Routes) -> Result<Value, TransportError> {
        let (kind, from) = match self.start {
            Start::New => ("new", 0),
            Start::Beginning => ("sequence", 0),
            Start::Sequence(number) => ("sequence", number),
            Start::Time(time) => (
                "time",
                agentbus_protocol::Timestamp::from_system_time(time).unix_millis(),
            ),
        };
        let mut route = self.route.clone();
        route.copying = kind != "new";
        let exclusive = self.durable.is_some() && self.route.group.is_none();
        let fill = |cmd: &mut redis::Cmd| {
            cmd.arg(desk.names.base()).arg(&routes.version).arg(token());
            cmd.arg(&self.queue).arg(route.text()).arg(&self.consumer);
            cmd.arg(&desk.client).arg(millis(limits::CLIENT_LIFE));
            cmd.arg(u8::from(exclusive)).arg(kind).arg(from);
        };
        desk.commands.script(&JOIN, fill).await
    }

    /// Copies the past into the queue, piece by piece.
    async fn copy(&self, desk: &Desk) -> Result<(), TransportError> {
        loop {
            let fill = |cmd: &mut redis::Cmd| {
                cmd.arg(desk.names.base())
                    .arg(&self.queue)
                    .arg(&self.route.pattern);
                cmd.arg(limits::COPY_ENTRIES)
                    .arg(self.route.text())
                    .arg(token());
            };
            if desk.commands.script(&COPY, fill).await? == Value::Int(1) {
                return desk.reload().await.map(drop);
            }
        }
    }

    /// Refuses a use that would change what a queue is.
    fn check(&self, routes: &Routes) -> Result<(), TransportError> {
        let Some(name) = &self.durable else {
            return self.check_mixing(routes);
        };
        let Some(known) = routes.get(&self.queue) else {
            return Ok(());
        };
        let reason = if known.pattern != self.route.pattern {
            let pattern = &known.pattern;
            format!("listens on {pattern}; use that pattern, or another name")
        } else if known.group != self.route.group {
            match &known.group {
                Some(group) => {
                    format!("belongs to the group `{group}`; name it, or use another name")
                }
                None => "has no group; leave it out, or use another name".to_owned(),
            }
        } else {
            return Ok(());
        };
        Err(durable(name, reason))
    }

    fn check_mixing(&self, routes: &Routes) -> Result<(), TransportError> {
        match &self.route.group {
            Some(group) if routes.mixes(&self.queue, group, &self.route.pattern) => {
                Err(TransportError::Unsupported {
                    transport: NAME,
                    capability: Capability::MixedGroups,
                })
            }
            _ => Ok(()),
        }
    }

    fn in_use(&self) -> TransportError {
        let name = self.durable.as_deref().unwrap_or_default();
        let reason = "is in use; subscriptions that share one name need a group";
        durable(name, reason.to_owned())
    }
}

/// The error for a durable name that cannot be used like this.
pub(crate) fn durable(name: &str, reason: String) -> TransportError {
    TransportError::Durable {
        name: name.to_owned(),
        reason,
    }
}

fn check_name(name: &Text) -> Result<(), TransportError> {
    if (1..=common::DURABLE_NAME_BYTES_MAX).contains(&name.len()) {
        return Ok(());
    }
    let limit = common::DURABLE_NAME_BYTES_MAX;
    Err(durable(name, format!("needs a name of 1 to {limit} bytes")))
}

fn check_group(group: &Text, request: &Subscribe) -> Result<(), TransportError> {
    check_name(group)?;
    let lone =
        request.start != Start::New || request.lease.is_some() || request.max_attempts.is_some();
    if lone {
        let reason =
            "is a group only; members that share a replay or a lease need a durable name too";
        return Err(durable(group, reason.to_owned()));
    }
    Ok(())
}
