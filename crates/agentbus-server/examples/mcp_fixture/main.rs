//! A bus with the catalogue that the official MCP conformance suite asks for, registered as any
//! application would. It prints the address to test and serves until standard input ends.
//!
//! The bus is the real one: token, host and origin checks included. The suite cannot show a token,
//! so it goes through a relay that adds one and changes nothing else.
#![allow(clippy::print_stdout, reason = "the address is its output")]

mod asking;
mod catalog;
mod relay;
mod samples;

use std::error::Error;
use std::io::Write as _;

use agentbus::Bus;
use agentbus_server::{Server, ServerConfig};
use tokio::io::AsyncReadExt as _;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args().nth(1).ok_or("name a data directory")?;
    let mut config = ServerConfig::new(directory);
    config.listen = "127.0.0.1:0".parse()?;
    catalog::register(&config.mcp.catalog)?;
    asking::register(&config.mcp.catalog)?;
    let bus = Bus::builder("fixture").connect().await?;
    let server = Server::start(config, bus).await?;
    let token = std::fs::read_to_string(server.data_dir().token_path())?;
    let address = relay::start(server.local_addr(), token.trim()).await?;
    println!("http://localhost:{}/mcp", address.port());
    std::io::stdout().flush()?;
    let mut rest = Vec::new();
    tokio::io::stdin().read_to_end(&mut rest).await?;
    server.shutdown().await;
    Ok(())
}
