//! `agentbus handle`: any program becomes an agent.
//!
//! The program is started anew for each request. Its environment is ours, without the token, with
//! a few `AGENTBUS_…` variables that describe the request.

use std::ffi::OsString;

use agentbus::{Error, ErrorCode, ErrorPayload, Payload, Reply, Request, StreamWriter};
use agentbus_process::{Exit, Process, Program};
use agentbus_transport_ws::credentials::TOKEN_VARIABLE;
use bytes::Bytes;
use serde_json::json;

use super::client::Client;
use crate::args::Handle;
use crate::failure::{Exit as ExitCode, Failure};

pub(crate) async fn handle(client: &Client, args: Handle) -> Result<(), Failure> {
    let program = Program::from_argv(&args.command)
        .ok_or_else(|| Failure::usage("name the program to run after `--`"))?;
    let program = program
        .without_variable(TOKEN_VARIABLE)
        .variable("AGENTBUS_TARGET", &args.target);
    let bus = client.connect().await?;
    let mut served = if args.stream {
        let run = move |request, out| stream(program.clone(), request, out);
        bus.handle_stream(args.target.as_str(), run)
    } else {
        let run = move |request| reply(program.clone(), request);
        bus.handle(args.target.as_str(), run)
    }
    .concurrency(args.concurrency);
    if let Some(group) = args.queue {
        served = served.queue(group);
    }
    let registration = served.await?;
    client.output.note(&format!("serving {}", args.target));
    tokio::select! {
        () = super::serve::asked_to_stop() => {
            bus.shutdown().await;
            Ok(())
        }
        () = registration.ended() => {
            Err(Failure::new(ExitCode::Unreachable, "the bus hung up; is it still running?"))
        }
    }
}

async fn reply(program: Program, request: Request) -> Result<Reply, Error> {
    let (output, exit) = start(program, &request)?
        .run(input(&request))
        .await
        .map_err(|error| Error::agent(error.to_string()))?;
    check(&exit)?;
    Ok(Reply::from(said(&output)?))
}

async fn stream(program: Program, request: Request, out: StreamWriter) -> Result<(), Error> {
    let process = start(program, &request)?;
    let lines = process.run_lines(input(&request), |line| {
        let out = out.clone();
        async move {
            let chunk = said(&line).map_err(Stop::Bus)?;
            out.delta_payload(chunk).await.map_err(Stop::Bus)
        }
    });
    let exit = lines.await.map_err(|stop| match stop {
        Stop::Bus(error) => error,
        Stop::Pipe(error) => Error::agent(error.to_string()),
    })?;
    check(&exit)?;
    out.finish_payload(None).await
}

/// Why a program's lines were not read to their end.
enum Stop {
    Bus(Error),
    Pipe(std::io::Error),
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Pipe(error)
    }
}

fn start(program: Program, request: &Request) -> Result<Process, Error> {
    let envelope = request.envelope();
    let described = [
        ("AGENTBUS_EVENT_ID", envelope.event_id.to_string()),
        (
            "AGENTBUS_SESSION_ID",
            envelope.context.session_id.to_string(),
        ),
        ("AGENTBUS_FROM", envelope.from.to_string()),
        (
            "AGENTBUS_TRACEPARENT",
            envelope.context.traceparent.to_string(),
        ),
    ];
    let program = described
        .into_iter()
        // A value with a zero byte cannot be in an environment.
        .filter(|(_, value)| !value.is_empty() && !value.contains('\0'))
        .fold(program, |program, (name, value)| {
            program.variable(name, OsString::from(value))
        });
    program
        .start()
        .map_err(|error| Error::agent(error.to_string()))
}

/// What the program reads: the text of a JSON string, or the JSON itself, and a line end.
fn input(request: &Request) -> Bytes {
    let Some(payload) = request.payload() else {
        return Bytes::new();
    };
    let mut text = payload
        .decode::<String>()
        .unwrap_or_else(|_| payload.as_str().to_owned());
    text.push('\n');
    text.into()
}

/// What the program said: JSON as it is, everything else as a JSON string.
fn said(output: &Bytes) -> Result<Option<Payload>, Error> {
    if let Ok(payload) = Payload::from_bytes(output) {
        return Ok(payload);
    }
    match std::str::from_utf8(output) {
        Ok(text) => Ok(Some(Payload::text(text.trim_end_matches(['\n', '\r'])))),
        Err(_) => Err(Error::agent("the program printed bytes that are not UTF-8")),
    }
}

/// Turns a failed program into an error that says what the program said last.
fn check(exit: &Exit) -> Result<(), Error> {
    if exit.success() {
        return Ok(());
    }
    let ended = match exit.code {
        Some(code) => format!("the program ended with exit code {code}"),
        None => "a signal ended the program".to_owned(),
    };
    let message = exit
        .last_words()
        .map_or_else(|| ended.clone(), str::to_owned);
    let mut payload = ErrorPayload::new(ErrorCode::AgentUnavailable, message);
    let cause = json!({ "ended": ended, "exit_code": exit.code });
    payload.cause = serde_json::value::to_raw_value(&cause).ok();
    Err(payload.into())
}
