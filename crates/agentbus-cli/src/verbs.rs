//! Which verb does what, and what each of them is given.
//!
//! It promises that a verb which needs the configuration has all of it before any port is opened or
//! program started, and that one which only talks to a bus reads no file.

use std::path::PathBuf;

use crate::args::{Args, Command, Serve};
use crate::commands::{self, Api, Client};
use crate::config::{self, Config, Guarded};
use crate::failure::Failure;
use crate::output::Output;
use crate::telemetry::Telemetry;

impl Command {
    /// Whether the verb asks a running bus, and would do so as well where a transport was named. A
    /// new verb has to say it here: nothing stands for all the others.
    pub(crate) const fn asks_a_running_bus(&self) -> bool {
        match self {
            Self::Attach(_)
            | Self::Decisions(_)
            | Self::DeadLetters { .. }
            | Self::Durable(_)
            | Self::Thread(_)
            | Self::Post(_)
            | Self::Wait(_)
            | Self::Search(_)
            | Self::Targets
            | Self::Agents => true,
            Self::Serve(_)
            | Self::Mcp(_)
            | Self::Acp(_)
            | Self::Stdio(_)
            | Self::Worker(_)
            | Self::Bridge(_)
            | Self::Import(_)
            | Self::Doctor(_)
            | Self::Config(_)
            | Self::Init(_)
            | Self::Agent(_)
            | Self::Token
            | Self::Semantics
            | Self::Completions { .. }
            | Self::Pub(_)
            | Self::Sub(_)
            | Self::Invoke(_)
            | Self::Handle(_)
            | Self::Pool(_)
            | Self::Bench(_) => false,
        }
    }
}

/// What was said for all verbs, and the ways to reach a bus.
pub(crate) struct Verbs {
    /// The configuration file that was named.
    file: Option<PathBuf>,
    transport: Option<String>,
    url: String,
    client: Client,
    api: Api,
    telemetry: Telemetry,
    output: Output,
}

impl Verbs {
    pub(crate) fn new(args: &Args, telemetry: &Telemetry, output: &Output) -> Self {
        Self {
            file: args.config.clone(),
            transport: args.transport.clone(),
            url: args.url.clone(),
            client: Client::new(args, output.clone(), telemetry.clone()),
            api: Api::new(&args.url, output.clone()),
            telemetry: telemetry.clone(),
            output: output.clone(),
        }
    }

    /// Does what was asked for.
    pub(crate) async fn run(&self, command: Command) -> Result<(), Failure> {
        let (client, api, output) = (&self.client, &self.api, &self.output);
        let (file, telemetry) = (self.file.as_deref(), &self.telemetry);
        match command {
            // What runs here, or would.
            Command::Serve(asked) => commands::serve(self.merged(asked)?, telemetry, output).await,
            Command::Mcp(asked) => {
                let api = self.api_with_token_of(&asked.serve);
                commands::mcp(asked, self.hosting(), &api, telemetry, output).await
            }
            Command::Acp(asked) => {
                let api = self.api_with_token_of(&asked.serve);
                commands::acp(asked, self.hosting(), &api, telemetry, output).await
            }
            Command::Stdio(asked) => commands::stdio(asked, file, output).await,
            Command::Worker(asked) => commands::worker(asked, output).await,
            Command::Bridge(asked) => commands::bridge(asked, output).await,
            Command::Import(from) => commands::import(from, &config::load(file)?, output).await,
            Command::Doctor(asked) => {
                let transport = self.transport.clone();
                commands::doctor(asked, transport, &self.url, file, output).await
            }
            Command::Config(asked) => {
                commands::config(self.merged(asked)?, &config::source(file), output)
            }
            Command::Init(asked) => commands::init(&asked, &self.url, output),
            Command::Agent(verb) => commands::agent(verb, file, output),
            Command::Token => commands::token(output),
            Command::Semantics => commands::semantics(output),
            Command::Completions { shell } => commands::completions(shell, output),
            // A program on the bus.
            Command::Pub(asked) => commands::publish(client, asked).await,
            Command::Sub(asked) => commands::subscribe(client, asked).await,
            Command::Invoke(asked) => commands::invoke(client, asked).await,
            Command::Handle(asked) => commands::handle(client, asked).await,
            Command::Pool(asked) => commands::pool(client, asked).await,
            Command::Bench(asked) => commands::bench(client, asked).await,
            // A person in front of a running bus.
            Command::Attach(asked) => commands::attach(api, asked).await,
            Command::Decisions(verb) => commands::decisions(api, verb).await,
            Command::DeadLetters { verb } => commands::dead_letters(api, verb).await,
            Command::Durable(verb) => commands::durable(api, verb).await,
            Command::Thread(verb) => commands::thread(api, verb).await,
            Command::Post(asked) => commands::post(api, asked).await,
            Command::Wait(asked) => commands::wait(api, asked).await,
            Command::Search(asked) => commands::search(api, asked).await,
            Command::Targets => commands::targets(api).await,
            Command::Agents => commands::agents(api).await,
        }
    }

    /// The configuration that `serve` goes by, with flags and environment over the file.
    fn merged(&self, asked: Serve) -> Result<Config, Failure> {
        let config = config::load(self.file.as_deref())?.in_this_environment()?;
        Ok(asked.merge(self.transport.clone(), config))
    }

    /// The configuration of those who may run a bus for an editor; what an unnamed file says of
    /// safety does not count.
    fn hosting(&self) -> Guarded<'_> {
        Guarded {
            named: self.file.as_deref(),
            transport: self.transport.as_deref(),
            output: &self.output,
        }
    }

    /// The running bus, with the token of the data directory that was named.
    fn api_with_token_of(&self, asked: &Serve) -> Api {
        Api::new(&self.url, self.output.clone()).with_token_of(asked.data_dir())
    }
}
