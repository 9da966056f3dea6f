//! `agentbus stdio` and `agentbus worker`.

use std::io::Read;
use std::path::{Path, PathBuf};

use agentbus_stdio::{Config, ConfigError, Daemon, DaemonError, Listen, limits, workers};

use super::serve::{asked_to_stop, start_logging};
use crate::args::{StdioArgs, Worker};
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Runs the process bus until it is told to stop, or its one client has said all.
pub(crate) async fn stdio(
    args: StdioArgs,
    config: Option<&Path>,
    output: &Output,
) -> Result<(), Failure> {
    let debug = std::env::var_os("DEBUG_STDIO").is_some();
    start_logging(if debug { "debug" } else { "info" }, output)?;
    let listen = listen(&args)?;
    let loaded = Config::parse(&read(config, args.config_fd)?)?;
    for key in &loaded.ignored {
        tracing::warn!(key, "the configuration has a key that means nothing here");
    }
    // Listened for before the first worker, so that no early signal is missed.
    let stop = asked_to_stop();
    Daemon::new(loaded.config).run(&listen, stop).await?;
    Ok(())
}

fn listen(args: &StdioArgs) -> Result<Listen, Failure> {
    if let Some(path) = &args.unix {
        return Ok(Listen::Unix(path.clone()));
    }
    let Some(text) = &args.tcp else {
        return Ok(Listen::Stdio);
    };
    Listen::tcp(text).ok_or_else(|| {
        let message = format!("`{text}` is no HOST:PORT, such as 127.0.0.1:9000");
        Failure::new(Exit::Usage, message)
    })
}

/// Reads the configuration from a file or from a descriptor that was inherited.
fn read(file: Option<&Path>, descriptor: Option<u16>) -> Result<Vec<u8>, Failure> {
    let path = match (file, descriptor) {
        (Some(path), None) => path.to_owned(),
        (None, Some(number)) => PathBuf::from(format!("/dev/fd/{number}")),
        (Some(_), Some(_)) => {
            let message = "give either --config or --config-fd, not both";
            return Err(Failure::new(Exit::Usage, message));
        }
        (None, None) => {
            let message = "name the pools with --config FILE; docs/stdio.md shows one";
            return Err(Failure::new(Exit::Usage, message));
        }
    };
    let failed = |error| {
        let message = format!("config: cannot read {}: {error}", path.display());
        Failure::new(Exit::Configuration, message)
    };
    let mut bytes = Vec::new();
    // One byte more than allowed, so that too much is noticed without reading all of it.
    let room = limits::CONFIG_BYTES_MAX + 1;
    let file = std::fs::File::open(&path).map_err(failed)?;
    file.take(room).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Runs a worker that comes with the bus.
pub(crate) async fn worker(worker: Worker) -> Result<(), Failure> {
    let stop = asked_to_stop();
    let work = tokio::task::spawn_blocking(move || match worker {
        Worker::Echo => workers::echo(std::io::stdin().lock(), std::io::stdout().lock()),
    });
    tokio::select! {
        // A reader that has gone is the end of the work, not a failure of it.
        _ = work => {}
        () = stop => {}
    }
    Ok(())
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Configuration, error.to_string())
    }
}

impl From<DaemonError> for Failure {
    fn from(error: DaemonError) -> Self {
        Self::new(Exit::Listen, error.to_string())
    }
}
