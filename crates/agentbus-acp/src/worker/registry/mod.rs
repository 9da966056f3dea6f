//! The registry launcher: the agents of an ACP registry behind one connection.
//!
//! Each message names its agent in the top-level `agentId`; the agent is started at its first
//! message and again after its end. What an agent asks its client, permissions and files included,
//! goes to the client.
//!
//! An agent that needs a login gets a key from the API keys file, or the token of a provider with
//! each message; its own `authenticate` is passed through.

mod accounts;
mod agent;
mod archive;
mod auth;
mod bearer;
mod codes;
mod index;
mod launch;
mod methods;
mod router;
mod source;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{Sink, SinkExt, StreamExt};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::accounts::{Account, accounts, log_in, log_out};
use self::agent::{Event, Outgoing, Served};
use self::auth::Auth;
pub use self::auth::{AuthError, KeySource};
use self::bearer::Bearer;
use self::codes::Refusal;
use self::router::{Asker, Logins, Router, Step};
use super::limits::{LAUNCHED_EVENTS, LAUNCHED_QUEUE};
use super::lines;

/// What the launcher launches, and from where.
#[derive(Debug, Clone, Default)]
pub struct RegistryOptions {
    /// The index: a file or a URL.
    pub registry: Option<String>,
    /// Agents of one's own, in the form of an index; they win.
    pub custom_agents: Option<PathBuf>,
    /// Keys of agents.
    pub api_keys: Option<PathBuf>,
    /// Versions and hashes that must be met: a file.
    pub pins: Option<PathBuf>,
    /// Whether to use the copy of last time and fetch nothing.
    pub offline: bool,
    /// The agent of messages that name none.
    pub default_agent: Option<String>,
    /// Where the copy of the index and fetched programs are kept.
    pub data_directory: PathBuf,
    /// What agents get to end.
    pub grace: Duration,
    /// Who can log people in: a file.
    pub providers: Option<PathBuf>,
    /// Where the key is that tokens are kept under; a file beside them unless given.
    pub token_key: Option<KeySource>,
    /// Whether a message that needs a login opens a browser for it.
    pub automatic_login: bool,
}

/// Why the launcher did not start, or ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The index cannot be used.
    #[error("the index {place} cannot be used: {why}; name another one with --registry")]
    Index {
        /// The file or the URL.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// A file of the options cannot be used.
    #[error("{} cannot be used: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A login failed, or its outcome cannot be kept.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The connection failed.
    #[error("the connection to the client failed: {0}")]
    Connection(#[from] io::Error),
}

/// What must be met by an agent before it is started.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pin {
    version: Option<String>,
    sha256: Option<String>,
}

/// Keys of agents: variables for their programs.
#[derive(Debug, Default, Deserialize)]
struct Keys {
    #[serde(default)]
    agents: BTreeMap<String, Key>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Key {
    api_key: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
}

impl std::fmt::Debug for Key {
    // Secrets stay out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

impl Keys {
    /// Reads the file of keys, which must be its owner's alone.
    fn read(path: Option<&Path>) -> Result<Self, RegistryError> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        let text = auth::read_private(path)?;
        serde_json::from_slice(&text).map_err(|error| RegistryError::File {
            path: path.to_owned(),
            why: error.to_string(),
        })
    }

    /// Returns the variables of an agent; its key is `AGENT_API_KEY`.
    fn of(&self, agent: &str) -> Vec<(&str, &str)> {
        let Some(key) = self.agents.get(agent) else {
            return Vec::new();
        };
        let named = key
            .api_key
            .iter()
            .map(|key| ("AGENT_API_KEY", key.as_str()));
        let env = key
            .env
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        named.chain(env).collect()
    }
}

/// Serves one connection until its input ends or `stop` fires.
///
/// # Errors
///
/// A [`RegistryError`]; the end of the input is none.
pub async fn serve(
    options: RegistryOptions,
    input: impl AsyncRead + Unpin + Send + 'static,
    output: impl AsyncWrite + Send + 'static,
    stop: CancellationToken,
) -> Result<(), RegistryError> {
    let index = source::index(&options).await?;
    let keys = Keys::read(options.api_keys.as_deref())?;
    let pins = read(options.pins.as_deref())?;
    let auth = Auth::new(&options)?;
    let logins = logins(&index, &keys, &auth);
    let keyed = keys.agents.keys().cloned().collect();
    let router = Router::new(index, options.default_agent.clone(), keyed, logins);
    let (to_launcher, events) = mpsc::channel(LAUNCHED_EVENTS);
    let mut launcher = Launcher {
        options: options.into(),
        keys: keys.into(),
        pins,
        auth: auth.into(),
        logging_in: HashSet::new(),
        router,
        running: HashMap::new(),
        tasks: TaskTracker::new(),
        to_launcher,
        // Agents end with the connection, however it ends.
        stop: stop.child_token(),
    };
    let ends = launcher.stop.clone().drop_guard();
    let (incoming, outgoing) = (lines::read(input), Box::pin(lines::written(output)));
    let served = launcher.run(Box::pin(incoming), outgoing, events).await;
    drop(ends);
    launcher.tasks.close();
    launcher.tasks.wait().await;
    Ok(served?)
}

/// Tells which agents get tokens of which provider. One that has a key needs none.
fn logins(index: &index::Index, keys: &Keys, auth: &Auth) -> Logins {
    let keyless = index
        .entries()
        .filter(|entry| !keys.agents.contains_key(&entry.id));
    let of =
        keyless.filter_map(|entry| Some((entry.id.clone(), provider(entry, auth)?.to_owned())));
    Logins {
        providers: auth.names().map(str::to_owned).collect(),
        of: of.collect(),
    }
}

/// Returns the provider of an agent: as its entry says, else as the provider does.
fn provider<'a>(entry: &'a index::Entry, auth: &'a Auth) -> Option<&'a str> {
    let methods = entry.auth_methods.iter();
    let mut named = methods.filter_map(|method| method["providerId"].as_str());
    named
        .find(|name| auth.has(name))
        .or_else(|| auth.claims(&entry.id))
}

/// Reads a file of the options; none is an empty one.
fn read<T: Default + for<'a> Deserialize<'a>>(path: Option<&Path>) -> Result<T, RegistryError> {
    let Some(path) = path else {
        return Ok(T::default());
    };
    let unusable = |why: String| RegistryError::File {
        path: path.to_owned(),
        why,
    };
    let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))
}

struct Launcher {
    options: std::sync::Arc<RegistryOptions>,
    keys: std::sync::Arc<Keys>,
    pins: BTreeMap<String, Pin>,
    auth: std::sync::Arc<Auth>,
    /// The providers at which a client wants to be logged in just now.
    logging_in: HashSet<String>,
    router: Router,
    /// The agents under way, by what writes to them.
    running: HashMap<String, mpsc::Sender<Outgoing>>,
    tasks: TaskTracker,
    to_launcher: mpsc::Sender<Event>,
    stop: CancellationToken,
}

impl Launcher {
    async fn run(
        &mut self,
        mut incoming: impl StreamExt<Item = io::Result<String>> + Unpin,
        mut outgoing: impl Sink<String, Error = io::Error> + Unpin,
        mut events: mpsc::Receiver<Event>,
    ) -> io::Result<()> {
        loop {
            let said = tokio::select! {
                line = incoming.next() => match line {
                    None => return Ok(()),
                    Some(line) => self.take(&line?),
                },
                Some(event) = events.recv() => self.hear(event),
                () = self.stop.cancelled() => return Ok(()),
            };
            for line in said {
                outgoing.send(line).await?;
            }
        }
    }

    /// Takes a line of the client; returns what it is told at once.
    fn take(&mut self, line: &str) -> Vec<String> {
        let step = self.router.client_said(line);
        self.follow(step)
    }

    /// Does what the router says; returns what the client is told at once.
    fn follow(&mut self, step: Step) -> Vec<String> {
        match step {
            Step::Nothing => Vec::new(),
            Step::Answer(line) => vec![line],
            Step::LogIn { provider, asker } => self.log_in(provider, asker).into_iter().collect(),
            Step::Forward {
                agent,
                line,
                request,
            } => {
                let refusal = match (self.write(&agent, (request, line)), request) {
                    (Err(refusal), Some(request)) => self.router.refuse(request, &refusal),
                    _ => None,
                };
                refusal.into_iter().collect()
            }
        }
    }

    /// Takes what an agent did; returns what the client is told.
    fn hear(&mut self, event: Event) -> Vec<String> {
        match event {
            Event::Line(agent, line) => {
                let step = self.router.agent_said(&agent, &line);
                self.follow(step)
            }
            Event::Gone(agent, refusal) => {
                self.running.remove(&agent);
                self.router.gone(&agent, &refusal)
            }
            Event::Refused(request, refusal) => {
                self.router.refuse(request, &refusal).into_iter().collect()
            }
            Event::LoggedIn {
                provider,
                asker,
                outcome,
            } => {
                self.logging_in.remove(&provider);
                vec![match outcome {
                    Ok(()) => asker.answered(&serde_json::json!({})),
                    Err(refusal) => asker.refused(&refusal),
                }]
            }
        }
    }

    /// Begins a login that a client asked for; returns what the client is told at once.
    fn log_in(&mut self, provider: String, asker: Asker) -> Option<String> {
        if !self.logging_in.insert(provider.clone()) {
            return Some(asker.refused(&Refusal::login_under_way(&provider)));
        }
        let (auth, events, stop) = (
            self.auth.clone(),
            self.to_launcher.clone(),
            self.stop.clone(),
        );
        self.tasks.spawn(async move {
            let outcome = tokio::select! {
                outcome = auth.log_in_here(&provider) => outcome,
                () = stop.cancelled() => return,
            };
            let outcome = outcome.map_err(|error| Refusal::no_token(None, &provider, &error));
            let event = Event::LoggedIn {
                provider,
                asker,
                outcome,
            };
            // The launcher hears no more events once it has stopped.
            let _ = events.send(event).await;
        });
        None
    }

    /// Writes to an agent, which is started if it does not run.
    fn write(&mut self, agent: &str, line: Outgoing) -> Result<(), Refusal> {
        let Some(queue) = self.running.get(agent) else {
            let (queue, lines) = mpsc::channel(LAUNCHED_QUEUE);
            // Before the start, which may have failed before anything could be written after it.
            let written = queue.try_send(line);
            self.running.insert(agent.to_owned(), queue);
            self.start(agent, lines);
            return written.map_err(|_| Refusal::too_many(agent));
        };
        queue.try_send(line).map_err(|unwritten| match unwritten {
            TrySendError::Full(_) => Refusal::too_many(agent),
            TrySendError::Closed(_) => Refusal::ended(agent, "it has just ended"),
        })
    }

    fn start(&self, agent: &str, lines: mpsc::Receiver<Outgoing>) {
        let entry = self.router.index().get(agent).cloned();
        let pin = self.pins.get(agent).cloned();
        let (options, keys) = (self.options.clone(), self.keys.clone());
        let (events, stop) = (self.to_launcher.clone(), self.stop.clone());
        let bearer = self.router.provider(agent).map(|provider| Bearer {
            auth: self.auth.clone(),
            provider: provider.to_owned(),
            required: entry.as_ref().is_some_and(|entry| entry.auth_required),
        });
        let served = Served {
            id: agent.to_owned(),
            lines,
            bearer,
            grace: options.grace,
        };
        self.tasks.spawn(async move {
            let program = match &entry {
                Some(entry) => {
                    launch::program(entry, &keys, pin.as_ref(), &options.data_directory).await
                }
                // Only an agent of the index is ever asked for.
                None => Err(Refusal::not_found(&served.id)),
            };
            agent::serve(served, program, events, stop).await;
        });
    }
}
