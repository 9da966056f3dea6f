//! What a `redis://` URL says.

use std::path::PathBuf;

use agentbus_protocol::Pattern;
use agentbus_transport::remote::{amb, hidden};
use agentbus_transport::{Durability, TransportError};
use redis::io::tcp::TcpSettings;
use redis::{Client, ClientTlsConfig, ConnectionInfo, IntoConnectionInfo, TlsCertificates};

use crate::commands::failed;
use crate::limits;

/// Every key that may stand behind the `?`.
const KEYS: [&str; 7] = ["namespace", "log", "amb", "durability", "ca", "cert", "key"];

/// A URL, understood.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    server: ConnectionInfo,
    encrypted: bool,
    tls: Tls,
    pub(crate) settings: Settings,
}

/// How the bus uses the server.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) namespace: String,
    /// Entries that the log keeps.
    pub(crate) log: u64,
    /// Whether AMB's own streams are written too.
    pub(crate) amb: bool,
    /// Topics of AMB peers that are event types of the bus.
    pub(crate) topics: Vec<Pattern>,
    /// What an acknowledged message survives, where the operator knows better than the server's
    /// settings tell.
    pub(crate) durability: Option<Durability>,
}

/// Files for an encrypted connection.
#[derive(Debug, Clone, Default)]
struct Tls {
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Address {
    pub(crate) fn parse(url: &str) -> Result<Self, TransportError> {
        let (server, query) = url.split_once('?').unwrap_or((url, ""));
        let encrypted = server.starts_with("rediss://");
        if !encrypted && !server.starts_with("redis://") {
            let reason = format!("`{}` is not redis:// or rediss://", hidden(url));
            return Err(TransportError::Address(reason));
        }
        let info = server.into_connection_info().map_err(|error| {
            invalid(&format!("`{}` is not understood ({error})", hidden(server)))
        })?;
        // A small command must not wait until the server has acknowledged the one before it.
        let eager = TcpSettings::default().set_nodelay(true);
        let mut address = Self {
            server: info.set_tcp_settings(eager),
            encrypted,
            tls: Tls::default(),
            settings: Settings {
                namespace: String::new(),
                log: limits::LOG_ENTRIES,
                amb: false,
                topics: Vec::new(),
                durability: None,
            },
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            address.set(key, value)?;
        }
        address.check()?;
        Ok(address)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), TransportError> {
        let settings = &mut self.settings;
        match key {
            "namespace" => settings.namespace = namespace(value)?,
            "log" => settings.log = entries(value)?,
            "amb" => {
                let topics = amb::topics(value).map_err(|reason| invalid(&reason))?;
                settings.amb = topics.is_some();
                settings.topics = topics.unwrap_or_default();
            }
            "durability" => settings.durability = Some(one_of(key, value, LEVELS)?),
            "ca" => self.tls.ca = Some(value.into()),
            "cert" => self.tls.cert = Some(value.into()),
            "key" => self.tls.key = Some(value.into()),
            unknown => {
                let known = KEYS.join(", ");
                return Err(invalid(&format!(
                    "there is no key `{unknown}`; the keys are {known}"
                )));
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), TransportError> {
        let Tls { ca, cert, key } = &self.tls;
        if cert.is_some() != key.is_some() {
            return Err(invalid(
                "a client certificate needs both cert=FILE and key=FILE",
            ));
        }
        if !self.encrypted && (ca.is_some() || cert.is_some()) {
            return Err(invalid(
                "ca, cert and key are for an encrypted connection; write rediss://",
            ));
        }
        Ok(())
    }

    /// The host and the port, for messages.
    pub(crate) fn place(&self) -> String {
        self.server.addr().to_string()
    }

    /// What may help who cannot reach the server.
    pub(crate) const fn hint(&self) -> &'static str {
        if self.encrypted {
            "does a Redis server speak TLS there? ca=FILE names an authority to trust, cert=FILE and key=FILE the client's own certificate"
        } else {
            "is a Redis server running there? One that speaks TLS is reached with rediss://"
        }
    }

    /// The client library's handle, which has not connected yet.
    pub(crate) fn client(&self) -> Result<Client, TransportError> {
        if self.encrypted {
            // The library takes the one of the process, and panics where there is none. What the
            // program has chosen itself stays.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let Tls { ca, cert, key } = &self.tls;
        if ca.is_none() && cert.is_none() {
            return Client::open(self.server.clone()).map_err(|error| failed(&error));
        }
        let client_tls = match (cert, key) {
            (Some(cert), Some(key)) => Some(ClientTlsConfig {
                client_cert: read(cert)?,
                client_key: read(key)?,
            }),
            _ => None,
        };
        let root_cert = ca.as_ref().map(read).transpose()?;
        let files = TlsCertificates {
            client_tls,
            root_cert,
        };
        Client::build_with_tls(self.server.clone(), files).map_err(|error| failed(&error))
    }
}

const LEVELS: &[(&str, Durability)] = &[
    ("memory", Durability::Memory),
    ("os", Durability::Os),
    ("disk", Durability::Disk),
    ("replicated", Durability::Replicated),
];

fn read(file: &PathBuf) -> Result<Vec<u8>, TransportError> {
    std::fs::read(file)
        .map_err(|error| invalid(&format!("`{}` cannot be read: {error}", file.display())))
}

fn namespace(value: &str) -> Result<String, TransportError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if value.is_empty() || value.len() > limits::NAMESPACE_BYTES_MAX || !value.bytes().all(plain) {
        return Err(invalid(&format!(
            "`namespace={value}` is not understood; a namespace is up to {} letters, digits, `-` and `_`",
            limits::NAMESPACE_BYTES_MAX
        )));
    }
    Ok(value.to_owned())
}

fn entries(value: &str) -> Result<u64, TransportError> {
    let number = value.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| {
        invalid(&format!(
            "`log={value}` is not understood; log is how many messages a replay can reach back, at least 1"
        ))
    })
}

fn one_of<T: Copy>(key: &str, value: &str, words: &[(&str, T)]) -> Result<T, TransportError> {
    let found = words.iter().find(|(word, _)| *word == value);
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        invalid(&format!(
            "`{key}={value}` is not understood; {key} is {}",
            words.join(" or ")
        ))
    })
}

fn invalid(reason: &str) -> TransportError {
    TransportError::Address(format!(
        "{reason}; a Redis URL looks like redis://USER:PASSWORD@HOST:PORT/DATABASE?namespace=NAME"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> String {
        Address::parse(url).unwrap_err().to_string()
    }

    #[test]
    fn a_plain_url_has_defaults() {
        let address = Address::parse("redis://127.0.0.1:6379/2").unwrap();
        assert_eq!(address.settings.namespace, "");
        assert_eq!(address.settings.log, limits::LOG_ENTRIES);
        assert!(!address.settings.amb);
    }

    #[test]
    fn every_key_is_read() {
        let url = "rediss://u:p@h:1/0?namespace=a-b&log=5&amb=on&durability=disk&ca=/x";
        let address = Address::parse(url).unwrap();
        assert_eq!(address.settings.namespace, "a-b");
        assert_eq!(address.settings.log, 5);
        assert!(address.settings.amb);
        assert_eq!(address.settings.durability, Some(Durability::Disk));
    }

    #[test]
    fn topics_of_amb_peers_are_named() {
        let address = Address::parse("redis://h?amb=orders,fraud.>,orders").unwrap();
        assert!(address.settings.amb);
        let topics: Vec<_> = address
            .settings
            .topics
            .iter()
            .map(Pattern::as_str)
            .collect();
        assert_eq!(topics, ["orders", "fraud.>"]);
        let off = Address::parse("redis://h?amb=off").unwrap();
        assert!(!off.settings.amb && off.settings.topics.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_and_the_password_is_not() {
        for (url, expected) in [
            ("http://h", "`http://h` is not redis://"),
            ("redis://h?speed=1", "there is no key `speed`"),
            ("redis://h?log=0", "`log=0` is not understood"),
            ("redis://h?amb=a..b", "topics such as orders,fraud.>"),
            ("redis://h?namespace=a:b", "letters, digits"),
            ("redis://h?ca=/x", "write rediss://"),
            ("rediss://h?cert=/x", "both cert=FILE and key=FILE"),
            ("redis://u:secret@h:port", "not understood"),
        ] {
            let text = refused(url);
            assert!(text.contains(expected), "{url}: {text}");
            assert!(!text.contains("secret"), "{text}");
        }
    }
}
