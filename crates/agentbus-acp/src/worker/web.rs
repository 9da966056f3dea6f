//! One way to make an HTTP client.

use std::time::Duration;

/// Longest that a connection may take to open; what answers takes as long as it takes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes a client that follows no redirect: a server must not send our credentials elsewhere.
///
/// # Errors
///
/// Fails when the system offers no certificates to trust.
pub(super) fn client() -> Result<reqwest::Client, reqwest::Error> {
    builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
}

fn builder() -> reqwest::ClientBuilder {
    // The library takes the process's provider; one that is set already is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("agentbus/", env!("CARGO_PKG_VERSION")))
}
