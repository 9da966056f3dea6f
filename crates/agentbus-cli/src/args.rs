//! What can be said on the command line.

mod acp;
mod bench;
mod chat;
mod mcp;
mod space;
mod upkeep;
mod worker;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use agentbus::protocol::Timestamp;
use agentbus::{Priority, Start};
use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::config::{Config, Guarded, Subjects};
use crate::failure::{EXIT_CODES, Failure};

pub(crate) use acp::{AcpArgs, AgentVerb, AttachArgs, DecisionVerb};
pub(crate) use bench::BenchArgs;
pub(crate) use mcp::{InitArgs, McpArgs, McpProfile};
pub(crate) use space::Space;
pub(crate) use upkeep::{DeadLetterVerb, DurableVerb, ListLetters, RedriveLetters};

pub(crate) use worker::{AcpWorker, Engine, ProxyWorker, RegistryWorker};

pub(crate) use chat::{ImportFrom, PostArgs, SearchArgs, ThreadVerb, WaitArgs};

/// One bus for AI agents, however they speak.
#[derive(Debug, Parser)]
#[command(name = "agentbus", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Args {
    /// Print JSON, one object a line, and errors as JSON on standard error.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// The bus to talk to.
    #[arg(
        long,
        global = true,
        env = "AGENTBUS_URL",
        default_value = "http://127.0.0.1:39765"
    )]
    pub(crate) url: String,

    /// Talk to this transport directly instead of to a running bus, or, for `serve`, and for `mcp`
    /// and `acp` where they run a bus of their own, run the bus over it: memory://, sqlite://PATH,
    /// nats://, jetstream://, redis://, kafka:// or amqp://HOST, http://HOST. `agentbus semantics`
    /// compares them.
    #[arg(long, global = true, env = "AGENTBUS_TRANSPORT", value_name = "URL")]
    pub(crate) transport: Option<String>,

    /// The configuration file; `agentbus.toml` in this directory if there is one.
    #[arg(long, global = true, env = "AGENTBUS_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a bus with its page and its HTTP API.
    Serve(Serve),
    /// Publish an event.
    Pub(Publish),
    /// Print the events that match a pattern, as they come.
    Sub(SubscribeArgs),
    /// Copy events from one transport to another, and go on where the last copy stopped.
    Bridge(BridgeArgs),
    /// Call a target and print its reply.
    Invoke(Invoke),
    /// Run a program as an agent: the payload goes to its standard input, its standard output is
    /// the reply.
    Handle(Handle),
    /// Run pools of worker processes that speak JSON-RPC lines, shared by many clients; a drop-in
    /// for `stdio_bus`, also under that name.
    Stdio(StdioArgs),
    /// Speak MCP on standard input and output, for editors and agents: on a running bus, or, if
    /// there is none, on one in this process.
    Mcp(McpArgs),
    /// Speak ACP on standard input and output, for editors: the agents and targets of a running bus,
    /// or, if there is none, of one in this process.
    Acp(AcpArgs),
    /// Enter the bus into the MCP hosts on this machine: Claude Code, Codex, Gemini CLI, VS Code,
    /// Cursor, Zed. Shows what would change, and asks.
    Init(InitArgs),
    /// Add agents that speak ACP to the configuration, list them, remove them.
    #[command(subcommand)]
    Agent(AgentVerb),
    /// Print what happened in a session of an agent, and then what happens.
    Attach(AttachArgs),
    /// List the questions that wait for a person, or answer one.
    #[command(subcommand)]
    Decisions(DecisionVerb),
    /// List what the running bus could not deliver, send it again, or drop it.
    DeadLetters {
        #[command(subcommand)]
        verb: Option<DeadLetterVerb>,
    },
    /// List the durable names of the running bus, or remove one.
    #[command(subcommand)]
    Durable(DurableVerb),
    /// Look after the pools of a running bus.
    Pool(PoolArgs),
    /// Run a worker that comes with the bus.
    #[command(subcommand)]
    Worker(Worker),
    /// List, show, create, close and export threads.
    #[command(subcommand)]
    Thread(ThreadVerb),
    /// Post a message to a thread.
    Post(PostArgs),
    /// Wait until others have posted to a thread, and print what they say.
    Wait(WaitArgs),
    /// Search the messages of all threads.
    Search(SearchArgs),
    /// List the targets of the running bus and who serves them.
    Targets,
    /// List the registered agents.
    Agents,
    /// Take over the conversations of another bus into the data directory.
    #[command(subcommand)]
    Import(ImportFrom),
    /// Compare what the transports can do.
    Semantics,
    /// Look at the bus of this machine and say what is wrong: configuration, data directory,
    /// databases, address, token, transport and programs, as `serve` with the same flags would
    /// use them. It repairs nothing.
    Doctor(Serve),
    /// Measure for a few seconds how many events and calls the running bus, or a transport,
    /// carries.
    Bench(BenchArgs),
    /// Print the token that clients of the bus on this machine need.
    Token,
    /// Print every configuration key with the value that `serve` with the same file, environment and
    /// flags would use.
    Config(Serve),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Serve {
    /// Where to listen.
    #[arg(long, env = "AGENTBUS_LISTEN", value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Where the bus keeps its token and its data.
    #[arg(long, env = "AGENTBUS_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Whether clients must show the token; `off` only on a loopback address.
    #[arg(long, env = "AGENTBUS_AUTH")]
    auth: Option<Auth>,
    /// A host name under which the bus may be addressed, besides the loopback ones.
    #[arg(long = "allow-host", value_name = "NAME")]
    allow_hosts: Vec<String>,
    /// An origin from which web pages may call, besides the bus's own.
    #[arg(long = "allow-origin", value_name = "ORIGIN")]
    allow_origins: Vec<String>,
    /// Where conversations are kept, as a URL: sqlite://PATH, or postgresql://USER@HOST/DATABASE,
    /// which several buses may share.
    #[arg(
        long,
        env = "AGENTBUS_CHAT_STORE",
        value_name = "URL",
        hide_env_values = true
    )]
    chat_store: Option<String>,
    /// How long a shutdown lets work finish, in seconds.
    #[arg(long, env = "AGENTBUS_DRAIN_S", value_name = "SECONDS")]
    drain: Option<u64>,
    /// What to log, for example `info` or `agentbus=debug`.
    #[arg(long, env = "AGENTBUS_LOG", value_name = "FILTER")]
    log: Option<String>,
    #[command(flatten)]
    space: Space,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Auth {
    /// Clients must show the token.
    Token,
    /// They need not.
    Off,
}

impl Serve {
    /// The data directory that was named.
    pub(crate) fn data_dir(&self) -> Option<PathBuf> {
        self.data_dir.clone()
    }

    /// Under which subjects to speak at a bus that runs already.
    pub(crate) fn subjects_there<'a>(&self, config: Guarded<'a>) -> Result<Subjects<'a>, Failure> {
        self.space.over(|| config.subjects())
    }

    /// Lays flags and environment over the file's values.
    pub(crate) fn merge(self, transport: Option<String>, mut config: Config) -> Config {
        config.transport = transport.unwrap_or(config.transport);
        config.listen = self.listen.unwrap_or(config.listen);
        config.data_dir = self.data_dir.or(config.data_dir);
        config.auth = self.auth.unwrap_or(config.auth);
        config.drain_s = self.drain.unwrap_or(config.drain_s);
        config.log = self.log.unwrap_or(config.log);
        config.chat_store = self.chat_store.or(config.chat_store);
        self.space
            .merge(&mut config.tenant, &mut config.subject_prefix);
        config.allow_hosts.extend(self.allow_hosts);
        config.allow_origins.extend(self.allow_origins);
        config
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Publish {
    /// The event type, for example `order.paid`.
    pub(crate) event_type: String,
    /// The payload as JSON; `-` reads it from standard input.
    pub(crate) payload: Option<String>,
    /// background, low, normal, high, urgent or critical.
    #[arg(long, value_parser = priority)]
    pub(crate) priority: Option<Priority>,
    /// Withhold the event from subscribers after this many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) ttl: Option<Duration>,
    /// Wait until every subscriber has acknowledged the event.
    #[arg(long)]
    pub(crate) confirm: bool,
    /// Name this publish, so that sending it again stores it once.
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    #[command(flatten)]
    pub(crate) space: Space,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SubscribeArgs {
    /// A pattern of event types: `*` stands for one token, `>` for the rest.
    pub(crate) pattern: String,
    /// Share the events with the other members of this group.
    #[arg(long, value_name = "GROUP")]
    pub(crate) queue: Option<String>,
    /// Go on where the subscription of this name stopped; it is kept when the program ends.
    #[arg(long, value_name = "NAME")]
    pub(crate) durable: Option<String>,
    /// Begin in the past: `beginning`, a number of the log, or a time such as
    /// 2026-11-21T08:00:00Z.
    #[arg(long, value_name = "WHERE", value_parser = start)]
    pub(crate) from: Option<Start>,
    /// End after this many events.
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// End when nothing has come for this many seconds: with `--from`, when the past is over.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) until_idle: Option<u64>,
    #[command(flatten)]
    pub(crate) space: Space,
}

#[derive(Debug, clap::Args)]
pub(crate) struct BridgeArgs {
    /// The URL of the transport to copy from.
    pub(crate) source: String,
    /// The URL of the transport to copy to.
    pub(crate) destination: String,
    /// Which events: a pattern of event types.
    #[arg(long, default_value = ">")]
    pub(crate) pattern: String,
    /// The name under which the source remembers how far the copy has come; made of the
    /// destination and the pattern unless given.
    #[arg(long, value_name = "NAME", conflicts_with = "live")]
    pub(crate) name: Option<String>,
    /// Where a new copy begins: `beginning`, a number of the log, or a time such as
    /// 2026-11-21T08:00:00Z.
    #[arg(long, value_name = "WHERE", value_parser = start, default_value = "beginning", conflicts_with = "live")]
    pub(crate) from: Start,
    /// Copy only what is published from now on, and remember nothing; for a source that keeps
    /// nothing.
    #[arg(long)]
    pub(crate) live: bool,
    /// End when the source has had nothing new for this many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) until_idle: Option<u64>,
    #[command(flatten)]
    pub(crate) space: Space,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Invoke {
    /// The target.
    pub(crate) target: String,
    /// The payload as JSON; `-` reads it from standard input.
    pub(crate) payload: Option<String>,
    /// Print the reply frame by frame.
    #[arg(long)]
    pub(crate) stream: bool,
    /// How long to wait, in seconds; of a stream, the longest silence.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Option<Duration>,
    /// The session that the call belongs to.
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,
    #[command(flatten)]
    pub(crate) space: Space,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Handle {
    /// The target to serve.
    pub(crate) target: String,
    /// Send each line that the program prints as a frame of its own.
    #[arg(long)]
    pub(crate) stream: bool,
    /// How many programs may run at a time.
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) concurrency: usize,
    /// Share the requests with the agents of this group instead of those of the target.
    #[arg(long, value_name = "GROUP")]
    pub(crate) queue: Option<String>,
    /// The program and its arguments, after `--`. No shell is involved.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
    #[command(flatten)]
    pub(crate) space: Space,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StdioArgs {
    /// Read the configuration from this inherited descriptor instead of a file.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=1024))]
    pub(crate) config_fd: Option<u16>,
    /// Serve one client on standard input and output; the default.
    #[arg(long, overrides_with_all = ["unix", "tcp"])]
    pub(crate) stdio: bool,
    /// Serve clients on a Unix socket that only this user can reach.
    #[arg(long, value_name = "PATH", overrides_with_all = ["stdio", "tcp"])]
    pub(crate) unix: Option<PathBuf>,
    /// Serve clients on a TCP port. There is no authentication: keep it on loopback.
    #[arg(long, value_name = "HOST:PORT", overrides_with_all = ["stdio", "unix"])]
    pub(crate) tcp: Option<String>,
    /// What to log on standard error, for example `warn` or `agentbus=debug`.
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PoolArgs {
    #[command(flatten)]
    pub(crate) space: Space,
    #[command(subcommand)]
    pub(crate) order: Pool,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Pool {
    /// List the pools and their workers.
    List,
    /// Replace the processes of a pool, each once it has no work, or start a drained pool again.
    Restart {
        /// The pool.
        pool: String,
    },
    /// Finish what a pool has under way and end its workers.
    Drain {
        /// The pool.
        pool: String,
    },
    /// Print what the workers of a pool last wrote to standard error.
    Logs {
        /// The pool.
        pool: String,
    },
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Worker {
    /// Answer each request with its own parameters.
    Echo,
    /// Serve MCP with a few small tools.
    McpEcho,
    /// Serve ACP as an agent, with sessions on disk and the MCP servers that its client names.
    Acp(AcpWorker),
    /// Launch the agents of an ACP registry, and route to them by `agentId`.
    Registry(RegistryWorker),
    /// Serve MCP with one tool, which prompts an ACP agent behind a process bus.
    McpProxy(ProxyWorker),
}

fn seconds(text: &str) -> Result<Duration, String> {
    let value: f64 = text
        .parse()
        .map_err(|_| format!("`{text}` is no number of seconds"))?;
    Duration::try_from_secs_f64(value).map_err(|_| format!("`{text}` is out of range"))
}

fn priority(text: &str) -> Result<Priority, String> {
    Priority::parse(text).ok_or_else(|| format!("`{text}` is no priority"))
}

fn start(text: &str) -> Result<Start, String> {
    if text == "beginning" {
        return Ok(Start::Beginning);
    }
    if let Ok(number) = text.parse() {
        return Ok(Start::Sequence(number));
    }
    let time = Timestamp::parse(text).map_err(|_| {
        format!("`{text}` is neither `beginning` nor a number nor a time like 2026-11-21T08:00:00Z")
    })?;
    let since = Duration::from_millis(time.unix_millis());
    SystemTime::UNIX_EPOCH
        .checked_add(since)
        .map(Start::Time)
        .ok_or_else(|| format!("`{text}` is out of range"))
}
