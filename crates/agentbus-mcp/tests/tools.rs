//! What tools promise beside their answers: forms on the board, writes that can be repeated.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod line;

#[path = "tools/board.rs"]
mod board;
#[path = "tools/invoking.rs"]
mod invoking;
#[path = "tools/keys.rs"]
mod keys;
#[path = "tools/kicks.rs"]
mod kicks;
#[path = "tools/params.rs"]
mod params;
#[path = "tools/rooms.rs"]
mod rooms;
#[path = "tools/spans.rs"]
mod spans;
#[path = "tools/traces.rs"]
mod traces;
