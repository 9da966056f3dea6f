//! `cargo xtask bench chat [posts|live|search] [MESSAGES]`: what conversations cost, each figure
//! beside its raw baseline of the same run.
//!
//! The baseline of a post is appending as many bytes to a file and flushing it, one after the
//! other. With N clients the bound is N posts for one flush. Read the ratios; disks differ.

mod client;
mod disk;
mod live;
mod posts;
mod program;
mod search;
mod table;

use std::path::{Path, PathBuf};

use agentbus::Bus;
use agentbus_chat::ChatConfig;
use agentbus_server::{AuthMode, RunningServer, Server, ServerConfig};

/// Messages that are searched unless an argument says otherwise.
const MESSAGES: usize = 100_000;

fn settings() -> ChatConfig {
    ChatConfig {
        rate_limit: 0,
        ..ChatConfig::default()
    }
}

async fn start(directory: &Path) -> RunningServer {
    let bus = Bus::builder("bench").connect().await.unwrap();
    let mut config = ServerConfig::new(directory.join("served"));
    config.listen = "127.0.0.1:0".parse().unwrap();
    config.auth = AuthMode::Off;
    config.chat = settings();
    Server::start(config, bus).await.unwrap()
}

/// An empty folder beside the program: on a disk, not in a file system in memory, and where a run
/// that is killed leaves nothing that anyone could mistake for a source. The next run empties it.
fn folder() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let folder = program.with_file_name("bench-chat");
    clear(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn clear(folder: &Path) {
    if folder.exists() {
        std::fs::remove_dir_all(folder).unwrap();
    }
}

/// Measures what the first argument is a part of, or everything; the second one says how many
/// messages are searched.
pub(crate) fn run(arguments: &[String]) {
    crate::runtime().block_on(measure(arguments));
}

async fn measure(arguments: &[String]) {
    let wanted = arguments.first().map_or("", String::as_str);
    let messages = arguments.get(1).map_or(MESSAGES, |n| n.parse().unwrap());
    let chosen = |name: &str| name.contains(wanted);
    let folder = folder();
    table::head();
    if chosen("posts") {
        let server = start(&folder).await;
        posts::all(&server, &folder).await;
        server.shutdown().await;
    }
    if chosen("live") {
        let server = start(&folder).await;
        live::all(&server).await;
        server.shutdown().await;
    }
    if chosen("search") {
        search::all(&folder, messages).await;
    }
    clear(&folder);
}
