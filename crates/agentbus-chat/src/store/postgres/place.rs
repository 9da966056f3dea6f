//! Where a database is, as it may be shown.

use std::path::Path;
use std::str::FromStr;

use postgres::Config;
use postgres::config::Host;

use super::tls;

const USUAL_PORT: u16 = 5432;

/// Hosts, ports and the name of the database; `None` for a URL that cannot be read. Made of what the
/// driver read, not of the text: a password may stand in more than one part of it, and whoever looks
/// for it in another way than the driver overlooks some.
pub(super) fn place(url: &str) -> Option<String> {
    tls::refuse_broken_password(url).ok()?;
    let (url, _) = tls::authority_of(url);
    let config = Config::from_str(&url).ok()?;
    let hosts: Vec<_> = config.get_hosts().iter().map(name).collect();
    let addresses = config.get_hostaddrs().iter();
    let hosts = match hosts.is_empty() {
        true => addresses.map(ToString::to_string).collect(),
        false => hosts,
    };
    let with_port = |(n, host): (usize, String)| match port(config.get_ports(), n) {
        Some(port) => format!("{host}:{port}"),
        None => host,
    };
    let hosts: Vec<_> = hosts.into_iter().enumerate().map(with_port).collect();
    let database = config.get_dbname().unwrap_or_default();
    Some(format!("postgresql://{}/{database}", hosts.join(",")))
}

fn name(host: &Host) -> String {
    match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(socket) => Path::display(socket).to_string(),
    }
}

/// The port of a host, unless it is the usual one. One port is that of all hosts.
fn port(ports: &[u16], host: usize) -> Option<u16> {
    let port = match ports {
        [port] => Some(port),
        ports => ports.get(host),
    };
    port.copied().filter(|port| *port != USUAL_PORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_in_no_place_however_the_url_is_written() {
        for (url, shown) in [
            (
                "postgresql://u:hunter2@h:5433/d?sslmode=require",
                Some("postgresql://h:5433/d"),
            ),
            (
                "postgresql://u@h/d?password=hun@ter2",
                Some("postgresql://h/d"),
            ),
            (
                "postgresql://u:hunter2@a:1,b:2/d",
                Some("postgresql://a:1,b:2/d"),
            ),
            (
                "host=h user=u password=hunter2 dbname=d",
                Some("postgresql://h/d"),
            ),
            ("postgresql://u:hunter2%40h/d", None),
            ("postgresql://u:hunter2/d", None),
            ("postgresql://h/d?user=u&password=hun@ter2", None),
            ("postgresql://u:hun@ter2@h/d", None),
        ] {
            assert_eq!(place(url).as_deref(), shown, "{url}");
        }
    }
}
