//! One way to make an HTTP client.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures_util::StreamExt;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use url::{Host, Url};

/// Longest that a connection may take to open; what answers takes as long as it takes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Hops from a URL to what it stands for; more is a circle.
const REDIRECTS_MAX: usize = 10;

/// What this machine trusts. Reading it takes longer than anything else about a client, so it is
/// read once; a machine without certificates can still reach what needs none.
static TRUST: LazyLock<Result<ClientConfig, rustls::Error>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "some certificates of the system cannot be read");
    }
    roots.add_parsable_certificates(found.certs);
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
});

/// Makes a client that follows no redirect: a server must not send our credentials elsewhere.
pub(super) fn client() -> Result<reqwest::Client, String> {
    made(builder()?.redirect(reqwest::redirect::Policy::none()))
}

/// Fetches a public file without credentials; every hop on the way to it must be safe.
pub(super) async fn fetch(url: &str) -> Result<reqwest::Response, String> {
    let url = safe(url)?;
    let policy = reqwest::redirect::Policy::custom(|hop| match checked(hop.url()) {
        _ if hop.previous().len() > REDIRECTS_MAX => hop.error("it leads on for ever"),
        Ok(()) => hop.follow(),
        Err(why) => hop.error(why),
    });
    let client = made(builder()?.redirect(policy))?;
    let answer = client.get(url).send().await;
    let answer = answer.and_then(reqwest::Response::error_for_status);
    answer.map_err(|error| match error.status() {
        Some(status) => format!("it answers with {status}"),
        None => reason(&error),
    })
}

/// Reads a URL whose content nobody on the way can change: on this machine there is no way.
pub(super) fn safe(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{text} is no URL: {error}"))?;
    checked(&url).map(|()| url)
}

fn checked(url: &Url) -> Result<(), String> {
    let here = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    match url.scheme() {
        "https" => Ok(()),
        "http" if here => Ok(()),
        _ => Err(format!("{url} is not reached by https")),
    }
}

/// Reads an answer that is not longer than `most` bytes.
pub(in crate::worker) async fn read(
    answer: reqwest::Response,
    most: usize,
) -> Result<Vec<u8>, String> {
    let mut pieces = answer.bytes_stream();
    let mut text = Vec::new();
    while let Some(piece) = pieces.next().await {
        text.extend_from_slice(&piece.map_err(|error| reason(&error))?);
        if text.len() > most {
            return Err(format!("it is longer than {most} bytes"));
        }
    }
    Ok(text)
}

/// Tells the innermost cause of an error: the outer ones only repeat the address, which may hold a
/// secret.
pub(in crate::worker) fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn builder() -> Result<reqwest::ClientBuilder, String> {
    let trust = TRUST.as_ref().map_err(ToString::to_string)?;
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(trust.clone())
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("agentbus/", env!("CARGO_PKG_VERSION"))))
}

fn made(builder: reqwest::ClientBuilder) -> Result<reqwest::Client, String> {
    builder.build().map_err(|error| error.to_string())
}
