//! What all verbs that talk to a bus share.

use std::io::Read;

use agentbus::{Bus, Payload};
use bytes::Bytes;

use crate::args::Args;
use crate::failure::Failure;
use crate::output::Output;
use crate::telemetry::Telemetry;

/// Where the bus is and how to print.
pub(crate) struct Client {
    url: String,
    pub(crate) output: Output,
    telemetry: Telemetry,
}

impl Client {
    pub(crate) fn new(args: &Args, output: Output, telemetry: Telemetry) -> Self {
        Self {
            url: args.transport.as_ref().unwrap_or(&args.url).clone(),
            output,
            telemetry,
        }
    }

    pub(crate) async fn connect(&self) -> Result<Bus, Failure> {
        self.connect_as("cli").await
    }

    /// Connects under a name that people recognise in the list of who serves what.
    pub(crate) async fn connect_as(&self, name: &str) -> Result<Bus, Failure> {
        let agent = format!("{name}-{}", std::process::id());
        let bus = Bus::builder(agent).transport(self.url.as_str());
        Ok(self.telemetry.observe(bus).connect().await?)
    }
}

/// Reads a payload argument: JSON, `-` for standard input, or none.
pub(crate) fn payload(argument: Option<&str>) -> Result<Option<Payload>, Failure> {
    let text = match argument {
        None => return Ok(None),
        Some("-") => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(|error| Failure::usage(format!("cannot read standard input: {error}")))?;
            text
        }
        Some(text) => text.to_owned(),
    };
    Payload::from_bytes(&Bytes::from(text)).map_err(|error| {
        let hint = "write text as '\"text\"' with both kinds of quotes";
        Failure::usage(format!("{error}; {hint}"))
    })
}
