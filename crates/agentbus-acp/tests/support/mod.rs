//! What the tests of this crate, and those of the program, share.
#![allow(dead_code, reason = "each of the test programs uses a part of it")]

pub(crate) mod frames;
#[path = "../../../agentbus-cli/tests/support/install.rs"]
pub(crate) mod install;
