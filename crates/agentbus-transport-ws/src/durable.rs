//! A durable name on the wire.

use agentbus_transport::DurableInfo;
use serde::{Deserialize, Serialize};

/// A durable name of the bus and how far it has come, as in [`DurableInfo`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DurableName {
    /// The name.
    pub name: String,
    /// The subjects that it listens on.
    pub pattern: String,
    /// With whom its members share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Subscriptions that use it now; absent where the carrier does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<usize>,
    /// Messages that it has received and not settled.
    pub unsettled: usize,
    /// The newest message in the log that it has looked past.
    pub seen: u64,
    /// Messages in the log behind that one, whether they are for it or not.
    pub behind: u64,
}

impl From<DurableInfo> for DurableName {
    fn from(info: DurableInfo) -> Self {
        Self {
            name: info.name,
            pattern: info.pattern,
            group: info.group,
            members: info.members,
            unsettled: info.unsettled,
            seen: info.seen,
            behind: info.behind,
        }
    }
}

impl From<DurableName> for DurableInfo {
    fn from(told: DurableName) -> Self {
        Self {
            name: told.name,
            pattern: told.pattern,
            group: told.group,
            members: told.members,
            unsettled: told.unsettled,
            seen: told.seen,
            behind: told.behind,
        }
    }
}
