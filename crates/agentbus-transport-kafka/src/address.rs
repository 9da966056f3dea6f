//! What a `kafka://` URL says.

use agentbus_protocol::{Pattern, Subject};
use agentbus_transport::TransportError;
use agentbus_transport::remote::{amb, hidden};

use crate::limits;

/// Every key that may stand behind the `?`.
const KEYS: [&str; 3] = ["namespace", "replicas", "amb"];

/// The port that a broker has when the URL does not say.
const PORT: u16 = 9092;

/// A URL, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// `HOST:PORT`, several of them with commas between.
    pub(crate) servers: String,
    /// What the names of all topics begin with.
    pub(crate) namespace: String,
    /// How many brokers keep each topic that is made; `None` leaves it to the brokers.
    pub(crate) replicas: Option<i32>,
    /// Topics that are shared with AMB peers, in the order of the URL.
    pub(crate) amb: Vec<Subject>,
    /// The same, as event types of the bus.
    pub(crate) shared: Vec<Pattern>,
}

impl Address {
    pub(crate) fn parse(url: &str) -> Result<Self, TransportError> {
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        let Some(servers) = place.strip_prefix("kafka://") else {
            return Err(invalid(&format!("`{}` is not kafka://", hidden(url))));
        };
        if servers.contains('@') {
            return Err(invalid(&format!(
                "`{}` has credentials, and brokers that ask for them are not supported yet; use a listener without them",
                hidden(url)
            )));
        }
        let servers: Result<Vec<_>, _> = servers
            .trim_end_matches('/')
            .split(',')
            .map(server)
            .collect();
        let mut address = Self {
            servers: servers?.join(","),
            namespace: "agentbus".to_owned(),
            replicas: None,
            amb: Vec::new(),
            shared: Vec::new(),
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            address.set(key, value)?;
        }
        Ok(address)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), TransportError> {
        match key {
            "namespace" => self.namespace = namespace(value)?,
            "replicas" => {
                let number = value
                    .parse()
                    .ok()
                    .filter(|number| (1..=99).contains(number));
                let number = number.ok_or_else(|| {
                    invalid(&format!("`replicas={value}` is not understood; replicas is how many brokers keep each topic, at least 1"))
                })?;
                self.replicas = Some(number);
            }
            "amb" => {
                self.amb = topics(value)?;
                self.shared = self.amb.iter().map(Pattern::from).collect();
            }
            unknown => {
                let known = KEYS.join(", ");
                return Err(invalid(&format!(
                    "there is no key `{unknown}`; the keys are {known}"
                )));
            }
        }
        Ok(())
    }
}

fn server(text: &str) -> Result<String, TransportError> {
    let wrong = || invalid(&format!("`{text}` is no HOST:PORT"));
    let (host, port) = match text.rsplit_once(':') {
        // The colons of an address in brackets are its own.
        Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| wrong())?),
        _ => (text, PORT),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
    if host.is_empty() || !host.bytes().all(plain) {
        return Err(wrong());
    }
    Ok(format!("{host}:{port}"))
}

fn is_name(text: &str) -> bool {
    // What Kafka takes as the name of a topic.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !text.is_empty() && text.len() <= 249 && text.bytes().all(plain)
}

fn namespace(value: &str) -> Result<String, TransportError> {
    if value.len() > limits::NAMESPACE_BYTES_MAX || !is_name(value) {
        return Err(invalid(&format!(
            "`namespace={value}` is not understood; a namespace is up to {} letters, digits, `-`, `_` and `.`",
            limits::NAMESPACE_BYTES_MAX
        )));
    }
    Ok(value.to_owned())
}

fn topics(value: &str) -> Result<Vec<Subject>, TransportError> {
    let mut topics: Vec<Subject> = Vec::new();
    for name in value.split(',') {
        let subject = Subject::parse(name).ok().filter(|_| is_name(name));
        let subject = subject.ok_or_else(|| {
            invalid(&format!(
                "`{name}` in `amb={value}` cannot be both a topic of Kafka and a subject; both take words of letters, digits, `-` and `_` with dots between"
            ))
        })?;
        if !topics.contains(&subject) {
            topics.push(subject);
        }
    }
    if topics.len() > amb::TOPICS_MAX {
        return Err(invalid(&format!(
            "`amb` names {} topics; at most {} are read by every client",
            topics.len(),
            amb::TOPICS_MAX
        )));
    }
    Ok(topics)
}

fn invalid(reason: &str) -> TransportError {
    TransportError::Address(format!(
        "{reason}; a Kafka URL looks like kafka://HOST:PORT,HOST:PORT?namespace=NAME"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_url_has_defaults() {
        let address = Address::parse("kafka://127.0.0.1").unwrap();
        assert_eq!(address.servers, "127.0.0.1:9092");
        assert_eq!(address.namespace, "agentbus");
        assert_eq!((address.replicas, address.amb.len()), (None, 0));
    }

    #[test]
    fn every_key_and_every_broker_is_read() {
        let url = "kafka://a:1,[::1]:2,c/?namespace=one&replicas=3&amb=orders,fraud.alerts,orders";
        let address = Address::parse(url).unwrap();
        assert_eq!(address.servers, "a:1,[::1]:2,c:9092");
        assert_eq!(address.namespace, "one");
        assert_eq!(address.replicas, Some(3));
        let amb: Vec<_> = address.amb.iter().map(Subject::as_str).collect();
        assert_eq!(amb, ["orders", "fraud.alerts"]);
    }

    #[test]
    fn what_is_wrong_is_named_and_the_password_is_not() {
        for (url, expected) in [
            ("http://h", "`http://h` is not kafka://"),
            ("kafka://", "`` is no HOST:PORT"),
            ("kafka://a:b", "`a:b` is no HOST:PORT"),
            ("kafka://u:secret@h", "without them"),
            ("kafka://h?speed=1", "there is no key `speed`"),
            ("kafka://h?replicas=0", "at least 1"),
            ("kafka://h?namespace=a:b", "letters, digits"),
            ("kafka://h?amb=a,b c", "`b c` in `amb=a,b c`"),
        ] {
            let text = Address::parse(url).unwrap_err().to_string();
            assert!(text.contains(expected), "{url}: {text}");
            assert!(!text.contains("secret"), "{text}");
        }
    }
}
