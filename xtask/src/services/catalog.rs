//! The services: one row each.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{kafka, probe};
use crate::failure::Failure;

/// How a service is found, started and asked whether it answers.
pub(super) struct Service {
    /// What people call it.
    pub(super) name: &'static str,
    /// The Debian package that brings it.
    pub(super) package: &'static str,
    /// Finds its program on this system.
    pub(super) program: fn() -> Option<PathBuf>,
    /// The command that runs it in the foreground.
    pub(super) command: fn(&Place) -> Result<Command, Failure>,
    /// Whether the server at this port answers as such a server does.
    pub(super) is_ready: fn(u16) -> bool,
    /// Where clients reach it.
    pub(super) url: fn(u16) -> String,
    /// The variable in which tests find the URL.
    pub(super) variable: &'static str,
    /// Whether `cargo xtask test` starts it.
    pub(super) needed_by_tests: bool,
    /// Ends what a stopped service leaves behind, in its folder.
    pub(super) clean: fn(&Path),
}

/// Where a service runs.
pub(super) struct Place {
    pub(super) program: PathBuf,
    pub(super) folder: PathBuf,
    pub(super) port: u16,
}

impl Place {
    pub(super) fn new(program: PathBuf, folder: PathBuf) -> Result<Self, Failure> {
        let data = folder.join("data");
        fs::create_dir_all(&data).map_err(|error| Failure::read(&data, &error))?;
        Ok(Self {
            program,
            folder,
            port: free_port()?,
        })
    }

    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }
}

/// All services, in the order in which they start.
pub(super) const SERVICES: &[Service] = &[
    Service {
        name: "nats",
        package: "nats-server",
        program: || find("nats-server", &["/usr/sbin"]),
        command: nats,
        is_ready: probe::nats,
        url: |port| format!("nats://127.0.0.1:{port}"),
        variable: "AGENTBUS_NATS_URL",
        needed_by_tests: true,
        clean: |_| {},
    },
    Service {
        name: "redis",
        package: "redis-server",
        program: || find("redis-server", &[]),
        command: redis,
        is_ready: probe::redis,
        url: |port| format!("redis://127.0.0.1:{port}"),
        variable: "AGENTBUS_REDIS_URL",
        needed_by_tests: true,
        clean: |_| {},
    },
    Service {
        name: "rabbitmq",
        package: "rabbitmq-server",
        program: || find("rabbitmq-server", &["/usr/lib/rabbitmq/bin"]),
        command: rabbitmq,
        is_ready: probe::rabbitmq,
        url: |port| format!("amqp://guest:guest@127.0.0.1:{port}"),
        variable: "AGENTBUS_RABBITMQ_URL",
        needed_by_tests: true,
        clean: end_epmd,
    },
    Service {
        name: "postgresql",
        package: "postgresql",
        program: postgres_program,
        command: postgres,
        is_ready: probe::postgres,
        url: |port| format!("postgresql://postgres@127.0.0.1:{port}/postgres"),
        variable: "AGENTBUS_POSTGRESQL_URL",
        needed_by_tests: true,
        clean: |_| {},
    },
    Service {
        name: "kafka",
        package: "default-jre-headless",
        program: kafka::java,
        command: kafka::command,
        is_ready: probe::kafka,
        url: |port| format!("kafka://127.0.0.1:{port}"),
        variable: "AGENTBUS_KAFKA_URL",
        needed_by_tests: true,
        clean: kafka::clean,
    },
];

fn nats(place: &Place) -> Result<Command, Failure> {
    let mut command = Command::new(&place.program);
    command.args([
        "-a",
        "127.0.0.1",
        "-p",
        &place.port.to_string(),
        "-js",
        "-sd",
    ]);
    command.arg(place.data());
    Ok(command)
}

fn redis(place: &Place) -> Result<Command, Failure> {
    let mut command = Command::new(&place.program);
    command.args(["--bind", "127.0.0.1", "--port", &place.port.to_string()]);
    command
        .args(["--appendonly", "yes", "--dir"])
        .arg(place.data());
    Ok(command)
}

/// RabbitMQ under names of its own, so that it never meets another node of this machine.
///
/// The script in the library folder is started rather than the one in `bin`, which changes to the
/// user of the package.
fn rabbitmq(place: &Place) -> Result<Command, Failure> {
    let script = Path::new("/usr/lib/rabbitmq/bin/rabbitmq-server");
    let program = if script.exists() {
        script
    } else {
        &place.program
    };
    let data = place.data();
    // The node is called after its port, so it would never find what an earlier one has left.
    let _ = fs::remove_dir_all(data.join("mnesia"));
    let plugins = data.join("enabled_plugins");
    fs::write(&plugins, "[].\n").map_err(|error| Failure::read(&plugins, &error))?;
    let config = data.join("rabbitmq.conf");
    let text = format!("listeners.tcp.1 = 127.0.0.1:{}\n", place.port);
    fs::write(&config, text).map_err(|error| Failure::read(&config, &error))?;
    let names = free_port()?.to_string();
    let file = data.join(EPMD_PORT);
    fs::write(&file, &names).map_err(|error| Failure::read(&file, &error))?;
    let mut command = Command::new(program);
    command
        .env("HOME", &data)
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("ERL_EPMD_PORT", names)
        .env(
            "RABBITMQ_NODENAME",
            format!("agentbus-{}@localhost", place.port),
        )
        .env("RABBITMQ_DIST_PORT", free_port()?.to_string())
        .env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-kernel inet_dist_use_interface {127,0,0,1}",
        )
        .env("RABBITMQ_MNESIA_BASE", data.join("mnesia"))
        .env("RABBITMQ_LOG_BASE", data.join("logs"))
        .env("RABBITMQ_CONFIG_FILE", config)
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", plugins);
    Ok(command)
}

/// Where the port of a RabbitMQ's name daemon is written down.
const EPMD_PORT: &str = "epmd-port";

/// Ends the name daemon that an Erlang program leaves behind.
fn end_epmd(folder: &Path) {
    if let Ok(port) = fs::read_to_string(folder.join("data").join(EPMD_PORT)) {
        let mut command = Command::new("epmd");
        command
            .args(["-port", &port, "-kill"])
            .env("ERL_EPMD_RELAXED_COMMAND_CHECK", "1");
        // One that is gone already is what was wanted.
        let _ = super::install::succeed(command);
    }
}

/// Finds the server of the newest version that Debian has installed.
fn postgres_program() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut programs: Vec<_> = versions
        .filter_map(|version| Some(version.ok()?.path().join("bin/postgres")))
        .filter(|program| program.exists())
        .collect();
    programs.sort();
    programs.pop()
}

/// PostgreSQL refuses to run as root, so it runs as the user that its package made.
fn postgres(place: &Place) -> Result<Command, Failure> {
    let data = place.data();
    let run = |program: &Path| {
        if !rustix::process::geteuid().is_root() {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid",
            "postgres",
            "--regid",
            "postgres",
            "--clear-groups",
        ]);
        command.arg(program);
        command
    };
    if !data.join("PG_VERSION").exists() {
        give_to_postgres(&data)?;
        let mut init = run(&place.program.with_file_name("initdb"));
        init.args(["--username", "postgres", "--auth", "trust", "--pgdata"])
            .arg(&data);
        init.current_dir("/");
        super::install::succeed(init)?;
    }
    let mut command = run(&place.program);
    command
        .arg("-D")
        .arg(&data)
        .args(["-h", "127.0.0.1", "-p", &place.port.to_string()]);
    command.arg("-k").arg(&data).current_dir("/");
    Ok(command)
}

fn give_to_postgres(data: &Path) -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let mut own = Command::new("chown");
    own.arg("postgres:postgres").arg(data);
    super::install::succeed(own)
}

/// Finds a program on the path or in folders where Debian puts servers.
pub(super) fn find(name: &str, more: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(more.iter().map(PathBuf::from));
    folders
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Asks the system for a port that nobody uses.
pub(super) fn free_port() -> Result<u16, Failure> {
    let failed = |error| Failure::new(format!("no free port on loopback: {error}"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    listener
        .local_addr()
        .map(|address| address.port())
        .map_err(failed)
}
