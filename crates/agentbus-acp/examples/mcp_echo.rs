//! A small MCP server on standard input and output, for the tests of this crate.

use std::io;

fn main() -> io::Result<()> {
    agentbus_stdio::workers::mcp_echo(io::stdin(), &mut io::stdout(), &mut io::stderr())
}
