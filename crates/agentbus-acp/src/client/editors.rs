//! What the serving side asks of the agents themselves: to open a session before its first prompt,
//! and to set what may be set on it.

use agentbus::Error;
use serde_json::Value;

use super::session::{Offer, Setup};
use super::{AgentTargets, refusal};
use crate::company::Company;
use crate::sdk::driving::Fault;

/// What a client sets on a session.
#[derive(Debug)]
pub(crate) enum Change {
    Mode(String),
    /// An option, as the client wrote it.
    Option(Value),
}

/// Why it could not be set.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The agent said no.
    Agent(Fault),
    /// The agent could not be asked.
    Bus(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Bus(error)
    }
}

impl AgentTargets {
    /// The names of the agents.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.agents.keys().map(String::as_str)
    }

    /// Who is with their sessions.
    pub(crate) const fn company(&self) -> &Company {
        &self.company
    }

    /// Opens a session if it is not open, in the place that an editor names, and returns what may be
    /// set on it. One that is open stays as it is.
    pub(crate) async fn prepare(
        &self,
        agent: &str,
        session: &str,
        setup: Setup,
    ) -> Result<Offer, Error> {
        let agent = self.find(agent)?;
        let session = agent.session(session)?;
        session.set_up(setup);
        agent.ready(&session).await?;
        let offer = session.offer.lock().clone();
        Ok(offer)
    }

    /// Sets something on a session, also while a turn runs, and returns what is set then.
    pub(crate) async fn set(
        &self,
        agent: &str,
        session: &str,
        change: Change,
    ) -> Result<Offer, Refused> {
        let agent = self.find(agent)?;
        let session = agent.session(session)?;
        agent.ready(&session).await?;
        let at = session.open.lock().clone();
        let link = agent.link(at.as_ref(), session.setup().serves).await?;
        let Some(at) = at.filter(|at| at.epoch == link.epoch) else {
            return Err(refusal::not_open(&agent.config.name).into());
        };
        match change {
            Change::Mode(mode) => {
                let set = link.caller.set_mode(&at.id, &mode);
                agent.patiently(&link, set).await?.map_err(Refused::Agent)?;
                session.offer.lock().set_mode(&mode);
            }
            Change::Option(params) => {
                let set = link.caller.set_option(&at.id, params);
                let set = agent.patiently(&link, set).await?;
                session.offer.lock().options = Some(set.map_err(Refused::Agent)?);
            }
        }
        let offer = session.offer.lock().clone();
        Ok(offer)
    }

    /// What may be set on a session, as far as it was opened.
    pub(crate) fn set_on(&self, agent: &str, session: &str) -> Offer {
        let session = self.find(agent).and_then(|agent| agent.session(session));
        session.map_or_else(|_| Offer::default(), |session| session.offer.lock().clone())
    }

    /// Waits until no turn runs in a session.
    pub(crate) async fn settled(&self, agent: &str, session: &str) {
        if let Ok(agent) = self.find(agent)
            && let Ok(session) = agent.session(session)
        {
            session.settled().await;
        }
    }

    /// Has the agent forget a session, unless a turn of somebody else's runs in it.
    pub(crate) async fn close(&self, agent: &str, session: &str) {
        if let Ok(agent) = self.find(agent)
            && let Err(error) = agent.close_named(session).await
        {
            tracing::debug!(%error, "a session stays open");
        }
    }
}
