//! What answers a prompt.

mod echo;
mod openai;

pub(super) use openai::Model;
pub use openai::OpenAi;

use super::turn::Turn;
use crate::sdk::serving::Error;
use crate::sdk::serving::schema::{AvailableCommand, ContentBlock, StopReason};

/// The engine of a worker.
#[derive(Debug)]
pub(super) enum Engine {
    /// Says what it is told.
    Echo,
    /// Asks a model.
    OpenAi(Model),
}

impl Engine {
    /// Answers a prompt. Dropping the future is how a turn is cancelled.
    pub(super) async fn run(
        &self,
        turn: &Turn<'_>,
        prompt: &[ContentBlock],
    ) -> Result<StopReason, Error> {
        match self {
            Self::Echo => echo::run(turn, prompt).await,
            Self::OpenAi(model) => model.run(turn).await,
        }
    }

    /// Returns the models to choose from.
    pub(super) fn models(&self) -> &[String] {
        match self {
            Self::Echo => &[],
            Self::OpenAi(model) => &model.options.models,
        }
    }

    /// Whether it makes sense of images.
    pub(super) fn sees(&self) -> bool {
        match self {
            Self::Echo => false,
            Self::OpenAi(_) => true,
        }
    }

    /// Returns the commands that a person can type.
    pub(super) fn commands(&self) -> Vec<AvailableCommand> {
        match self {
            Self::Echo => echo::commands(),
            Self::OpenAi(_) => Vec::new(),
        }
    }
}
