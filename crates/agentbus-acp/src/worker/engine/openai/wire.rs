//! Requests and answers as the endpoint reads and writes them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::OpenAi;
use super::failure::Failure;
use crate::sdk::serving::schema::StopReason;
use crate::worker::limits::CALLS_MAX;
use crate::worker::mcp::Offer;

/// A request for an answer in pieces.
#[derive(Debug, Serialize)]
pub(super) struct Request<'a> {
    model: &'a str,
    messages: &'a [Value],
    stream: bool,
    stream_options: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Value>,
}

impl<'a> Request<'a> {
    pub(super) fn new(
        model: &'a str,
        messages: &'a [Value],
        offers: &[Offer],
        options: &OpenAi,
    ) -> Self {
        let tool = |offer: &Offer| {
            let tool = &offer.tool;
            let function = json!({
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.schema,
            });
            json!({ "type": "function", "function": function })
        };
        Self {
            model,
            messages,
            stream: true,
            stream_options: json!({ "include_usage": true }),
            max_tokens: options.max_tokens,
            temperature: options.temperature,
            tools: offers.iter().map(tool).collect(),
        }
    }
}

/// An answer, as far as it has come.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// The calls in the order of their first piece.
    pub(super) calls: Vec<Call>,
    pub(super) finish: Option<String>,
    /// Tokens that the conversation takes up.
    pub(super) used: Option<u64>,
    /// Where the pieces of a call belong, by the endpoint's own number.
    places: BTreeMap<u64, usize>,
    said: usize,
}

/// A tool that the model calls.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) name: String,
    /// JSON, once all pieces have come.
    pub(super) arguments: String,
}

/// What one event adds for the eyes of the client.
#[derive(Debug, Default)]
pub(super) struct Delta {
    pub(super) text: String,
    pub(super) thought: String,
}

#[derive(Debug, Deserialize)]
struct Event {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Piece,
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Piece {
    content: Option<String>,
    // Of the models that show what they think; two names are in use.
    #[serde(alias = "reasoning")]
    reasoning_content: Option<String>,
    tool_calls: Option<Vec<CallPiece>>,
}

#[derive(Debug, Deserialize)]
struct CallPiece {
    #[serde(default)]
    index: u64,
    function: Option<FunctionPiece>,
}

#[derive(Debug, Deserialize)]
struct FunctionPiece {
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Usage {
    total_tokens: Option<u64>,
}

impl Answer {
    /// Takes an event; returns what it adds. One that is no JSON is logged and passed over.
    pub(super) fn take(&mut self, event: &str) -> Result<Option<Delta>, Failure> {
        let event: Event = match serde_json::from_str(event) {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(%error, "the endpoint sent an event that is none");
                return Ok(None);
            }
        };
        if let Some(error) = event.error {
            let message = error["message"].as_str().map(str::to_owned);
            return Err(Failure::Refused(
                message.unwrap_or_else(|| error.to_string()),
            ));
        }
        if let Some(total) = event.usage.and_then(|usage| usage.total_tokens) {
            self.used = Some(total);
        }
        let Some(choice) = event.choices.into_iter().next() else {
            return Ok(None);
        };
        self.finish = choice.finish_reason.or(self.finish.take());
        for piece in choice.delta.tool_calls.into_iter().flatten() {
            self.add(piece)?;
        }
        let delta = Delta {
            text: choice.delta.content.unwrap_or_default(),
            thought: choice.delta.reasoning_content.unwrap_or_default(),
        };
        self.said += delta.text.len() + delta.thought.len();
        Ok(Some(delta))
    }

    fn add(&mut self, piece: CallPiece) -> Result<(), Failure> {
        let place = match self.places.get(&piece.index) {
            Some(place) => *place,
            None if self.calls.len() >= CALLS_MAX => return Err(Failure::TooLong),
            None => {
                self.places.insert(piece.index, self.calls.len());
                self.calls.push(Call::default());
                self.calls.len() - 1
            }
        };
        if let (Some(call), Some(function)) = (self.calls.get_mut(place), piece.function) {
            // Some endpoints send the name with each piece, none sends it in pieces.
            if call.name.is_empty() {
                call.name = function.name.unwrap_or_default();
            }
            call.arguments
                .push_str(&function.arguments.unwrap_or_default());
        }
        Ok(())
    }

    /// Returns how long it is so far.
    pub(super) fn bytes(&self) -> usize {
        let calls = self.calls.iter();
        self.said + calls.map(|call| call.arguments.len()).sum::<usize>()
    }

    /// Returns why the model stopped, in the words of the protocol.
    pub(super) fn stop_reason(&self) -> StopReason {
        match self.finish.as_deref() {
            Some("length") => StopReason::MaxTokens,
            Some("content_filter") => StopReason::Refusal,
            _ => StopReason::EndTurn,
        }
    }
}
