//! Who is served under which name: every pool and every agent is a target of its own.

use std::collections::BTreeMap;
use std::path::Path;

use agentbus::Builder;
use agentbus::protocol::SubjectSpace;
use agentbus::protocol::subject::DEFAULT_PREFIX;
use agentbus_acp::AgentConfig;

use super::Config;
use crate::failure::{Exit, Failure};

/// Targets that begin like this are those of the bus itself.
const OWN: &str = "agentbus.";

impl Config {
    /// Checks what is served before anything is started for it.
    pub(crate) fn check_names(&self) -> Result<(), Failure> {
        self.check_subjects()?;
        let pools = self.pools()?.map(|config| config.pools);
        let pools = pools.iter().flatten().map(|pool| pool.id.as_str());
        let agents = self.agents.iter().map(|agent| agent.name.as_str());
        let places = |what: &'static str| move |(at, name)| (format!("{what}[{at}]"), name);
        let named = pools.enumerate().map(places("pools"));
        let mut known = BTreeMap::new();
        for (place, name) in named.chain(agents.enumerate().map(places("agents"))) {
            check_target(name).map_err(|why| failed(format!("{place} \"{name}\": {why}")))?;
            if let Some(first) = known.insert(name, place.clone()) {
                return Err(failed(format!(
                    "{first} and {place} have the name `{name}`, which is their target; give one of them another"
                )));
            }
        }
        self.agents.iter().try_for_each(|agent| {
            agent.check().map_err(|error| failed(error.to_string()))?;
            check_directories(agent).map_err(failed)
        })
    }

    /// Checks what stands in front of the names.
    pub(super) fn check_subjects(&self) -> Result<(), Failure> {
        let prefixed = SubjectSpace::new(&self.subject_prefix, "");
        let prefixed = prefixed.map_err(|why| failed(format!("subject_prefix: {why}")))?;
        let within = prefixed.with_tenant(&self.tenant);
        within.map_err(|why| failed(format!("tenant: {why}")))?;
        Ok(())
    }

    /// Sets a bus up to use the subjects of this configuration. What it leaves as it is, a bus that
    /// the transport may reach decides.
    pub(crate) fn within_subjects(&self, mut bus: Builder) -> Builder {
        if !self.tenant.is_empty() {
            bus = bus.tenant(self.tenant.as_str());
        }
        if self.subject_prefix != DEFAULT_PREFIX {
            bus = bus.subject_prefix(self.subject_prefix.as_str());
        }
        bus
    }
}

fn failed(message: String) -> Failure {
    Failure::new(Exit::Configuration, message)
}

/// Checks that a name can be that of a pool or an agent.
pub(crate) fn check_target(name: &str) -> Result<(), String> {
    if name.starts_with(OWN) {
        return Err(format!("names that begin with `{OWN}` are the bus's own"));
    }
    let subject = SubjectSpace::default().invoke(name);
    subject.map(drop).map_err(|error| error.to_string())
}

fn check_directories(agent: &AgentConfig) -> Result<(), String> {
    let named = [("root", &agent.root), ("cwd", &agent.cwd)];
    let missing = named
        .into_iter()
        .filter_map(|(key, path)| Some((key, path.as_deref()?)))
        .find(|(_, path)| !Path::is_dir(path));
    match missing {
        None => Ok(()),
        Some((key, path)) => Err(format!(
            "agents.{}: {key} {} is no directory; make it, or name another",
            agent.name,
            path.display()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, says: &str) {
        let config: Config = toml::from_str(text).unwrap();
        let failure = config.check_names().unwrap_err();
        assert_eq!(failure.exit, Exit::Configuration);
        assert!(failure.message.contains(says), "{}", failure.message);
    }

    #[test]
    fn a_name_is_a_target_and_is_given_once() {
        let pool = |name| format!("[[pools]]\nid = {name:?}\ncommand = \"cat\"\ninstances = 1\n");
        let agent = |name| format!("[[agents]]\nname = {name:?}\ncommand = [\"cat\"]\n");
        let fine: Config = toml::from_str(&(pool("a") + &pool("b") + &agent("c"))).unwrap();
        fine.check_names().unwrap();
        refused(
            &(pool("a") + &pool("a")),
            "pools[0] and pools[1] have the name `a`",
        );
        refused(
            &(agent("a") + &agent("a")),
            "agents[0] and agents[1] have the name `a`",
        );
        refused(
            &(pool("a") + &agent("a")),
            "pools[0] and agents[0] have the name `a`",
        );
        refused(&agent("my agent"), "agents[0] \"my agent\": ");
        refused(&pool("a..b"), "pools[0] \"a..b\": ");
        refused(&agent("agentbus.agents"), "the bus's own");
        refused(&pool("agentbus.pools"), "the bus's own");
        refused("tenant = \"a.b\"", "tenant: `a.b` cannot name a tenant");
        refused(
            "subject_prefix = \"a..b\"",
            "subject_prefix: the prefix `a..b` has an empty token",
        );
        refused(
            "subject_prefix = \"\"",
            "subject_prefix: the prefix is empty",
        );
        refused(
            "subject_prefix = \"_INBOX\"",
            "subject_prefix: `_INBOX` cannot be the prefix of a bus",
        );
        let rooted = agent("a") + "root = \"/no/such/place\"\n";
        refused(&rooted, "agents.a: root /no/such/place is no directory");
    }
}
