//! The engine with a model behind it: any endpoint that speaks OpenAI's chat completions.
//!
//! A turn is a loop: the history is sent, the answer streams to the client, and if it calls tools
//! they run, with permission, and their results go back with the next request. What the model is
//! told is read from the session's history each time, so a session that was loaded goes on where it
//! stopped.
//!
//! The surprising invariant: **a refusal of the endpoint is an error of the prompt**, never a
//! message in the model's voice. Who waits learns whether to log in, to wait or to try again.

mod chat;
mod decode;
mod failure;
mod wire;

use std::fmt;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use serde_json::{Map, Value};
use tokio::time::timeout;

use self::decode::Decoder;
use self::failure::Failure;
use self::wire::{Answer, Request};
use crate::sdk::serving::Error;
use crate::sdk::serving::schema::{SessionUpdate, StopReason, UsageUpdate};
use crate::worker::content::failure as failed_call;
use crate::worker::limits::{
    ANSWER_BYTES_MAX, RETRIES_MAX, RETRY_WAIT_MAX, ROUNDS_MAX, SILENCE_MAX,
};
use crate::worker::turn::Turn;
use crate::worker::web;

/// Where the model is, and how it is asked.
#[derive(Clone)]
pub struct OpenAi {
    /// The root of the interface, such as `https://api.openai.com/v1`.
    pub base_url: String,
    /// What the endpoint wants to see, or nothing.
    pub api_key: String,
    /// The models to choose from; the first one answers unless the client chose.
    pub models: Vec<String>,
    /// What the model is told before everything else.
    pub system_prompt: Option<String>,
    /// Longest answer, in tokens.
    pub max_tokens: Option<u32>,
    /// How freely it answers.
    pub temperature: Option<f64>,
    /// How many tokens the model can look at, shown to the client beside what was used.
    pub context_tokens: u64,
}

impl fmt::Debug for OpenAi {
    // The key is a secret, and Debug output ends up in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAi")
            .field("base_url", &self.base_url)
            .field("models", &self.models)
            .finish_non_exhaustive()
    }
}

/// The engine: its options and its connections.
#[derive(Debug)]
pub(in crate::worker) struct Model {
    pub(super) options: OpenAi,
    client: reqwest::Client,
}

impl Model {
    pub(in crate::worker) fn new(options: OpenAi) -> Result<Self, String> {
        let client = web::client()?;
        Ok(Self { options, client })
    }

    /// Answers a prompt, in as many rounds as its tools need.
    pub(super) async fn run(&self, turn: &Turn<'_>) -> Result<StopReason, Error> {
        for _ in 0..ROUNDS_MAX {
            let answer = self.ask(turn).await?;
            if answer.calls.is_empty() {
                return Ok(answer.stop_reason());
            }
            for call in answer.calls {
                let arguments = match call.arguments.trim() {
                    "" => Ok(Map::new()),
                    text => serde_json::from_str::<Map<String, Value>>(text),
                };
                match arguments {
                    Ok(arguments) => turn.call(&call.name, arguments).await?,
                    Err(error) => {
                        let said = format!("the arguments are no JSON object: {error}");
                        turn.refuse(&call.name, failed_call(said)).await?
                    }
                };
            }
        }
        Ok(StopReason::MaxTurnRequests)
    }

    /// Asks once, and says what comes while it comes.
    async fn ask(&self, turn: &Turn<'_>) -> Result<Answer, Failure> {
        let model = turn.model();
        let messages = chat::messages(self.options.system_prompt.as_deref(), &turn.updates());
        let request = Request::new(&model, &messages, &turn.offers, &self.options);
        let response = self.send(&request).await?;
        let mut answer = Answer::default();
        let mut bytes = Box::pin(response.bytes_stream());
        let mut decoder = Decoder::default();
        while let Some(piece) = next(&mut bytes).await? {
            for event in decoder.push(&piece) {
                if event == "[DONE]" {
                    return self.done(turn, answer).await;
                }
                let Some(delta) = answer.take(&event)? else {
                    continue;
                };
                if answer.bytes() > ANSWER_BYTES_MAX {
                    return Err(Failure::TooLong);
                }
                if !delta.thought.is_empty() {
                    turn.think(delta.thought).await?;
                }
                if !delta.text.is_empty() {
                    turn.text(delta.text).await?;
                }
            }
            if decoder.held() > ANSWER_BYTES_MAX {
                return Err(Failure::TooLong);
            }
        }
        // Some servers hang up instead of saying that they are done; a finish reason says it too.
        if answer.finish.is_none() {
            return Err(Failure::HungUp);
        }
        self.done(turn, answer).await
    }

    async fn done(&self, turn: &Turn<'_>, answer: Answer) -> Result<Answer, Failure> {
        if let Some(used) = answer.used {
            let usage = UsageUpdate::new(used, self.options.context_tokens);
            turn.mention(SessionUpdate::UsageUpdate(usage)).await?;
        }
        Ok(answer)
    }

    /// Sends a request, again after a pause if the endpoint asks for one that is short enough.
    async fn send(&self, request: &Request<'_>) -> Result<reqwest::Response, Failure> {
        let url = format!(
            "{}/chat/completions",
            self.options.base_url.trim_end_matches('/')
        );
        let mut retries = 0;
        loop {
            let mut post = self.client.post(&url).json(request);
            if !self.options.api_key.is_empty() {
                post = post.bearer_auth(&self.options.api_key);
            }
            let answered = timeout(SILENCE_MAX, post.send()).await;
            let response = answered.map_err(|_| Failure::Silent)??;
            if response.status().is_success() {
                return Ok(response);
            }
            let failure = Failure::of_response(response).await;
            match failure.retry_after() {
                Some(pause) if pause <= RETRY_WAIT_MAX && retries < RETRIES_MAX => {
                    retries += 1;
                    tracing::info!(seconds = pause.as_secs(), "the endpoint asked for a pause");
                    tokio::time::sleep(pause.max(Duration::from_millis(1))).await;
                }
                _ => return Err(failure),
            }
        }
    }
}

/// Reads the next piece of an answer; the end is none.
async fn next<B>(
    bytes: &mut (impl Stream<Item = reqwest::Result<B>> + Unpin),
) -> Result<Option<B>, Failure> {
    let piece = timeout(SILENCE_MAX, bytes.next()).await;
    let piece = piece.map_err(|_| Failure::Silent)?;
    // An answer that breaks off is not a server that cannot be reached.
    piece.transpose().map_err(|_| Failure::HungUp)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_falls_silent_is_given_up_and_named() {
        let mut silent = futures_util::stream::pending::<reqwest::Result<Vec<u8>>>();
        let error = next(&mut silent).await.unwrap_err();
        assert!(matches!(error, Failure::Silent), "{error}");

        // The system accepts the connection, and nobody ever reads the request.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let model = Model::new(OpenAi {
            base_url: format!("http://{}", listener.local_addr().unwrap()),
            api_key: String::new(),
            models: Vec::new(),
            system_prompt: None,
            max_tokens: None,
            temperature: None,
            context_tokens: 1,
        });
        let model = model.unwrap();
        let request = Request::new("m", &[], &[], &model.options);
        let error = model.send(&request).await.unwrap_err();
        assert!(matches!(error, Failure::Silent), "{error}");
        assert!(
            error.to_string().contains("said nothing for 180 s"),
            "{error}"
        );
    }
}
