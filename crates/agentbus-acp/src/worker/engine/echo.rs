//! The engine without a mind: it says what it is told, block by block, and the same each time.
//!
//! Three commands, at the beginning of a text, let a client see the rest of the protocol:
//! `/tools` lists the tools, `/tool NAME {…}` runs one, `/wait SECONDS` takes its time.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::sdk::serving;
use crate::sdk::serving::Error;
use crate::sdk::serving::schema::{
    AvailableCommand, AvailableCommandInput, ContentBlock, StopReason, UnstructuredCommandInput,
};
use crate::worker::content::{text_of, words_of};
use crate::worker::limits::WAIT_MAX;
use crate::worker::turn::Turn;

/// The commands: their name, what they do, and what they take.
const COMMANDS: [(&str, &str, Option<&str>); 3] = [
    ("tools", "List the tools of this session", None),
    ("tool", "Run a tool", Some("NAME {\"argument\": \"value\"}")),
    ("wait", "Say nothing for a while", Some("SECONDS")),
];

/// Answers a prompt.
pub(super) async fn run(turn: &Turn<'_>, prompt: &[ContentBlock]) -> Result<StopReason, Error> {
    for block in prompt {
        match block {
            ContentBlock::Text(text) if text.text.starts_with('/') => {
                command(turn, &text.text).await?;
            }
            block => turn.text(text_of(block, turn.servers).await).await?,
        }
    }
    Ok(StopReason::EndTurn)
}

/// Returns the commands for a client.
pub(super) fn commands() -> Vec<AvailableCommand> {
    let command = |(name, what, takes): (&str, &str, Option<&str>)| {
        let input = takes
            .map(|hint| AvailableCommandInput::Unstructured(UnstructuredCommandInput::new(hint)));
        AvailableCommand::new(name, what).input(input)
    };
    COMMANDS.map(command).to_vec()
}

/// Does what a text says, if it is a command, and says it back otherwise.
async fn command(turn: &Turn<'_>, text: &str) -> Result<(), Error> {
    let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    match name {
        "/tools" => {
            let tools = turn.offers.iter();
            let lines =
                tools.map(|offer| format!("{}: {}", offer.tool.name, offer.tool.description));
            turn.text(lines.collect::<Vec<_>>().join("\n")).await
        }
        "/tool" => {
            let (tool, arguments) = rest.trim().split_once(' ').unwrap_or((rest.trim(), "{}"));
            let arguments: Map<String, Value> =
                serde_json::from_str(arguments).map_err(|error| {
                    serving::invalid(format!("the arguments are no JSON object: {error}"))
                })?;
            let said = turn.call(tool, arguments).await?;
            turn.text(words_of(&said)).await
        }
        "/wait" => {
            let seconds = rest
                .trim()
                .parse()
                .ok()
                .filter(|seconds: &f64| *seconds >= 0.0);
            let seconds = seconds.ok_or_else(|| {
                serving::invalid("`/wait` takes a number of seconds, such as 1.5")
            })?;
            let wait = Duration::try_from_secs_f64(seconds).unwrap_or(WAIT_MAX);
            tokio::time::sleep(wait.min(WAIT_MAX)).await;
            turn.text(format!("waited {seconds} s")).await
        }
        _ => turn.text(text).await,
    }
}
