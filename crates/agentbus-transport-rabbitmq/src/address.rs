//! What an `amqp://` URL says.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use agentbus_protocol::Pattern;
use agentbus_transport::TransportError;
use agentbus_transport::remote::{amb, hidden};
use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};

use crate::limits;

/// Every key that may stand behind the `?`.
const KEYS: [&str; 5] = ["namespace", "amb", "ca", "cert", "key"];

/// The virtual host of a URL that names none, or only a slash, as AMB peers write it.
const DEFAULT_VHOST: &str = "/";

/// A URL, understood.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) uri: AMQPUri,
    pub(crate) namespace: String,
    /// Topics of AMB peers that are event types of the bus.
    pub(crate) topics: Vec<Pattern>,
    files: Files,
}

/// Files for an encrypted connection.
#[derive(Debug, Clone, Default)]
struct Files {
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Address {
    pub(crate) fn parse(url: &str) -> Result<Self, TransportError> {
        let (server, query) = url.split_once('?').unwrap_or((url, ""));
        let encrypted = server.starts_with("amqps://");
        if !encrypted && !server.starts_with("amqp://") {
            let reason = format!("`{}` is not amqp:// or amqps://", hidden(server));
            return Err(TransportError::Address(reason));
        }
        let mut uri = AMQPUri::from_str(server).map_err(|error| {
            invalid(&format!("`{}` is not understood ({error})", hidden(server)))
        })?;
        if uri.vhost.is_empty() {
            DEFAULT_VHOST.clone_into(&mut uri.vhost);
        }
        uri.query.heartbeat = Some(limits::HEARTBEAT_SECONDS);
        let mut address = Self {
            uri,
            namespace: String::new(),
            topics: Vec::new(),
            files: Files::default(),
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            address.set(key, value)?;
        }
        address.check(encrypted)?;
        Ok(address)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), TransportError> {
        match key {
            "namespace" => self.namespace = namespace(value)?,
            "amb" => self.topics = topics(value)?,
            "ca" => self.files.ca = Some(value.into()),
            "cert" => self.files.cert = Some(value.into()),
            "key" => self.files.key = Some(value.into()),
            unknown => {
                let known = KEYS.join(", ");
                return Err(invalid(&format!(
                    "there is no key `{unknown}`; the keys are {known}"
                )));
            }
        }
        Ok(())
    }

    fn check(&self, encrypted: bool) -> Result<(), TransportError> {
        let Files { ca, cert, key } = &self.files;
        if cert.is_some() != key.is_some() {
            return Err(invalid(
                "a client certificate needs both cert=FILE and key=FILE",
            ));
        }
        if !encrypted && (ca.is_some() || cert.is_some()) {
            return Err(invalid(
                "ca, cert and key are for an encrypted connection; write amqps://",
            ));
        }
        Ok(())
    }

    /// The host and the port, for messages.
    pub(crate) fn place(&self) -> String {
        let authority = &self.uri.authority;
        format!("{}:{}", authority.host, authority.port)
    }

    /// What may help who cannot reach the broker.
    pub(crate) const fn hint(&self) -> &'static str {
        match self.uri.scheme {
            AMQPScheme::AMQPS => {
                "does a RabbitMQ broker speak TLS there? ca=FILE names an authority to trust, cert=FILE and key=FILE the client's own certificate"
            }
            AMQPScheme::AMQP => {
                "is a RabbitMQ broker running there? One that speaks TLS is reached with amqps://"
            }
        }
    }

    /// Reads the files for an encrypted connection.
    pub(crate) fn tls(&self) -> Result<OwnedTLSConfig, TransportError> {
        let Files { ca, cert, key } = &self.files;
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => Some(OwnedIdentity::PKCS8 {
                pem: read(cert)?,
                key: read(key)?,
            }),
            _ => None,
        };
        let chain = ca.as_ref().map(|ca| {
            String::from_utf8(read(ca)?)
                .map_err(|_| invalid(&format!("`{}` is no PEM file", ca.display())))
        });
        Ok(OwnedTLSConfig {
            identity,
            cert_chain: chain.transpose()?,
        })
    }
}

fn read(file: &Path) -> Result<Vec<u8>, TransportError> {
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

/// Peers hear what lies at the exchange in any case, so nothing is turned off.
fn topics(value: &str) -> Result<Vec<Pattern>, TransportError> {
    let topics = amb::topics(value).map_err(|reason| invalid(&reason))?;
    topics.ok_or_else(|| {
        invalid("`amb=off` cannot be had: AMB peers are at the same exchange; a `namespace` is a place of its own")
    })
}

fn invalid(reason: &str) -> TransportError {
    TransportError::Address(format!(
        "{reason}; a RabbitMQ URL looks like amqp://USER:PASSWORD@HOST:PORT/VHOST?namespace=NAME"
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
        for (url, vhost) in [
            ("amqp://h", "/"),
            ("amqp://h/", "/"),
            ("amqp://h/%2f", "/"),
            ("amqp://h/agents", "agents"),
        ] {
            assert_eq!(Address::parse(url).unwrap().uri.vhost, vhost, "{url}");
        }
        let address = Address::parse("amqp://h").unwrap();
        assert_eq!(address.place(), "h:5672");
        assert_eq!(address.namespace, "");
    }

    #[test]
    fn topics_of_amb_peers_are_named() {
        let address = Address::parse("amqp://h?amb=orders,fraud.>").unwrap();
        let topics: Vec<_> = address.topics.iter().map(Pattern::as_str).collect();
        assert_eq!(topics, ["orders", "fraud.>"]);
        assert!(Address::parse("amqp://h?amb=on").unwrap().topics.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_and_the_password_is_not() {
        for (url, expected) in [
            ("http://h", "`http://h` is not amqp://"),
            ("amqp://h?speed=1", "there is no key `speed`"),
            ("amqp://h?namespace=a.b", "letters, digits"),
            ("amqp://h?amb=off", "`amb=off` cannot be had"),
            ("amqp://h?amb=a b", "topics such as orders,fraud.>"),
            ("amqp://h?ca=/x", "write amqps://"),
            ("amqps://h?cert=/x", "both cert=FILE and key=FILE"),
            ("amqp://u:secret@h:port", "not understood"),
        ] {
            let text = refused(url);
            assert!(text.contains(expected), "{url}: {text}");
            assert!(!text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn a_file_that_is_missing_is_named() {
        let address = Address::parse("amqps://h?ca=/nowhere/ca.pem").unwrap();
        let error = address.tls().unwrap_err().to_string();
        assert!(error.contains("/nowhere/ca.pem"), "{error}");
    }
}
