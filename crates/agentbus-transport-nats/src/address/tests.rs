//! URLs that are understood, and what is said about those that are not.

use std::time::Duration;

use agentbus_protocol::Pattern;
use agentbus_transport::Durability;

use super::{Address, Dialect, Login, Retention, Scheme, TlsMode, span_of};

fn read(url: &str) -> Address {
    Address::parse(url).unwrap()
}

fn refused(url: &str, expect: &str) {
    let said = Address::parse(url).unwrap_err().to_string();
    assert!(said.contains(expect), "{url}: {said}");
}

#[test]
fn hosts_have_ports_and_may_be_several() {
    assert_eq!(read("nats://localhost").hosts, ["localhost:4222"]);
    let cluster = read("jetstream://a:1,b,[::1]:3/");
    assert_eq!(cluster.hosts, ["a:1", "b:4222", "[::1]:3"]);
    assert_eq!(cluster.scheme, Scheme::JetStream);
    assert_eq!(cluster.shown(), "jetstream://a:1,b:4222,[::1]:3");
}

#[test]
fn every_way_to_log_in_is_read() {
    let password = Login::Password {
        user: "al".to_owned(),
        password: "p@ss+1".to_owned(),
    };
    assert_eq!(read("nats://al:p%40ss+1@h").login, password);
    assert_eq!(
        read("nats://s3cret@h").login,
        Login::Token("s3cret".to_owned())
    );
    assert_eq!(read("nats://h?token=t").login, Login::Token("t".to_owned()));
    assert_eq!(read("nats://h?nkey=/f").login, Login::Nkey("/f".into()));
    assert_eq!(
        read("nats://h?creds=/f").login,
        Login::Credentials("/f".into())
    );
    assert_eq!(read("nats://h").login, Login::Nobody);
    refused("nats://al:p@h?token=t", "more than one way to log in");
}

#[test]
fn secrets_are_not_shown() {
    let address = read("nats://al:hunter2@h?name=n");
    assert!(!format!("{address:?} {}", address.shown()).contains("hunter2"));
}

#[test]
fn tls_is_as_the_url_says() {
    assert_eq!(read("nats://h").tls.mode, TlsMode::AsAsked);
    assert_eq!(read("tls://h").tls.mode, TlsMode::Required);
    let tls = read("nats://h?tls=first&ca=/ca&cert=/c&key=/k").tls;
    assert_eq!(tls.mode, TlsMode::First);
    assert_eq!(tls.identity, Some(("/c".into(), "/k".into())));
    refused("nats://h?cert=/c", "needs both");
    refused("nats://h?tls=maybe", "required or first");
}

#[test]
fn a_stream_is_as_the_url_says() {
    let kept = read("jetstream://h?stream=S&subjects=a.>,b&storage=memory&retention=workqueue&replicas=3&max_age=2h&max_bytes=9&max_messages=8&ack_wait=5s&durability=disk").stream;
    assert_eq!((kept.name.as_str(), kept.replicas), ("S", 3));
    assert_eq!(kept.subjects, ["a.>", "b"]);
    assert!(kept.in_memory);
    assert_eq!(kept.retention, Retention::WorkQueue);
    assert_eq!(kept.max_age, Duration::from_secs(7200));
    assert_eq!((kept.max_bytes, kept.max_messages), (Some(9), Some(8)));
    assert_eq!(kept.ack_wait, Duration::from_secs(5));
    assert_eq!(kept.durability, Some(Durability::Disk));
}

#[test]
fn events_are_shared_with_whom_the_url_says() {
    assert_eq!(read("nats://h").dialect, Dialect::OpenAgentIo);
    assert_eq!(read("nats://h?amb=on").dialect, Dialect::Amb(Vec::new()));
    let topics = read("nats://h?amb=orders,fraud.>");
    let topics: Vec<_> = topics
        .dialect
        .topics()
        .iter()
        .map(Pattern::as_str)
        .collect();
    assert_eq!(topics, ["orders", "fraud.>"]);
}

#[test]
fn what_is_not_understood_is_said() {
    refused("http://h", "neither nats:// nor jetstream://");
    refused("nats://", "is no server");
    refused("nats://h:port", "is no server");
    refused("nats://h?color=red", "there is no key `color`");
    refused("nats://h?stream=S", "only jetstream://");
    refused("nats://h?amb=a..b", "topics such as orders,fraud.>");
    refused("jetstream://h?amb=on", "there is no key `amb`");
    refused("jetstream://h?replicas=many", "a whole number");
    refused("jetstream://h?max_age=soon", "a time such as");
}

#[test]
fn times_have_units() {
    assert_eq!(span_of("500ms"), Some(Duration::from_millis(500)));
    assert_eq!(span_of("7d"), Some(Duration::from_secs(604_800)));
    for wrong in ["", "7", "d", "7w", "99999999999999999999s"] {
        assert_eq!(span_of(wrong), None, "{wrong}");
    }
}
