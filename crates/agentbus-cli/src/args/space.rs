//! Under which subjects a command speaks and listens.
//!
//! What is left open is that of the bus it talks to; over a transport without one, no tenant and
//! `acp.v1`. A name that can be no part of a subject is refused as the command line is read, before
//! anything is opened.

use agentbus::Builder;
use agentbus::protocol::{SubjectError, SubjectSpace};
use agentbus_server::quoted;

use crate::config::{Prefix, Subjects};
use crate::failure::Failure;

#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Space {
    /// The tenant to speak and to listen in.
    #[arg(long, env = "AGENTBUS_TENANT", value_name = "NAME", value_parser = tenant)]
    tenant: Option<String>,
    /// What all subjects begin with, `acp.v1` unless the bus has another. A running bus takes only
    /// its own.
    #[arg(long, env = "AGENTBUS_SUBJECT_PREFIX", value_name = "PREFIX", value_parser = prefix)]
    subject_prefix: Option<String>,
}

impl Space {
    /// The tenant that was named. An empty name is none, as an empty header is over HTTP.
    pub(crate) fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref().filter(|name| !name.is_empty())
    }

    /// The prefix that was named.
    pub(crate) fn subject_prefix(&self) -> Option<&str> {
        self.subject_prefix.as_deref()
    }

    /// What was named, as flags with a blank before each: a command that a hint shows repeats them,
    /// so that it works as it is copied.
    pub(crate) fn flags(&self) -> String {
        let named = [
            ("--tenant", self.tenant()),
            ("--subject-prefix", self.subject_prefix()),
        ];
        let flags = named
            .into_iter()
            .filter_map(|(flag, name)| Some([" ", flag, " ", &quoted(name?)].concat()));
        flags.collect()
    }

    /// What was named, also an empty tenant, over what a file says, which is read only where it
    /// decides something.
    pub(super) fn over<'a>(
        &self,
        file: impl FnOnce() -> Result<Subjects<'a>, Failure>,
    ) -> Result<Subjects<'a>, Failure> {
        let mut subjects = match (&self.tenant, &self.subject_prefix) {
            (Some(_), Some(_)) => Subjects::default(),
            _ => file()?,
        };
        if let Some(tenant) = &self.tenant {
            subjects.tenant.clone_from(tenant);
        }
        if let Some(name) = self.subject_prefix.clone() {
            subjects.prefix = Some(Prefix { name, file: None });
        }
        Ok(subjects)
    }

    /// Lays what was named over the values of a file.
    pub(super) fn merge(self, tenant: &mut String, subject_prefix: &mut String) {
        if let Some(named) = self.tenant {
            *tenant = named;
        }
        if let Some(named) = self.subject_prefix {
            *subject_prefix = named;
        }
    }

    /// Sets a bus up to use what was named.
    pub(crate) fn of(&self, mut bus: Builder) -> Builder {
        if let Some(tenant) = self.tenant() {
            bus = bus.tenant(tenant);
        }
        if let Some(prefix) = self.subject_prefix() {
            bus = bus.subject_prefix(prefix);
        }
        bus
    }
}

fn tenant(text: &str) -> Result<String, SubjectError> {
    SubjectSpace::default().with_tenant(text)?;
    Ok(text.to_owned())
}

fn prefix(text: &str) -> Result<String, SubjectError> {
    SubjectSpace::new(text, "")?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_repeats_what_was_named_as_a_shell_reads_it() {
        let check = |tenant: Option<&str>, subject_prefix: Option<&str>, expect: &str| {
            let space = Space {
                tenant: tenant.map(str::to_owned),
                subject_prefix: subject_prefix.map(str::to_owned),
            };
            assert_eq!(space.flags(), expect);
        };
        check(None, None, "");
        check(Some(""), None, "");
        check(Some("acme"), None, " --tenant acme");
        let both = " --tenant acme --subject-prefix corp.bus";
        check(Some("acme"), Some("corp.bus"), both);
        check(Some("it's$x"), None, r" --tenant 'it'\''s$x'");
    }
}
