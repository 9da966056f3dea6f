//! What a thread is in when all its agents wait.
//!
//! | agents | administrator | scenario | said |
//! |---|---|---|---|
//! | one | it | A | a card: shall it go on alone? |
//! | several | one of them | B | a notice, and an instruction that wakes them |
//! | several | not among them | C | a notice, and a warning that nobody can act |
//! | one | another | D | a card: shall it become the administrator? |

use std::time::Duration;

use crate::AgentId;
use crate::model::{Agent, Assigned, ThreadSettings};

/// See the table of the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scenario {
    AdminAlone,
    AdminAmongOthers,
    AdminMissing,
    OneWithoutAdmin,
}

/// A thread in which all agents that matter wait.
#[derive(Debug)]
pub(super) struct Situation {
    pub(super) settings: ThreadSettings,
    /// Those who wait, sorted by the name they are shown by.
    pub(super) agents: Vec<Agent>,
    /// The administrator, as the registry and as the settings know it.
    pub(super) admin: Option<(Option<Agent>, Assigned)>,
    /// How long the last of them has waited.
    pub(super) waited: Duration,
}

impl Situation {
    pub(super) fn new(
        settings: ThreadSettings,
        mut agents: Vec<Agent>,
        admin: Option<(Option<Agent>, Assigned)>,
        waited: Duration,
    ) -> Self {
        agents.sort_by_cached_key(|agent| (agent.shown_name().to_lowercase(), agent.id.clone()));
        Self {
            settings,
            agents,
            admin,
            waited,
        }
    }

    pub(super) fn admin_id(&self) -> Option<&AgentId> {
        self.admin.as_ref().map(|(_, known)| &known.id)
    }

    /// The first who is not the administrator.
    pub(super) fn candidate(&self) -> Option<&Agent> {
        let admin = self.admin_id();
        let other = self.agents.iter().find(|agent| Some(&agent.id) != admin);
        other.or_else(|| self.agents.first())
    }

    /// Which scenario it is, once they have waited for long enough.
    pub(super) fn scenario(&self) -> Option<Scenario> {
        let admin = self.admin_id();
        let admin_waits = self.agents.iter().any(|agent| Some(&agent.id) == admin);
        let (scenario, threshold_s) = match (self.agents.len(), admin_waits) {
            (0, _) => return None,
            (1, true) => (Scenario::AdminAlone, self.settings.timeout_seconds),
            // Without an administrator there is nobody to be replaced.
            (1, false) if admin.is_none() => return None,
            (1, false) => (
                Scenario::OneWithoutAdmin,
                self.settings.switch_timeout_seconds,
            ),
            (_, true) => (Scenario::AdminAmongOthers, self.settings.timeout_seconds),
            (_, false) => (Scenario::AdminMissing, self.settings.timeout_seconds),
        };
        let threshold = Duration::from_secs(u64::try_from(threshold_s).unwrap_or(0));
        (self.waited >= threshold).then_some(scenario)
    }
}
