//! The endpoints of a provider: as given, else from its metadata (RFC 8414, or OpenID's).

use serde::Deserialize;
use url::Url;

use super::error::AuthError;
use super::provider::Provider;
use crate::worker::limits::{METADATA_BYTES_MAX, PROVIDER_TIMEOUT};
use crate::worker::web;

/// Where a login goes.
#[derive(Debug, Clone)]
pub(super) struct Endpoints {
    pub(super) authorization: Url,
    pub(super) token: Url,
    /// Where a token is given back (RFC 7009); some have no such place.
    pub(super) revocation: Option<Url>,
    /// Who must have answered, if the answer says who did (RFC 9207).
    pub(super) issuer: Option<String>,
    /// Whether the answer must say it.
    pub(super) names_issuer: bool,
}

#[derive(Debug, Default, Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    revocation_endpoint: Option<String>,
    code_challenge_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// Finds the endpoints of a provider.
pub(super) async fn endpoints(name: &str, provider: &Provider) -> Result<Endpoints, AuthError> {
    let unusable = |why: String| AuthError::Provider {
        provider: name.to_owned(),
        why,
    };
    if provider.client_id.is_empty() {
        return Err(unusable(
            "it has no client id; give it `clientId`, or the variable OAUTH_NAME_CLIENT_ID"
                .to_owned(),
        ));
    }
    let (authorization, token, metadata) = match provider {
        Provider {
            authorization_endpoint: Some(authorization),
            token_endpoint: Some(token),
            ..
        } => (authorization.clone(), token.clone(), Metadata::default()),
        Provider {
            issuer: Some(issuer),
            ..
        } => {
            let told = fetch(name, issuer).await?;
            let given = provider.authorization_endpoint.clone();
            let authorization = given.unwrap_or_else(|| told.authorization_endpoint.clone());
            let given = provider.token_endpoint.clone();
            let token = given.unwrap_or_else(|| told.token_endpoint.clone());
            (authorization, token, told)
        }
        _ => {
            return Err(unusable(
                "it has neither an `issuer` nor both of its endpoints".to_owned(),
            ));
        }
    };
    let methods = &metadata.code_challenge_methods_supported;
    if methods
        .as_ref()
        .is_some_and(|all| !all.iter().any(|one| one == "S256"))
    {
        return Err(unusable("it does not take PKCE with S256".to_owned()));
    }
    let given = provider.revocation_endpoint.as_deref();
    let revocation = given.or(metadata.revocation_endpoint.as_deref());
    Ok(Endpoints {
        authorization: web::safe(&authorization).map_err(unusable)?,
        token: web::safe(&token).map_err(unusable)?,
        revocation: revocation.map(web::safe).transpose().map_err(unusable)?,
        issuer: provider.issuer.clone(),
        names_issuer: metadata.authorization_response_iss_parameter_supported,
    })
}

/// Fetches the metadata of an issuer, which must say that it is this one's.
async fn fetch(name: &str, issuer: &str) -> Result<Metadata, AuthError> {
    let unusable = |why: String| AuthError::Provider {
        provider: name.to_owned(),
        why,
    };
    let url = web::safe(issuer).map_err(unusable)?;
    let path = url.path().trim_end_matches('/');
    let mut oauth = url.clone();
    oauth.set_path(&format!("/.well-known/oauth-authorization-server{path}"));
    let mut openid = url.clone();
    openid.set_path(&format!("{path}/.well-known/openid-configuration"));
    let text = match get(name, oauth).await? {
        Some(text) => text,
        None => get(name, openid)
            .await?
            .ok_or_else(|| unusable(format!("{issuer} has no metadata")))?,
    };
    let told: Metadata = serde_json::from_slice(&text)
        .map_err(|error| unusable(format!("its metadata cannot be read: {error}")))?;
    if told.issuer != issuer {
        return Err(unusable(format!(
            "the metadata of {issuer} belongs to {}",
            told.issuer
        )));
    }
    Ok(told)
}

/// Returns what a URL holds; `None` if the server answers with a refusal.
async fn get(name: &str, url: Url) -> Result<Option<Vec<u8>>, AuthError> {
    let network = |why: String| AuthError::Network {
        provider: name.to_owned(),
        why,
    };
    let client = web::client().map_err(network)?;
    let asked = client.get(url).timeout(PROVIDER_TIMEOUT).send().await;
    let answer = asked.map_err(|error| network(web::reason(&error)))?;
    if !answer.status().is_success() {
        return Ok(None);
    }
    let text = web::read(answer, METADATA_BYTES_MAX).await;
    text.map(Some).map_err(network)
}
