//! The project tooling: `cargo xtask help`.

fn main() {}
