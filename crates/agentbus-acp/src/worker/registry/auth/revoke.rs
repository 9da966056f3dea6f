//! Giving tokens back to their provider when a person logs out (RFC 7009).
//!
//! It promises a sentence about each login that ended here, whatever the provider says or does not
//! say. It does not touch the store: what is here was forgotten before the provider is asked.

use oauth2::basic::{BasicClient, BasicRevocationErrorResponse};
use oauth2::{
    ConfigurationError, EndpointNotSet, EndpointSet, HttpRequest, RequestTokenError,
    RevocationErrorResponseType, RevocationUrl, StandardRevocableToken,
};
use url::Url;

use super::error::AuthError;
use super::flow::{SendError, client, send, words_of};
use super::metadata::endpoints;
use super::provider::Provider;
use super::token::Token;

type Client = BasicClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointSet, EndpointSet>;

type Failed = RequestTokenError<SendError, BasicRevocationErrorResponse>;

/// Gives the tokens of a login back; returns what a person is told.
pub(super) async fn farewell(name: &str, provider: Option<&Provider>, token: Token) -> String {
    let given_back = match provider {
        Some(provider) => give_back(name, provider, token).await,
        None => Err("it is not among the providers any more".to_owned()),
    };
    match given_back {
        Ok(()) => format!("Logged out of {name}, which revoked its tokens."),
        Err(why) => format!(
            "Logged out of {name} on this machine. Its tokens were not revoked: {why}. They stay \
             good until they expire, or until you end the login on the provider's own pages."
        ),
    }
}

async fn give_back(name: &str, provider: &Provider, token: Token) -> Result<(), String> {
    let endpoints = endpoints(name, provider)
        .await
        .map_err(|error| match error {
            AuthError::Network { why, .. } => unreachable(&why),
            AuthError::Provider { why, .. } => why,
            other => other.to_string(),
        })?;
    let Some(place) = &endpoints.revocation else {
        return Err("it names no place to revoke them at".to_owned());
    };
    let client = client(provider, &endpoints).set_revocation_url(by_name(place));
    let renews = token.refresh.is_some();
    // What renews the login goes first; most providers end what came of it at the same time.
    if let Some(refresh) = token.refresh {
        let revoked = revoke(&client, place, refresh.into()).await;
        revoked.map_err(refusal)?;
    }
    match revoke(&client, place, token.access.into()).await {
        // It takes back refresh tokens alone, and has ended what came of this one.
        Err(RequestTokenError::ServerResponse(said)) if renews && is_unsupported(&said) => Ok(()),
        revoked => revoked.map_err(refusal),
    }
}

/// The address by which the library knows the place. It takes https alone; ours was checked, and
/// may be a port of this machine, so that [`revoke`] sends to the place itself.
fn by_name(place: &Url) -> RevocationUrl {
    let mut name = place.clone();
    // From http to https is a change that every such address takes.
    let _ = name.set_scheme("https");
    RevocationUrl::from_url(name)
}

async fn revoke(client: &Client, place: &Url, token: StandardRevocableToken) -> Result<(), Failed> {
    let insecure = |error: ConfigurationError| Failed::Other(error.to_string());
    let request = client.revoke_token(token).map_err(insecure)?;
    let there = |mut request: HttpRequest| async move {
        let uri = place.as_str().parse();
        *request.uri_mut() = uri.map_err(|_| SendError(format!("{place} is no address")))?;
        send(request).await
    };
    request.request_async(&there).await
}

fn is_unsupported(said: &BasicRevocationErrorResponse) -> bool {
    *said.error() == RevocationErrorResponseType::UnsupportedTokenType
}

fn refusal(error: Failed) -> String {
    match error {
        RequestTokenError::ServerResponse(said) => format!("it answers {}", words_of(&said)),
        RequestTokenError::Request(SendError(why)) => unreachable(&why),
        RequestTokenError::Parse(..) => "its answer cannot be read".to_owned(),
        RequestTokenError::Other(why) => why,
    }
}

fn unreachable(why: &str) -> String {
    format!("it cannot be reached ({why})")
}
