//! The transports of this build: opened by their URL, and compared.
//!
//! Each has a cargo feature of its name except `memory`, which is always there. What a transport
//! can do is asked of it and never written down a second time: [`table`] is made from
//! [`Capabilities`].

mod semantics;

use std::sync::Arc;

use agentbus_transport::remote::hidden;
use agentbus_transport::{BoxFuture, Capabilities, MemoryTransport, Transport, TransportError};

use crate::Error;

pub use semantics::{Row, rows, table};

/// One kind of transport.
struct Scheme {
    /// What its URLs begin with; the first is the one to write.
    names: &'static [&'static str],
    /// How such a URL looks.
    form: &'static str,
    /// The cargo feature that brings it.
    feature: &'static str,
    capabilities: Option<Capabilities>,
    open: Option<Open>,
}

type Opening<'a> = BoxFuture<'a, Result<Arc<dyn Transport>, TransportError>>;
type Open = for<'a> fn(url: &'a str, agent: &'a str) -> Opening<'a>;

/// All transports that there are, in this build or not.
const SCHEMES: &[Scheme] = &[
    Scheme {
        names: &["memory"],
        form: "memory://",
        feature: "",
        capabilities: Some(MemoryTransport::CAPABILITIES),
        open: Some(memory),
    },
    Scheme {
        names: &["sqlite"],
        form: "sqlite://PATH",
        feature: "sqlite",
        #[cfg(feature = "sqlite")]
        capabilities: Some(agentbus_transport_sqlite::SqliteTransport::CAPABILITIES),
        #[cfg(not(feature = "sqlite"))]
        capabilities: None,
        #[cfg(feature = "sqlite")]
        open: Some(sqlite),
        #[cfg(not(feature = "sqlite"))]
        open: None,
    },
    Scheme {
        names: &["nats", "tls"],
        form: "nats://HOST:PORT",
        feature: "nats",
        #[cfg(feature = "nats")]
        capabilities: Some(agentbus_transport_nats::NatsTransport::CAPABILITIES),
        #[cfg(not(feature = "nats"))]
        capabilities: None,
        #[cfg(feature = "nats")]
        open: Some(nats),
        #[cfg(not(feature = "nats"))]
        open: None,
    },
    Scheme {
        names: &["jetstream"],
        form: "jetstream://HOST:PORT",
        feature: "nats",
        #[cfg(feature = "nats")]
        capabilities: Some(agentbus_transport_nats::JetStreamTransport::CAPABILITIES),
        #[cfg(not(feature = "nats"))]
        capabilities: None,
        #[cfg(feature = "nats")]
        open: Some(nats),
        #[cfg(not(feature = "nats"))]
        open: None,
    },
    Scheme {
        names: &["redis", "rediss"],
        form: "redis://HOST:PORT",
        feature: "redis",
        #[cfg(feature = "redis")]
        capabilities: Some(agentbus_transport_redis::RedisTransport::CAPABILITIES),
        #[cfg(not(feature = "redis"))]
        capabilities: None,
        #[cfg(feature = "redis")]
        open: Some(redis),
        #[cfg(not(feature = "redis"))]
        open: None,
    },
    Scheme {
        names: &["kafka"],
        form: "kafka://HOST:PORT",
        feature: "kafka",
        #[cfg(feature = "kafka")]
        capabilities: Some(agentbus_transport_kafka::KafkaTransport::CAPABILITIES),
        #[cfg(not(feature = "kafka"))]
        capabilities: None,
        #[cfg(feature = "kafka")]
        open: Some(kafka),
        #[cfg(not(feature = "kafka"))]
        open: None,
    },
    Scheme {
        names: &["amqp", "amqps"],
        form: "amqp://HOST:PORT",
        feature: "rabbitmq",
        #[cfg(feature = "rabbitmq")]
        capabilities: Some(agentbus_transport_rabbitmq::RabbitTransport::CAPABILITIES),
        #[cfg(not(feature = "rabbitmq"))]
        capabilities: None,
        #[cfg(feature = "rabbitmq")]
        open: Some(rabbitmq),
        #[cfg(not(feature = "rabbitmq"))]
        open: None,
    },
    Scheme {
        names: &["http", "https", "ws", "wss"],
        form: "http://HOST:PORT",
        feature: "ws",
        #[cfg(feature = "ws")]
        capabilities: Some(agentbus_transport_ws::WsTransport::CAPABILITIES),
        #[cfg(not(feature = "ws"))]
        capabilities: None,
        #[cfg(feature = "ws")]
        open: Some(websocket),
        #[cfg(not(feature = "ws"))]
        open: None,
    },
];

/// Similarity from which on a scheme is suggested; below it a guess is noise.
const SIMILAR: f64 = 0.7;

/// Opens the transport that a URL names; `agent` is who speaks, where the other side asks.
///
/// # Errors
/// Fails when the URL names no transport of this build, saying which it names, and when the
/// transport cannot be opened.
pub async fn open(url: &str, agent: &str) -> Result<Arc<dyn Transport>, Error> {
    let name = match url.split_once(':') {
        // `C:\…` and the like are paths.
        Some((name, _)) if name.len() > 1 => name,
        _ => return Err(Error::Setup(no_url(url))),
    };
    let scheme = SCHEMES.iter().find(|scheme| scheme.names.contains(&name));
    let scheme = scheme.ok_or_else(|| Error::Setup(unknown(url, name)))?;
    let open = scheme.open.ok_or_else(|| {
        let feature = scheme.feature;
        Error::Setup(format!(
            "`{url}` needs a transport that this build leaves out; build it with the feature `{feature}`"
        ))
    })?;
    Ok(open(url, agent).await?)
}

/// A URL without the credentials and the options in it, to be shown.
#[must_use]
pub fn without_secrets(url: &str) -> String {
    let (url, _) = url.split_once('?').unwrap_or((url, ""));
    let Some((scheme, place)) = url.split_once("://") else {
        return url.to_owned();
    };
    // What looks like credentials in a path is part of a file's name.
    let (authority, path) = match (scheme, place.find('/')) {
        ("sqlite", _) => ("", place),
        (_, Some(slash)) => place.split_at(slash),
        (_, None) => (place, ""),
    };
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// What a URL names: the same text for everyone who means the same carrier and writes its address
/// alike.
#[must_use]
pub fn identity(url: &str) -> String {
    let url = without_secrets(url);
    match url.split_once("://") {
        // A file has one name however it is reached; one that is not there yet has that which it
        // is called by.
        Some(("sqlite", path)) => match std::fs::canonicalize(path) {
            Ok(path) => format!("sqlite://{}", path.display()),
            Err(_) => url,
        },
        Some((_, place)) if !place.is_empty() => url.trim_end_matches('/').to_owned(),
        _ => url,
    }
}

/// The capabilities of every transport of this build, each with the form of its URL.
#[must_use]
pub fn all() -> Vec<(&'static str, Capabilities)> {
    let built = |scheme: &Scheme| Some((scheme.form, scheme.capabilities?));
    SCHEMES.iter().filter_map(built).collect()
}

fn memory<'a>(url: &'a str, _agent: &'a str) -> Opening<'a> {
    Box::pin(async move {
        // What stands behind it would have no effect, and somebody meant it to have one.
        if url != "memory://" {
            let message = format!(
                "`{url}`: a broker in memory has neither path nor options; write memory://, or sqlite://PATH for a bus that is kept"
            );
            return Err(TransportError::Address(message));
        }
        Ok(Arc::new(MemoryTransport::new()) as Arc<dyn Transport>)
    })
}

#[cfg(feature = "sqlite")]
fn sqlite<'a>(url: &'a str, _agent: &'a str) -> Opening<'a> {
    Box::pin(async move {
        let opened = agentbus_transport_sqlite::SqliteTransport::connect(url).await?;
        Ok(Arc::new(opened) as Arc<dyn Transport>)
    })
}

#[cfg(feature = "nats")]
fn nats<'a>(url: &'a str, _agent: &'a str) -> Opening<'a> {
    Box::pin(agentbus_transport_nats::open(url))
}

#[cfg(feature = "redis")]
fn redis<'a>(url: &'a str, _agent: &'a str) -> Opening<'a> {
    Box::pin(async move {
        let opened = agentbus_transport_redis::RedisTransport::connect(url).await?;
        Ok(Arc::new(opened) as Arc<dyn Transport>)
    })
}

#[cfg(feature = "kafka")]
fn kafka<'a>(url: &'a str, _agent: &'a str) -> Opening<'a> {
    Box::pin(async move {
        let opened = agentbus_transport_kafka::KafkaTransport::connect(url).await?;
        Ok(Arc::new(opened) as Arc<dyn Transport>)
    })
}

#[cfg(feature = "rabbitmq")]
fn rabbitmq<'a>(url: &'a str, _agent: &'a str) -> Opening<'a> {
    Box::pin(async move {
        let opened = agentbus_transport_rabbitmq::RabbitTransport::connect(url).await?;
        Ok(Arc::new(opened) as Arc<dyn Transport>)
    })
}

#[cfg(feature = "ws")]
fn websocket<'a>(url: &'a str, agent: &'a str) -> Opening<'a> {
    Box::pin(async move {
        let opened = agentbus_transport_ws::WsTransport::connect(url, agent).await?;
        Ok(Arc::new(opened) as Arc<dyn Transport>)
    })
}

/// The URLs of this build, as part of a sentence.
fn known() -> String {
    let forms: Vec<_> = all().into_iter().map(|(form, _)| form).collect();
    forms.join(", ")
}

fn unknown(url: &str, name: &str) -> String {
    let names = SCHEMES.iter().flat_map(|scheme| scheme.names);
    let scored = names.map(|known| (strsim::jaro_winkler(name, known), *known));
    let nearest = scored.max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = match nearest {
        Some((score, nearest)) if score > SIMILAR => format!("; did you mean `{nearest}://`?"),
        _ => String::new(),
    };
    format!(
        "`{}` names no transport{hint}; this build knows {}",
        hidden(url),
        known()
    )
}

/// What is said to somebody who gave a path, or nothing that looks like a URL.
fn no_url(url: &str) -> String {
    let url = &*hidden(url);
    let (path, place) = match url.starts_with('/') {
        true => (url, "from the root"),
        false if url.is_empty() => ("bus.db", "in the working directory"),
        false => (url, "in the working directory"),
    };
    format!(
        "`{url}` is no URL; for a log in a file {place} write sqlite://{path}; this build knows {}",
        known()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refused(url: &str) -> String {
        open(url, "test").await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn an_unknown_scheme_is_answered_with_the_nearest() {
        let text = refused("sqlit://bus.db").await;
        assert!(text.contains("did you mean `sqlite://`?"), "{text}");
        assert!(text.contains("this build knows memory://, "), "{text}");
        let text = refused("gopher://x").await;
        assert!(!text.contains("did you mean"), "{text}");
    }

    #[tokio::test]
    async fn a_path_is_answered_with_its_url() {
        assert!(refused("bus.db").await.contains("sqlite://bus.db"));
        let text = refused("/var/bus.db").await;
        assert!(text.contains("sqlite:///var/bus.db"), "{text}");
        assert!(refused("").await.contains("sqlite://bus.db"));
    }

    #[tokio::test]
    async fn memory_has_no_options() {
        assert!(refused("memory://x").await.contains("write memory://"));
        open("memory://", "test").await.unwrap();
    }

    #[cfg(feature = "sqlite")]
    #[tokio::test]
    async fn a_colon_without_slashes_is_answered_with_them() {
        assert!(refused("sqlite:bus.db").await.contains("sqlite://bus.db"));
    }
}
