//! What all verbs that talk to a bus share.

use std::io::Read;

use agentbus::protocol::limits::ENVELOPE_BYTES_MAX;
use agentbus::{Bus, Payload};
use bytes::Bytes;

use crate::args::{Args, Space};
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

    pub(crate) async fn connect(&self, space: &Space) -> Result<Bus, Failure> {
        self.connect_as("cli", space).await
    }

    /// Refuses a bus that ends with this program to who would wait there for somebody else.
    pub(crate) fn others_must_reach(&self) -> Result<(), Failure> {
        if self.url != "memory://" {
            return Ok(());
        }
        Err(Failure::usage(
            "memory:// is a bus inside of this program, where nobody else can be; start one with `agentbus serve` and \
             leave --transport out, or name a transport that programs share",
        ))
    }

    /// Connects under a name that people recognise in the list of who serves what.
    pub(crate) async fn connect_as(&self, name: &str, space: &Space) -> Result<Bus, Failure> {
        let agent = format!("{name}-{}", std::process::id());
        let bus = space.of(Bus::builder(agent).transport(self.url.as_str()));
        Ok(self.telemetry.observe(bus).connect().await?)
    }
}

/// Reads standard input, and refuses more than whoever it is for would take.
pub(super) fn standard_input(limit: usize) -> Result<String, Failure> {
    let failed = |error| Failure::usage(format!("cannot read standard input: {error}"));
    let (mut text, one_more) = (String::new(), limit as u64 + 1);
    let mut input = std::io::stdin().lock().take(one_more);
    input.read_to_string(&mut text).map_err(failed)?;
    if text.len() > limit {
        let message = format!("standard input has more than the {limit} bytes that are taken");
        return Err(Failure::usage(message));
    }
    Ok(text)
}

/// Reads a payload argument: JSON, `-` for standard input, or none.
pub(crate) fn payload(argument: Option<&str>) -> Result<Option<Payload>, Failure> {
    let text = match argument {
        None => return Ok(None),
        Some("-") => standard_input(ENVELOPE_BYTES_MAX)?,
        Some(text) => text.to_owned(),
    };
    Payload::from_bytes(&Bytes::from(text)).map_err(|error| {
        let hint = "write text as '\"text\"' with both kinds of quotes";
        Failure::usage(format!("{error}; {hint}"))
    })
}
