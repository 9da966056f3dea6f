//! `agentbus worker acp`: an ACP agent on standard input and output.

use std::str::FromStr;

use agentbus_acp::worker::{self, EngineOptions, OpenAi, Options};

use super::{set, state_directory, stopped_by_signal};
use crate::args::{AcpWorker, Engine};
use crate::failure::{Exit, Failure};
use crate::log::Log;
use crate::output::Output;

/// Tokens that a model can look at, unless said otherwise: those of the default one.
const CONTEXT_TOKENS: u64 = 128_000;

/// Serves until the input ends or a signal asks to stop; both are a success.
pub(super) async fn serve(args: AcpWorker, output: &Output) -> Result<(), Failure> {
    let _log = Log::start(&args.log, output)?;
    let options = Options {
        engine: engine(args.engine)?,
        data_directory: match args.data_dir {
            Some(directory) => directory,
            None => state_directory("worker")?,
        },
    };
    let stop = stopped_by_signal();
    let served = worker::serve(options, tokio::io::stdin(), tokio::io::stdout(), stop).await;
    served.map_err(|error| Failure::unexpected(error.to_string()))
}

fn engine(engine: Engine) -> Result<EngineOptions, Failure> {
    Ok(match engine {
        Engine::Echo => EngineOptions::Echo,
        Engine::OpenAi => EngineOptions::OpenAi(model()?),
    })
}

/// Reads where the model is from the variables that every tool of its kind reads.
fn model() -> Result<OpenAi, Failure> {
    let models = set("OPENAI_MODEL").unwrap_or_else(|| "gpt-4o".to_owned());
    let models = models
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    Ok(OpenAi {
        base_url: set("OPENAI_BASE_URL").unwrap_or_else(|| "https://api.openai.com/v1".to_owned()),
        api_key: set("OPENAI_API_KEY").unwrap_or_default(),
        models: models.map(str::to_owned).collect(),
        system_prompt: set("OPENAI_SYSTEM_PROMPT"),
        max_tokens: number("OPENAI_MAX_TOKENS")?,
        temperature: number("OPENAI_TEMPERATURE")?,
        context_tokens: number("OPENAI_CONTEXT_TOKENS")?.unwrap_or(CONTEXT_TOKENS),
    })
}

fn number<T: FromStr>(name: &str) -> Result<Option<T>, Failure> {
    let parsed = set(name).map(|text| {
        let wrong = format!("{name} is `{text}`, which is no number that fits");
        text.parse()
            .map_err(|_| Failure::new(Exit::Configuration, wrong))
    });
    parsed.transpose()
}
