//! How a command that speaks to an editor finds its bus: the one that runs, or one of its own.

use std::time::Duration;

use agentbus::Error;
use agentbus::transport::Transport;
use agentbus_server::RunningServer;
use agentbus_transport_ws::WsTransport;

use super::Api;
use super::serve::{Beside, start};
use crate::args::Serve;
use crate::config::{Config, Guarded, Prefix, Subjects};
use crate::failure::{Exit, Failure};
use crate::log::Log;
use crate::output::Output;
use crate::telemetry::Telemetry;

/// How often a bus that another process is just starting is looked for, and how long between.
const LOOKS: u32 = 20;
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The bus that was found.
pub(super) enum Joined {
    /// It runs in another process; with the tenant to speak in there, if one was named.
    Running(Option<String>),
    /// It was started in this one, on this configuration, with its log.
    Own(Box<Config>, Box<(RunningServer, Beside)>, Log),
}

/// Finds the bus that runs, or starts one on the data directory, which other programs can join.
pub(super) async fn join(
    embedded: bool,
    serve: &Serve,
    config: Guarded<'_>,
    api: &Api,
    telemetry: &Telemetry,
    output: &Output,
) -> Result<Joined, Failure> {
    let default = format!("http://127.0.0.1:{}", agentbus_server::DEFAULT_PORT);
    if !embedded && api.is_there().await {
        return join_running(serve, config, api).await;
    }
    if !embedded && api.url() != default {
        let text = format!(
            "no bus answers at {}; start one with `agentbus serve`, or name another with --url",
            api.url()
        );
        return Err(Failure::new(Exit::Unreachable, text));
    }
    let transport = config.transport.map(str::to_owned);
    let own = serve.clone().merge(transport, config.load()?);
    let log = Log::start(&own.log, output)?;
    match start(&own, telemetry).await {
        Ok(running) => Ok(Joined::Own(Box::new(own), Box::new(running), log)),
        Err(mut failure) if embedded && failure.exit == Exit::Listen => {
            failure.message.push_str(
                "; --embedded runs a bus of its own: leave it out to join the one that runs, or name another directory \
                 and another port with --data-dir DIR --listen 127.0.0.1:0",
            );
            Err(failure)
        }
        // Two editors that start at once: one of them runs the bus, the other joins it.
        Err(failure) if !embedded && failure.exit == Exit::Listen => {
            for _ in 0..LOOKS {
                if api.is_there().await {
                    return join_running(serve, config, api).await;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Err(failure)
        }
        Err(failure) => Err(failure),
    }
}

/// The bus that runs. It has its transport already, and it may well be the one that was named: when
/// two editors say the same, one of them runs the bus and the other joins it.
async fn join_running(serve: &Serve, config: Guarded<'_>, api: &Api) -> Result<Joined, Failure> {
    let Subjects { tenant, prefix } = serve.subjects_there(config)?;
    if let Some(prefix) = prefix {
        check_prefix(&prefix, api).await?;
    }
    if config.transport.is_some() {
        config.output.note(&format!(
            "the bus that runs at {} is joined over the transport that it has; the one that was named is for a bus of one's \
             own, which --embedded runs",
            api.url()
        ));
    }
    let tenant = Some(tenant).filter(|name| !name.is_empty());
    Ok(Joined::Running(tenant))
}

/// Refuses another prefix than the bus that runs has; only the bus itself can say which that is.
async fn check_prefix(prefix: &Prefix<'_>, api: &Api) -> Result<(), Failure> {
    let there = WsTransport::builder(api.url(), "join").token(api.token()?);
    let there = there.connect().await.map_err(Error::from)?;
    let space = there.subjects();
    there.close(Duration::ZERO).await;
    match space {
        Some(space) if space.prefix() != prefix.name => {
            Err(refused(prefix, space.prefix(), api.url()))
        }
        _ => Ok(()),
    }
}

fn refused(prefix: &Prefix<'_>, there: &str, url: &str) -> Failure {
    let name = &prefix.name;
    let has = format!(
        "the bus that runs at {url} has the subject prefix `{there}`, which is set where that bus is started, and takes \
         nothing under `{name}`"
    );
    match prefix.file {
        None => Failure::usage(format!(
            "{has}; leave the prefix out, or run a bus of your own with --embedded"
        )),
        Some(file) => Failure::new(
            Exit::Configuration,
            format!(
                "{has}, the `subject_prefix` in {}; leave it out there, or run a bus of your own with --embedded",
                file.display()
            ),
        ),
    }
}
