//! `agentbus handle`: any program becomes an agent.
//!
//! The program is started anew for each request. Its environment is ours, without what may hold a
//! secret, with a few `AGENTBUS_…` variables that describe the request.

use std::ffi::OsString;

use agentbus::{Error, ErrorCode, ErrorPayload, Payload, Reply, Request, StreamWriter};
use agentbus_process::{Exit, ExitOutcome, LineError, Program, RunError, Stdin, Stdout};
use bytes::Bytes;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::client::Client;
use crate::args::Handle;
use crate::failure::{Exit as ExitCode, Failure};

pub(crate) async fn handle(client: &Client, args: Handle) -> Result<(), Failure> {
    client.others_must_reach()?;
    let program = Program::from_argv(args.command)
        .map_err(|_| Failure::usage("name the program to run after `--`"))?
        .env("AGENTBUS_TARGET", &args.target);
    let bus = client.connect_as(&args.target, &args.space).await?;
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
    let output = described(program, &request)
        .run(input(&request))
        .await
        .map_err(not_run)?;
    check(&output.outcome)?;
    Ok(Reply::from(said(&output.stdout)?))
}

async fn stream(program: Program, request: Request, out: StreamWriter) -> Result<(), Error> {
    let mut process = described(program, &request).spawn().await.map_err(failed)?;
    let (stdin, stdout) = (process.take_stdin(), process.take_stdout());
    let speaking = async {
        let Some(mut lines) = stdout.map(Stdout::lines) else {
            return Ok(());
        };
        while let Some(line) = lines.next().await.map_err(not_read)? {
            out.delta_payload(said_in_line(&line)?).await?;
        }
        Ok::<_, Error>(())
    };
    // The end is awaited beside the pipes, because what a dead program's children keep open is
    // closed only then. A caller that has left ends all three, which kills the program.
    let (_, outcome, ()) = tokio::try_join!(speaking, async { Ok(process.wait().await) }, async {
        feed(stdin, input(&request)).await;
        Ok(())
    },)?;
    check(&outcome)?;
    out.finish_payload(None).await
}

/// Writes the input and closes the pipe. A program that does not read its input is no error.
async fn feed(stdin: Option<Stdin>, input: Bytes) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(&input).await;
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::agent(error.to_string())
}

/// What can be done about it here: the limits of the library have no option.
fn not_run(error: RunError) -> Error {
    match error {
        RunError::OutputTooLarge { program, limit } => failed(format_args!(
            "the program {program:?} wrote more than {limit} bytes and was stopped: let it write \
             less, or serve it with --stream, which sends each line as it comes"
        )),
        error => failed(error),
    }
}

/// The same for a line.
fn not_read(error: LineError) -> Error {
    match error {
        LineError::TooLong { limit } => failed(format_args!(
            "the program wrote a line of more than {limit} bytes: let it write shorter lines"
        )),
        error => failed(error),
    }
}

/// The program with variables that describe the request.
fn described(program: Program, request: &Request) -> Program {
    let envelope = request.envelope();
    let variables = [
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
    variables
        .into_iter()
        // A value with a zero byte cannot be in an environment.
        .filter(|(_, value)| !value.is_empty() && !value.contains('\0'))
        .fold(program, |program, (name, value)| {
            program.env(name, OsString::from(value))
        })
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

/// What the program said in a line. A blank one is a text too: it is a line of what a person reads.
fn said_in_line(line: &Bytes) -> Result<Option<Payload>, Error> {
    if line.iter().all(u8::is_ascii_whitespace) {
        let text = String::from_utf8_lossy(line);
        return Ok(Some(Payload::text(text.trim_end_matches('\r'))));
    }
    said(line)
}

/// Turns a failed program into an error that says what the program said last.
fn check(outcome: &ExitOutcome) -> Result<(), Error> {
    if outcome.success() {
        return Ok(());
    }
    let message = outcome
        .last_stderr_line()
        .map_or_else(|| outcome.to_string(), str::to_owned);
    let mut payload = ErrorPayload::new(ErrorCode::AgentUnavailable, message);
    let code = match outcome.exit {
        Exit::Code(code) => Some(code),
        _ => None,
    };
    let cause = json!({ "ended": outcome.exit.to_string(), "exit_code": code });
    payload.cause = serde_json::value::to_raw_value(&cause).ok();
    Err(payload.into())
}
