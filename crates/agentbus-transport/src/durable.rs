//! What a transport knows of a durable name.

/// A durable name, whether anybody uses it or not, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DurableInfo {
    /// The name.
    pub name: String,
    /// With whom its members share.
    pub group: Option<String>,
    /// What it listens on.
    pub pattern: String,
    /// Subscriptions that use the name now; `None` where the carrier does not know.
    pub members: Option<usize>,
    /// Messages that it has received and not settled.
    pub unsettled: usize,
    /// The newest message in the log that it has looked past.
    pub seen: u64,
    /// Messages in the log behind that one, whether they are for it or not; only those that are
    /// where the carrier knows which.
    pub behind: u64,
}
