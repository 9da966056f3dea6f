//! What can be said about a measurement.

use super::Space;

#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// How long each of the two parts lasts, in seconds, from 1 to 60.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub(crate) seconds: u64,
    /// The size of each payload, from 2 bytes to 1 MiB.
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u64).range(2..=1_048_576))]
    pub(crate) payload: u64,
    /// How many events or calls are under way at a time, from 1 to 1024.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub(crate) in_flight: u64,
    #[command(flatten)]
    pub(crate) space: Space,
}
