//! The transport and the store of conversations, where they are servers.

use std::path::Path;
use std::time::Duration;

use agentbus::transport::remote::hidden;
use agentbus::transport::{Capabilities, Capability};
use agentbus::transports::{self, without_secrets};
use agentbus_chat::store::{PostgresStore, Survey};
use tokio::time::timeout;

use super::Check;
use super::databases::file_of;
use super::locks::{beside, holder, in_use};
use crate::config::{Config, store_place};

const TRANSPORT: &str = "transport";
const STORE: &str = "store of conversations";

/// How long a broker, or the server of a store, may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What people ask a transport for.
const ASKED: &[Capability] = &[
    Capability::Durable,
    Capability::Replay,
    Capability::Lease,
    Capability::DeadLetters,
    Capability::Idempotency,
    Capability::HandledConfirmation,
    Capability::QueueGroups,
    Capability::Wildcards,
    Capability::Priority,
    Capability::NoResponder,
    Capability::Backpressure,
];

/// Connects to the transport of the configuration. A log in a file is not opened: that takes its
/// lock, makes it where there is none, and forgets what is old.
pub(super) async fn transport(url: &str) -> Check {
    let shown = without_secrets(&hidden(url));
    if url.starts_with("sqlite://") {
        return log(url, &shown);
    }
    let opening = timeout(PATIENCE, transports::open(url, "doctor"));
    match opening.await {
        Ok(Ok(transport)) => {
            let described = describe(&transport.capabilities());
            // Nothing was sent, so nothing is waited for.
            let _ = timeout(PATIENCE, transport.close(Duration::ZERO)).await;
            Check::ok(TRANSPORT, format!("{shown} opens; {described}"))
        }
        Ok(Err(error)) => {
            let said = error.to_string().replace(url, &shown);
            let hint = "start its server, or name another with --transport";
            Check::wrong(TRANSPORT, format!("{shown}: {said}"), hint)
        }
        Err(_) => silent(TRANSPORT, &shown),
    }
}

fn log(url: &str, shown: &str) -> Check {
    let path = file_of(url).unwrap_or_default();
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    if let Some(missing) = parent.filter(|parent| !parent.is_dir()) {
        let detail = format!("{shown}: there is no directory {}", missing.display());
        return Check::wrong(TRANSPORT, detail, "make it first");
    }
    let user = in_use(holder(&beside(&path, "-lock")));
    let all = transports::all();
    let own = all.iter().find(|(form, _)| form.starts_with("sqlite://"));
    let described = match own {
        Some((_, capabilities)) => describe(capabilities),
        None => "it is left out of this build".to_owned(),
    };
    Check::ok(TRANSPORT, format!("{shown}{user}; {described}"))
}

/// What a transport has and lacks, as the end of a sentence.
fn describe(capabilities: &Capabilities) -> String {
    let (has, lacks): (Vec<_>, Vec<_>) = ASKED
        .iter()
        .partition(|asked| capabilities.require(**asked).is_ok());
    let list = |of: Vec<&Capability>| {
        let names: Vec<_> = of.into_iter().map(ToString::to_string).collect();
        match names.is_empty() {
            true => "nothing".to_owned(),
            false => names.join(", "),
        }
    };
    let kept = capabilities.durability;
    format!(
        "its durability is {kept}, it has {}, and lacks {}",
        list(has),
        list(lacks)
    )
}

/// Logs in to the store of the configuration and makes no tables. A store in a file is a database,
/// and checked as one.
pub(super) async fn store(config: &Config) -> Option<Check> {
    let url = config.chat_store.as_deref()?;
    if file_of(url).is_some() {
        return None;
    }
    let shown = store_place(url);
    if !["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| url.starts_with(scheme))
    {
        let hint = "write sqlite://PATH or postgresql://USER:PASSWORD@HOST:PORT/DATABASE";
        return Some(Check::wrong(
            STORE,
            format!("{shown} names no store that there is"),
            hint,
        ));
    }
    Some(match timeout(PATIENCE, PostgresStore::survey(url)).await {
        Ok(Ok(survey)) => Check::ok(STORE, format!("{shown} is {}", surveyed(&survey))),
        Ok(Err(obstacle)) => {
            Check::wrong(STORE, format!("{shown}: {}", obstacle.found), obstacle.next)
        }
        Err(_) => silent(STORE, &shown),
    })
}

/// What a database says of itself, as the end of a sentence.
fn surveyed(survey: &Survey) -> String {
    let Survey {
        version,
        layout,
        known,
        ..
    } = survey;
    let encrypted = match survey.is_encrypted {
        true => "over an encrypted connection",
        false => "over a connection that is not encrypted",
    };
    let tables = match *layout {
        0 => "it has no tables yet, and a bus makes them when it starts".to_owned(),
        layout if layout < *known => format!(
            "its tables have the layout {layout}, and a bus brings them to {known} when it starts"
        ),
        layout => format!("its tables have the layout {layout}, which is that of this version"),
    };
    format!("PostgreSQL {version}, {encrypted}; {tables}")
}

fn silent(check: &str, shown: &str) -> Check {
    let detail = format!("{shown} does not answer in {} s", PATIENCE.as_secs());
    let hint = "look whether its server runs and can be reached from here";
    Check::wrong(check, detail, hint)
}
