//! What a client may set on a session: whether tools ask first, and which model answers.
//!
//! The older form, modes, and the newer one, config options, show the same choice of asking; who
//! sets one sees it in the other.

use crate::sdk::serving;
use crate::sdk::serving::Error;
use crate::sdk::serving::schema::{
    SessionConfigOption, SessionConfigOptionCategory, SessionConfigOptionValue,
    SessionConfigSelectOption, SessionMode, SessionModeId, SessionModeState,
};

/// The option that stands for the mode.
const MODE: &str = "mode";

/// The option that names the model.
const MODEL: &str = "model";

/// The modes: their id, their name, and what they mean.
const MODES: [(&str, &str, &str); 2] = [
    ("ask", "Ask", "Asks before a tool runs."),
    ("allow", "Allow", "Runs every tool without asking."),
];

/// What is set on one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    /// An index into [`MODES`].
    mode: usize,
    /// The models to choose from; none for an engine without.
    models: Vec<String>,
    model: usize,
}

impl Settings {
    /// Begins with the first mode and the first model.
    pub(super) fn new(models: &[String]) -> Self {
        Self {
            mode: 0,
            models: models.to_vec(),
            model: 0,
        }
    }

    pub(super) fn allows_all(&self) -> bool {
        MODES[self.mode].0 == "allow"
    }

    pub(super) fn model(&self) -> &str {
        self.models.get(self.model).map_or("", String::as_str)
    }

    pub(super) fn mode(&self) -> SessionModeId {
        SessionModeId::new(MODES[self.mode].0)
    }

    /// Returns the modes for a client.
    pub(super) fn modes(&self) -> SessionModeState {
        let modes =
            MODES.map(|(id, name, what)| SessionMode::new(id, name).description(what.to_owned()));
        SessionModeState::new(self.mode(), modes.to_vec())
    }

    /// Returns every option for a client.
    pub(super) fn options(&self) -> Vec<SessionConfigOption> {
        let modes = MODES.map(|(id, name, what)| {
            SessionConfigSelectOption::new(id, name).description(what.to_owned())
        });
        let mode = SessionConfigOption::select(MODE, "Tools", MODES[self.mode].0, modes.to_vec())
            .category(SessionConfigOptionCategory::Mode);
        let mut options = vec![mode];
        if !self.models.is_empty() {
            let models = self.models.iter();
            let models =
                models.map(|name| SessionConfigSelectOption::new(name.clone(), name.clone()));
            let model = self.model().to_owned();
            let model =
                SessionConfigOption::select(MODEL, "Model", model, models.collect::<Vec<_>>())
                    .category(SessionConfigOptionCategory::Model);
            options.push(model);
        }
        options
    }

    /// Sets the mode.
    pub(super) fn set_mode(&mut self, wanted: &str) -> Result<(), Error> {
        let found = MODES.iter().position(|(id, ..)| *id == wanted);
        self.mode = found.ok_or_else(|| unknown("mode", wanted, MODES.map(|(id, ..)| id)))?;
        Ok(())
    }

    /// Sets an option.
    pub(super) fn set_option(
        &mut self,
        option: &str,
        value: &SessionConfigOptionValue,
    ) -> Result<(), Error> {
        let wanted = value.as_value_id().map_or("", |id| &id.0);
        match option {
            MODE => self.set_mode(wanted),
            MODEL if !self.models.is_empty() => {
                let found = self.models.iter().position(|name| name == wanted);
                let names = self.models.iter().map(String::as_str);
                self.model = found.ok_or_else(|| unknown("model", wanted, names))?;
                Ok(())
            }
            _ => Err(unknown("option", option, [MODE, MODEL])),
        }
    }
}

fn unknown<'a>(what: &str, wanted: &str, there: impl IntoIterator<Item = &'a str>) -> Error {
    let there = there.into_iter().collect::<Vec<_>>().join(", ");
    serving::invalid(format!(
        "there is no {what} `{wanted}`; choose one of: {there}"
    ))
}
