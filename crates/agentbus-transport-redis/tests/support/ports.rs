//! Ports for servers that begin to listen later, and again after they were killed.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::Path;

/// The ports that are given. They lie below those from which the system takes one for whoever does
/// not care, so that nobody gets one of them while its server is not there.
const GIVEN: Range<u16> = 10_000..30_000;

/// A port at which nobody listens, and that no other test is given, in whatever process it runs,
/// before it is the turn of this one again.
pub(crate) fn free_port() -> u16 {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("last-port");
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(path).unwrap();
    file.lock().unwrap();
    let mut last = String::new();
    file.read_to_string(&mut last).unwrap();
    // Whoever is first begins somewhere: another working copy counts for itself.
    let anywhere = || GIVEN.start + u16::try_from(std::process::id() % 20_000).unwrap();
    let mut port = last.parse::<u16>().unwrap_or_else(|_| anywhere());
    loop {
        port = Some(port + 1)
            .filter(|next| GIVEN.contains(next))
            .unwrap_or(GIVEN.start);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            break;
        }
    }
    file.rewind().unwrap();
    // As long as the one before, as all of them have five digits.
    write!(file, "{port}").unwrap();
    port
}
