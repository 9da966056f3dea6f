//! What things are called at the broker.

use agentbus_protocol::Pattern;
use agentbus_transport::TransportError;

use crate::limits;

/// The names of one namespace.
///
/// The exchange has the name that AMB peers publish to. Buses that share a virtual host are kept
/// apart by a namespace before every name.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    prefix: String,
}

impl Names {
    pub(crate) fn new(namespace: &str) -> Self {
        let prefix = if namespace.is_empty() {
            String::new()
        } else {
            format!("{namespace}.")
        };
        Self { prefix }
    }

    /// The topic exchange to which everything is published.
    pub(crate) fn exchange(&self) -> String {
        format!("{}amb.topic", self.prefix)
    }

    /// The exchange of what durable names refused or could not read.
    pub(crate) fn dead(&self) -> String {
        format!("{}amb.dead", self.prefix)
    }

    /// The queue in which a client hears its replies.
    pub(crate) fn inbox(&self, client: &str) -> String {
        format!("{}_INBOX.{client}", self.prefix)
    }

    /// The queue of a plain subscription.
    pub(crate) fn plain(&self, client: &str, number: u64) -> String {
        format!("{}amb.queue.{client}.{number}", self.prefix)
    }

    /// The queue of a durable name.
    pub(crate) fn durable(&self, name: &str) -> Result<String, TransportError> {
        let queue = format!("{}agentbus.name.{name}", self.prefix);
        let refused = |reason| TransportError::Durable {
            name: name.to_owned(),
            reason,
        };
        // The lock of another name is called so.
        if name.ends_with(LOCK) {
            return Err(refused(format!(
                "ends with `{LOCK}`, as the locks of names do; use another name"
            )));
        }
        // The lock of the name is called almost the same.
        let limit = limits::NAME_BYTES_MAX - LOCK.len();
        if !name.is_empty() && queue.len() <= limit {
            return Ok(queue);
        }
        let most = limit - (queue.len() - name.len());
        Err(refused(format!("needs a name of 1 to {most} bytes")))
    }

    /// The queue by which the only user of a durable name shows that it is in use.
    pub(crate) fn lock(queue: &str) -> String {
        format!("{queue}{LOCK}")
    }

    /// The queue of the members of a group that listen on one pattern.
    pub(crate) fn group(&self, group: &str, pattern: &Pattern) -> Result<String, TransportError> {
        let queue = format!("{}agentbus.group.{group}.{pattern}", self.prefix);
        if !group.is_empty() && queue.len() <= limits::NAME_BYTES_MAX {
            return Ok(queue);
        }
        Err(TransportError::Address(format!(
            "the group `{group}` on {pattern} has no name or one that is too long for RabbitMQ, which takes {} bytes with all that stands around it",
            limits::NAME_BYTES_MAX
        )))
    }
}

/// What the name of a lock ends with.
const LOCK: &str = ".lock";

/// The key under which a pattern is bound: the exchange's `#` may stand for nothing, ours may not.
pub(crate) fn binding(pattern: &Pattern) -> Result<String, TransportError> {
    let key = match pattern.as_str().strip_suffix('>') {
        Some(head) => format!("{head}*.#"),
        None => pattern.to_string(),
    };
    check_key(key)
}

/// Refuses a subject that is longer than a routing key can be.
pub(crate) fn check_key(key: String) -> Result<String, TransportError> {
    if key.len() <= limits::NAME_BYTES_MAX {
        return Ok(key);
    }
    Err(TransportError::Address(format!(
        "the subject has {} bytes; RabbitMQ routes by at most {}",
        key.len(),
        limits::NAME_BYTES_MAX
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_are_those_of_the_exchange() {
        for (pattern, expected) in [
            ("order.paid", "order.paid"),
            ("order.*", "order.*"),
            ("order.*.>", "order.*.*.#"),
            (">", "*.#"),
        ] {
            assert_eq!(
                binding(&Pattern::parse(pattern).unwrap()).unwrap(),
                expected
            );
        }
    }

    #[test]
    fn the_exchange_is_the_one_of_amb_peers() {
        assert_eq!(Names::new("").exchange(), "amb.topic");
        assert_eq!(Names::new("one").exchange(), "one.amb.topic");
    }

    #[test]
    fn names_that_the_protocol_cannot_hold_are_refused() {
        let names = Names::new("");
        assert!(names.durable("").is_err());
        assert!(names.durable(&"n".repeat(300)).is_err());
        // Its queue would be the lock of `billing`.
        assert!(names.durable("billing.lock").is_err());
        let wide = Pattern::parse(&"p".repeat(250)).unwrap();
        assert!(names.group("group", &wide).is_err());
        assert!(check_key("k".repeat(255)).is_ok() && check_key("k".repeat(256)).is_err());
    }
}
