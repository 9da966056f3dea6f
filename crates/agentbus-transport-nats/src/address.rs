//! The URL of a NATS server, with everything that is set through it.
//!
//! ```text
//! nats://[USER:PASSWORD@|TOKEN@]HOST[:PORT][,HOST[:PORT]…][?KEY=VALUE&…]
//! jetstream://…
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use agentbus_transport::remote::amb;
use agentbus_transport::{Durability, TransportError};
use url::form_urlencoded;

use crate::dialect::Dialect;
use crate::limits;

/// Keys that both schemes take.
const CONNECTION_KEYS: &[&str] = &["ca", "cert", "creds", "key", "name", "nkey", "tls", "token"];

/// Keys of connections that keep nothing.
const CORE_KEYS: &[&str] = &["amb"];

/// Keys that say what is kept.
const STREAM_KEYS: &[&str] = &[
    "ack_wait",
    "durability",
    "max_age",
    "max_bytes",
    "max_messages",
    "replicas",
    "retention",
    "storage",
    "stream",
    "subjects",
];

/// The port of a server that names none.
const DEFAULT_PORT: u16 = 4222;

/// A server or a cluster, and how to speak to it.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) scheme: Scheme,
    /// `host:port` of each server.
    pub(crate) hosts: Vec<String>,
    pub(crate) login: Login,
    pub(crate) tls: Tls,
    /// What the server shows of this connection.
    pub(crate) name: String,
    pub(crate) dialect: Dialect,
    pub(crate) stream: StreamSettings,
}

/// Which of the two transports is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Nats,
    JetStream,
}

impl Scheme {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nats => "nats",
            Self::JetStream => "jetstream",
        }
    }

    /// The keys that only it takes.
    const fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Nats => CORE_KEYS,
            Self::JetStream => STREAM_KEYS,
        }
    }
}

/// Who is speaking. Secrets are kept out of every text that this crate writes.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Login {
    Nobody,
    Password {
        user: String,
        password: String,
    },
    Token(String),
    /// A file that holds the seed of an nkey.
    Nkey(PathBuf),
    /// A credentials file: a JWT and the seed that belongs to it.
    Credentials(PathBuf),
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nobody => "Nobody",
            Self::Password { .. } => "Password",
            Self::Token(_) => "Token",
            Self::Nkey(_) => "Nkey",
            Self::Credentials(_) => "Credentials",
        })
    }
}

/// Whether and how the connection is encrypted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    pub(crate) mode: TlsMode,
    /// Authorities to trust beside those of the system.
    pub(crate) ca: Option<PathBuf>,
    /// The client's own certificate and its key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum TlsMode {
    /// As the server wants it.
    #[default]
    AsAsked,
    /// Refuses a server without it.
    Required,
    /// Before the server has said anything.
    First,
}

/// What a stream is made like when there is none of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamSettings {
    pub(crate) name: String,
    pub(crate) subjects: Vec<String>,
    pub(crate) in_memory: bool,
    pub(crate) retention: Retention,
    pub(crate) replicas: usize,
    pub(crate) max_age: Duration,
    pub(crate) max_bytes: Option<i64>,
    pub(crate) max_messages: Option<i64>,
    pub(crate) ack_wait: Duration,
    /// What the operator says that an acknowledged message survives; see [`durability`].
    ///
    /// [`durability`]: crate::jetstream::durability
    pub(crate) durability: Option<Durability>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retention {
    /// Until age or size say otherwise.
    Limits,
    /// While somebody has not acknowledged it.
    Interest,
    /// Until one consumer has acknowledged it.
    WorkQueue,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            name: "AGENTBUS".to_owned(),
            // Events and dead letters. Those of tenants are named in the URL: a server takes no
            // two subjects that could overlap, and to it `*` may be a tenant called `events`.
            subjects: ["acp.v1.events.>", "acp.v1.dlq.>"]
                .map(str::to_owned)
                .to_vec(),
            in_memory: false,
            retention: Retention::Limits,
            replicas: 1,
            max_age: limits::RETENTION_AGE,
            max_bytes: None,
            max_messages: None,
            ack_wait: limits::ACK_WAIT,
            durability: None,
        }
    }
}

impl Address {
    /// Reads a URL.
    pub(crate) fn parse(url: &str) -> Result<Self, TransportError> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let scheme = match scheme {
            "nats" | "tls" => Scheme::Nats,
            "jetstream" => Scheme::JetStream,
            other => {
                return Err(invalid(
                    Scheme::Nats,
                    format!("`{other}://` is neither nats:// nor jetstream://"),
                ));
            }
        };
        let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
        let authority = authority.trim_end_matches('/');
        let (userinfo, hosts) = match authority.rsplit_once('@') {
            Some((userinfo, hosts)) => (Some(userinfo), hosts),
            None => (None, authority),
        };
        let mut keys = Keys::read(scheme, query)?;
        let mut tls = keys.tls()?;
        if url.starts_with("tls://") && tls.mode == TlsMode::AsAsked {
            tls.mode = TlsMode::Required;
        }
        Ok(Self {
            scheme,
            hosts: hosts_of(scheme, hosts)?,
            login: keys.login(userinfo)?,
            tls,
            name: keys.take("name").unwrap_or_else(|| "agentbus".to_owned()),
            dialect: keys.dialect()?,
            stream: keys.stream()?,
        })
    }

    /// The address as it may be shown: without secrets.
    pub(crate) fn shown(&self) -> String {
        format!("{}://{}", self.scheme.name(), self.hosts.join(","))
    }
}

/// The error for a URL that cannot be understood.
pub(crate) fn invalid(scheme: Scheme, reason: impl std::fmt::Display) -> TransportError {
    TransportError::Address(format!(
        "the {} transport cannot be opened: {reason}",
        scheme.name()
    ))
}

fn hosts_of(scheme: Scheme, hosts: &str) -> Result<Vec<String>, TransportError> {
    let mut all = Vec::new();
    for host in hosts.split(',') {
        let parsed = url::Url::parse(&format!("nats://{host}"));
        let named = parsed
            .ok()
            .and_then(|url| Some((url.host_str()?.to_owned(), url.port())));
        let Some((name, port)) = named.filter(|(name, _)| !name.is_empty()) else {
            let reason = format!("`{host}` is no server; write nats://HOST:PORT");
            return Err(invalid(scheme, reason));
        };
        all.push(format!("{name}:{}", port.unwrap_or(DEFAULT_PORT)));
    }
    Ok(all)
}

/// The part of a URL after `?`, with what has not been used yet.
struct Keys {
    scheme: Scheme,
    values: BTreeMap<String, String>,
}

impl Keys {
    fn read(scheme: Scheme, query: &str) -> Result<Self, TransportError> {
        let mut values = BTreeMap::new();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let of_stream = STREAM_KEYS.contains(&&*key);
            if !CONNECTION_KEYS.contains(&&*key) && !scheme.keys().contains(&&*key) {
                return Err(unknown_key(scheme, &key, of_stream));
            }
            values.insert(key.into_owned(), value.into_owned());
        }
        Ok(Self { scheme, values })
    }

    fn take(&mut self, key: &str) -> Option<String> {
        self.values.remove(key)
    }

    fn wrong(&self, key: &str, value: &str, wanted: &str) -> TransportError {
        invalid(
            self.scheme,
            format!("`{key}={value}` is not understood; {key} is {wanted}"),
        )
    }

    /// Takes a value that one of a few words must give.
    fn one_of<T: Copy>(
        &mut self,
        key: &str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, TransportError> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        match words.iter().find(|(word, _)| *word == value) {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => {
                let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                Err(self.wrong(key, &value, &words.join(" or ")))
            }
        }
    }

    fn number<T: std::str::FromStr>(&mut self, key: &str) -> Result<Option<T>, TransportError> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        let parsed = value.parse();
        parsed
            .map(Some)
            .map_err(|_| self.wrong(key, &value, "a whole number"))
    }

    fn span(&mut self, key: &str) -> Result<Option<Duration>, TransportError> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        let span = span_of(&value);
        span.map(Some)
            .ok_or_else(|| self.wrong(key, &value, "a time such as 30s, 12h or 7d"))
    }

    fn login(&mut self, userinfo: Option<&str>) -> Result<Login, TransportError> {
        let mut ways = Vec::new();
        if let Some(userinfo) = userinfo {
            ways.push(match userinfo.split_once(':') {
                Some((user, password)) => Login::Password {
                    user: decoded(user),
                    password: decoded(password),
                },
                None => Login::Token(decoded(userinfo)),
            });
        }
        ways.extend(self.take("token").map(Login::Token));
        ways.extend(self.take("nkey").map(|file| Login::Nkey(file.into())));
        ways.extend(
            self.take("creds")
                .map(|file| Login::Credentials(file.into())),
        );
        match (ways.pop(), ways.is_empty()) {
            (None, _) => Ok(Login::Nobody),
            (Some(way), true) => Ok(way),
            (Some(_), false) => {
                let reason = "the URL names more than one way to log in; keep one of user and password, token, nkey and creds";
                Err(invalid(self.scheme, reason))
            }
        }
    }

    fn tls(&mut self) -> Result<Tls, TransportError> {
        let modes = [("required", TlsMode::Required), ("first", TlsMode::First)];
        let mode = self.one_of("tls", &modes)?.unwrap_or_default();
        let ca = self.take("ca").map(PathBuf::from);
        let identity = match (self.take("cert"), self.take("key")) {
            (Some(cert), Some(key)) => Some((cert.into(), key.into())),
            (None, None) => None,
            _ => {
                let reason = "a client certificate needs both cert=FILE and key=FILE";
                return Err(invalid(self.scheme, reason));
            }
        };
        Ok(Tls { mode, ca, identity })
    }

    fn dialect(&mut self) -> Result<Dialect, TransportError> {
        let topics = self.take("amb").map(|value| amb::topics(&value));
        let topics = topics.transpose();
        let topics = topics.map_err(|reason| invalid(self.scheme, reason))?;
        Ok(topics.flatten().map_or(Dialect::OpenAgentIo, Dialect::Amb))
    }

    fn stream(&mut self) -> Result<StreamSettings, TransportError> {
        let defaults = StreamSettings::default();
        let subjects = self.take("subjects");
        let subjects = subjects.map(|list| list.split(',').map(str::to_owned).collect());
        let storages = [("file", false), ("memory", true)];
        let retentions = [
            ("limits", Retention::Limits),
            ("interest", Retention::Interest),
            ("workqueue", Retention::WorkQueue),
        ];
        let levels = [
            ("memory", Durability::Memory),
            ("os", Durability::Os),
            ("disk", Durability::Disk),
            ("replicated", Durability::Replicated),
        ];
        Ok(StreamSettings {
            name: self.take("stream").unwrap_or(defaults.name),
            subjects: subjects.unwrap_or(defaults.subjects),
            in_memory: self.one_of("storage", &storages)?.unwrap_or_default(),
            retention: self
                .one_of("retention", &retentions)?
                .unwrap_or(defaults.retention),
            replicas: self.number("replicas")?.unwrap_or(defaults.replicas),
            max_age: self.span("max_age")?.unwrap_or(defaults.max_age),
            max_bytes: self.number("max_bytes")?,
            max_messages: self.number("max_messages")?,
            ack_wait: self.span("ack_wait")?.unwrap_or(defaults.ack_wait),
            durability: self.one_of("durability", &levels)?,
        })
    }
}

fn unknown_key(scheme: Scheme, key: &str, of_stream: bool) -> TransportError {
    if of_stream {
        return invalid(
            scheme,
            format!("`{key}` says how messages are kept, which only jetstream:// does"),
        );
    }
    let known = [CONNECTION_KEYS, scheme.keys()].concat().join(", ");
    invalid(
        scheme,
        format!("there is no key `{key}`; the keys are {known}"),
    )
}

fn decoded(part: &str) -> String {
    // A `+` in a password is a plus sign, not the blank of a form.
    let part = part.replace('+', "%2B");
    form_urlencoded::parse(part.as_bytes())
        .map(|(key, _)| key.into_owned())
        .next()
        .unwrap_or_default()
}

/// Reads `500ms`, `30s`, `15m`, `12h` or `7d`.
fn span_of(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let seconds = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return None,
    };
    Some(Duration::from_secs(number.checked_mul(seconds)?))
}

#[cfg(test)]
mod tests;
