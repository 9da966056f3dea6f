//! Workers that come with the bus.

mod echo;

pub use echo::echo;
