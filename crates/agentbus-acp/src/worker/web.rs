//! One way to make an HTTP client.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures_util::StreamExt;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};

/// Longest that a connection may take to open; what answers takes as long as it takes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

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

/// Makes a client for public files, which carries no credentials and follows redirects.
pub(super) fn fetcher() -> Result<reqwest::Client, String> {
    made(builder()?)
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
