//! Which agent serves a session, as an option that editors show.

use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Editors, Visit, elsewhere, refusal};
use crate::client::Offer;
use crate::limits::CHOICES_SHOWN;
use crate::log::EditorSession;
use crate::sdk::serving::Error;

/// The id of the option.
pub(super) const AGENT: &str = "agentbus.agent";

/// Names the targets that others serve.
#[derive(Clone)]
pub struct Targets(Arc<dyn Fn() -> Vec<String> + Send + Sync>);

impl Targets {
    /// Calls this whenever an editor is shown what there is. It must not block.
    pub fn new(list: impl Fn() -> Vec<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(list))
    }
}

impl fmt::Debug for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Targets")
    }
}

/// What one connection may choose from. Cloning gives another handle.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    editors: Editors,
    /// The one that serves every session.
    only: Option<String>,
    targets: Targets,
    tenant: Option<String>,
}

impl Choice {
    pub(super) fn new(editors: Editors, visit: Visit) -> Self {
        let only = visit.agent;
        let only = only.map(|only| elsewhere::name(&only, visit.tenant.as_deref()));
        Self {
            editors,
            only,
            targets: visit.targets,
            tenant: visit.tenant,
        }
    }

    /// The agents that the bus drives, which are in its own tenant, then what others serve.
    fn names(&self) -> Vec<String> {
        let agents = self.editors.0.agents.iter();
        let mut names: Vec<String> = agents
            .filter(|_| self.tenant.is_none())
            .flat_map(|agents| agents.names().map(str::to_owned))
            .collect();
        let mut others = (self.targets.0)();
        others.sort();
        others.dedup();
        let others = others
            .iter()
            .filter(|other| !other.starts_with("agentbus."))
            .map(|other| elsewhere::name(other, self.tenant.as_deref()))
            .filter(|other| !names.contains(other));
        let others: Vec<String> = others.collect();
        names.extend(others);
        names
    }

    /// Who serves a new session.
    pub(super) fn first(&self) -> Result<String, Error> {
        match &self.only {
            Some(only) => self.check(only).map(|()| only.clone()),
            None => self.names().into_iter().next().ok_or_else(refusal::nobody),
        }
    }

    /// Whether a session can be served by it.
    pub(super) fn check(&self, name: &str) -> Result<(), Error> {
        let names = self.names();
        match names.iter().any(|it| it == name) {
            true => Ok(()),
            false => Err(refusal::no_agent(name, &names)),
        }
    }

    pub(super) const fn is_offered(&self) -> bool {
        self.only.is_none()
    }

    /// Whether a session belongs to what this connection is for.
    pub(super) fn covers(&self, session: &EditorSession) -> bool {
        let only = self.only.as_ref();
        only.is_none_or(|only| *only == session.key.agent)
    }

    /// All options of a session: the agent's own, and who serves it.
    pub(super) fn options(&self, session: &EditorSession, offer: &Offer) -> Option<Vec<Value>> {
        if !self.is_offered() {
            return offer.options.clone();
        }
        let mut options = offer.options.clone().unwrap_or_default();
        options.push(self.option(&session.key.agent, session.title.is_some()));
        Some(options)
    }

    /// Adds the choice to an update that tells all options of the agent; `None` if there is nothing
    /// to add.
    pub(super) fn complete(&self, update: &str, agent: &str, begun: bool) -> Option<String> {
        if !self.is_offered() || !update.contains("config_option_update") {
            return None;
        }
        let mut update: Value = serde_json::from_str(update).ok()?;
        let options = update.get_mut("configOptions")?.as_array_mut()?;
        options.push(self.option(agent, begun));
        Some(update.to_string())
    }

    /// Once something was said, the session stays where it is: another agent has not heard it.
    fn option(&self, current: &str, begun: bool) -> Value {
        let mut names = self.names();
        if begun {
            names.retain(|name| name == current);
        }
        names.truncate(CHOICES_SHOWN);
        if names.iter().all(|name| name != current) {
            names.insert(0, current.to_owned());
        }
        let options: Vec<Value> = names
            .iter()
            .map(|name| json!({ "value": name, "name": name }))
            .collect();
        json!({ "id": AGENT, "name": "Agent", "type": "select", "currentValue": current,
            "description": "Who serves this session; it stays so once something was said.",
            "options": options })
    }
}
