//! What an editor sets on a session: what its agent offers, and which agent that is.

use serde_json::{Value, json};

use super::attached::Attached;
use super::door::Door;
use super::opening::Opened;
use super::{choice, refusal};
use crate::client::{Change, Offer};
use crate::sdk::serving::schema::{
    AgentResponse, SessionConfigOption, SetSessionConfigOptionRequest,
    SetSessionConfigOptionResponse, SetSessionModeRequest, SetSessionModeResponse,
};
use crate::sdk::serving::{Answer, Client, Error, Reply};

impl Door {
    pub(super) async fn set_mode(&self, request: &SetSessionModeRequest) -> Answer {
        let attached = self.attached(&request.session_id.0)?;
        let mode = request.mode_id.0.to_string();
        self.change(&attached, Change::Mode(mode.clone())).await?;
        let update = json!({ "sessionUpdate": "current_mode_update", "currentModeId": mode });
        self.tell_others(&attached, &update);
        Ok(AgentResponse::SetSessionModeResponse(
            SetSessionModeResponse::new(),
        ))
    }

    pub(super) async fn set_option(
        &self,
        request: SetSessionConfigOptionRequest,
        client: Client,
    ) -> Reply {
        if *request.config_id.0 == *choice::AGENT && self.0.choice.is_offered() {
            return self.choose(request, client).await;
        }
        let set = async {
            let attached = self.attached(&request.session_id.0)?;
            let params = serde_json::to_value(&request).unwrap_or_default();
            let offer = self.change(&attached, Change::Option(params)).await?;
            let options = self.0.choice.options(&attached.session(), &offer);
            let options = options.unwrap_or_default();
            let update = json!({ "sessionUpdate": "config_option_update",
                "configOptions": options });
            self.tell_others(&attached, &update);
            Ok(options_are(&options))
        };
        set.await.into()
    }

    async fn change(&self, attached: &Attached, change: Change) -> Result<Offer, Error> {
        let key = attached.seat.key();
        let agents = self.0.editors.driving(&key.agent);
        let agents = agents.ok_or_else(|| refusal::no_modes(&key.agent))?;
        let set = agents.set(&key.agent, &key.session, change).await;
        set.map_err(refusal::of_change)
    }

    /// Tells the other editors of a session what this one has set.
    fn tell_others(&self, attached: &Attached, update: &Value) {
        let editors = &self.0.editors.0;
        let own = attached.seat.number();
        for guest in editors.company.guests(attached.seat.key()) {
            if guest.number() != own {
                let update = update.clone();
                editors
                    .turns
                    .spawn(async move { guest.tell(&update).await });
            }
        }
    }

    /// Gives a session in which nothing was said yet to another agent.
    async fn choose(&self, request: SetSessionConfigOptionRequest, client: Client) -> Reply {
        let moved = self.move_to(&request, client).await;
        match moved {
            Ok(None) => self.unchanged(&request).into(),
            Ok(Some(opened)) => {
                let options = opened.options(&self.0.choice).unwrap_or_default();
                opened.introduced(Ok(options_are(&options)))
            }
            Err(error) => Err(error).into(),
        }
    }

    /// Opens the session anew; `None` if it is where it was to go.
    async fn move_to(
        &self,
        request: &SetSessionConfigOptionRequest,
        client: Client,
    ) -> Result<Option<Opened>, Error> {
        let attached = self.attached(&request.session_id.0)?;
        // Another editor may have begun it.
        let mut session = self.find(&request.session_id.0).await?;
        let wanted = request.value.as_value_id();
        let wanted = wanted.map_or_else(String::new, |id| id.0.to_string());
        if wanted == session.key.agent {
            return Ok(None);
        }
        self.0.choice.check(&wanted)?;
        if session.title.is_some() || !attached.line.is_empty() {
            return Err(refusal::begun());
        }
        if attached.seat.is_shared() {
            return Err(refusal::shared());
        }
        let editors = &self.0.editors;
        if let Some(agents) = editors.driving(&session.key.agent) {
            agents.close(&session.key.agent, &session.key.session).await;
        }
        // What the other agent told of itself is not of this one.
        let forgotten = editors.0.log.forget(&session).await;
        forgotten.map_err(|error| refusal::of_log(&error))?;
        session.key.agent = wanted;
        self.keep(&session).await?;
        let setup = attached.setup.clone();
        drop(attached);
        self.open(session, setup, 0, client).await.map(Some)
    }

    /// The options of a session as they are.
    fn unchanged(&self, request: &SetSessionConfigOptionRequest) -> Answer {
        let session = self.attached(&request.session_id.0)?.session();
        let offer = match self.0.editors.driving(&session.key.agent) {
            Some(agents) => agents.set_on(&session.key.agent, &session.key.session),
            None => Offer::default(),
        };
        let options = self.0.choice.options(&session, &offer).unwrap_or_default();
        Ok(options_are(&options))
    }
}

fn options_are(options: &[Value]) -> AgentResponse {
    let options = options.iter().cloned();
    // What the protocol does not know is left out.
    let known = options.filter_map(|option| serde_json::from_value(option).ok());
    let known: Vec<SessionConfigOption> = known.collect();
    AgentResponse::SetSessionConfigOptionResponse(SetSessionConfigOptionResponse::new(known))
}
