//! Who listens on a port of this machine.
//!
//! A port of the loopback interface belongs to whoever opened it first, and that may be another
//! user of the machine who waits for tokens. The kernel tells the owner of every listening socket.

use std::fs;

use rustix::process::geteuid;

/// What the kernel writes for a socket that listens (`TCP_LISTEN`, include/net/tcp_states.h).
const LISTENING: &str = "0A";

/// A listener that belongs to somebody else.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stranger {
    pub(crate) uid: u32,
}

/// Looks for a listener on `port` of this machine that belongs neither to this user nor to the
/// system. Where the kernel has no such table, nothing is found.
pub(crate) fn stranger_on(port: u16) -> Option<Stranger> {
    let us = geteuid().as_raw();
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let tables = tables
        .into_iter()
        .filter_map(|path| fs::read_to_string(path).ok());
    tables
        .filter_map(|table| owners(&table, port).find(|uid| ![0, us].contains(uid)))
        .map(|uid| Stranger { uid })
        .next()
}

/// The owners of the sockets that listen on a port, on whatever address; see proc_net_tcp(5).
fn owners(table: &str, port: u16) -> impl Iterator<Item = u32> {
    table.lines().skip(1).filter_map(move |line| {
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        let state = fields.nth(1)?;
        let uid = fields.nth(3)?.parse().ok()?;
        let (_, hex) = local.rsplit_once(':')?;
        let ours = u16::from_str_radix(hex, 16) == Ok(port) && state == LISTENING;
        ours.then_some(uid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:9B55 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 122 1
   1: 0100007F:9B55 0100007F:A000 01 00000000:00000000 00:00000000 00000000  1001        0 123 1
   2: 00000000:07E8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 124 1
";

    #[test]
    fn the_owner_of_a_listener_is_read_from_the_kernels_table() {
        assert_eq!(owners(TABLE, 39765).collect::<Vec<_>>(), [1000]);
        assert_eq!(owners(TABLE, 2024).collect::<Vec<_>>(), [0]);
        assert_eq!(owners(TABLE, 1).count(), 0);
        assert_eq!(owners("nonsense\n1 2 3\n", 1).count(), 0);
    }

    #[test]
    fn our_own_listener_is_no_stranger() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(stranger_on(port), None);
        if let Ok(table) = fs::read_to_string("/proc/net/tcp") {
            assert_eq!(
                owners(&table, port).collect::<Vec<_>>(),
                [geteuid().as_raw()]
            );
        }
    }
}
