//! What things are called on the server.

use agentbus_protocol::Pattern;

/// The names of one namespace.
///
/// A channel has the name of its subject, as AMB peers expect it. Channels know no database
/// number, so buses that share a server are kept apart by a namespace before every name.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    prefix: String,
    base: String,
}

impl Names {
    pub(crate) fn new(namespace: &str) -> Self {
        let prefix = if namespace.is_empty() {
            String::new()
        } else {
            format!("{namespace}:")
        };
        let base = format!("{prefix}agentbus:");
        Self { prefix, base }
    }

    /// What the names of all keys begin with.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn channel(&self, subject: &str) -> String {
        format!("{}{subject}", self.prefix)
    }

    /// The channel on which a client hears its replies.
    pub(crate) fn inbox(&self, client: &str) -> String {
        self.channel(&format!("_INBOX.{client}"))
    }

    /// The glob that the server compares with channels. It matches all that the pattern does and
    /// more, because its `*` does not stop at dots.
    pub(crate) fn glob(&self, pattern: &Pattern) -> String {
        let mut glob = String::with_capacity(pattern.as_str().len() + self.prefix.len());
        for character in self.prefix.chars().chain(pattern.as_str().chars()) {
            match character {
                '>' => glob.push('*'),
                '?' | '[' | ']' | '\\' | '^' => {
                    glob.push('\\');
                    glob.push(character);
                }
                other => glob.push(other),
            }
        }
        glob
    }

    pub(crate) fn key(&self, kind: &str, queue: &str) -> String {
        format!("{}{kind}:{queue}", self.base)
    }

    pub(crate) fn single(&self, kind: &str) -> String {
        format!("{}{kind}", self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_takes_brackets_for_what_they_are() {
        let pattern = Pattern::parse("a.*.b[1]?.>").unwrap();
        assert_eq!(Names::new("").glob(&pattern), r"a.*.b\[1\]\?.*");
        assert_eq!(Names::new("n").glob(&pattern), r"n:a.*.b\[1\]\?.*");
    }

    #[test]
    fn a_channel_is_the_subject() {
        assert_eq!(Names::new("").channel("order.paid"), "order.paid");
        assert_eq!(Names::new("").base(), "agentbus:");
        assert_eq!(Names::new("one").channel("order.paid"), "one:order.paid");
    }
}
