//! Who can log people in: from a file, and from the variables of five well-known providers.
//!
//! Secrets of clients come from variables alone, so that the file can be shown to anybody.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::super::{RegistryError, read};

/// Where to send a person, where to fetch tokens, and as whom.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Provider {
    /// Whose metadata tells the endpoints that are not given here.
    pub(super) issuer: Option<String>,
    pub(super) authorization_endpoint: Option<String>,
    pub(super) token_endpoint: Option<String>,
    pub(super) revocation_endpoint: Option<String>,
    #[serde(default)]
    pub(super) client_id: String,
    #[serde(skip)]
    pub(super) client_secret: Option<String>,
    /// How the secret is shown to the token endpoint.
    #[serde(default)]
    pub(super) token_endpoint_auth_method: SecretIn,
    #[serde(default)]
    pub(super) scopes: Vec<String>,
    /// Agents that get its tokens, besides those that name it in the index.
    #[serde(default)]
    pub(super) agents: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) enum SecretIn {
    #[default]
    #[serde(rename = "client_secret_basic")]
    Header,
    #[serde(rename = "client_secret_post")]
    Body,
}

impl std::fmt::Debug for Provider {
    // The secret stays out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provider")
            .field("issuer", &self.issuer)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// Tells the value of a variable that is set.
pub(super) type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads the providers of a file and those that variables describe; the file wins.
pub(super) fn all(
    file: Option<&Path>,
    variable: Variable<'_>,
) -> Result<BTreeMap<String, Provider>, RegistryError> {
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        providers: BTreeMap<String, Provider>,
    }
    let mut all = well_known(variable);
    all.extend(read::<File>(file)?.providers);
    for (name, provider) in &mut all {
        let named = |what: &str| {
            let name = name.to_ascii_uppercase().replace('-', "_");
            variable(&format!("OAUTH_{name}_{what}"))
        };
        if let Some(id) = named("CLIENT_ID") {
            provider.client_id = id;
        }
        provider.client_secret = named("CLIENT_SECRET").or(provider.client_secret.take());
    }
    Ok(all)
}

/// The providers whose client is named by a variable.
fn well_known(variable: Variable<'_>) -> BTreeMap<String, Provider> {
    let client = |name: &str| variable(&format!("OAUTH_{name}_CLIENT_ID"));
    let mut found = BTreeMap::new();
    if let Some(id) = client("GITHUB") {
        let base = "https://github.com/login/oauth";
        let provider = endpoints(id, base, "authorize", "access_token", &["read:user"]);
        found.insert("github".to_owned(), provider);
    }
    if let Some(id) = client("GOOGLE") {
        let issuer = "https://accounts.google.com".to_owned();
        found.insert("google".to_owned(), of_issuer(id, issuer));
    }
    if let (Some(id), Some(domain)) = (client("COGNITO"), variable("COGNITO_USER_POOL_DOMAIN")) {
        let region = variable("COGNITO_REGION").unwrap_or_else(|| "us-east-1".to_owned());
        let base = format!("https://{domain}.auth.{region}.amazoncognito.com/oauth2");
        let mut provider = endpoints(id, &base, "authorize", "token", OPENID);
        provider.revocation_endpoint = Some(format!("{base}/revoke"));
        found.insert("cognito".to_owned(), provider);
    }
    if let Some(id) = client("AZURE") {
        let tenant = variable("AZURE_TENANT_ID").unwrap_or_else(|| "common".to_owned());
        let base = format!("https://login.microsoftonline.com/{tenant}/oauth2/v2.0");
        let provider = endpoints(id, &base, "authorize", "token", OPENID);
        found.insert("azure".to_owned(), provider);
    }
    if let Some(id) = client("OIDC").or_else(|| variable("OIDC_CLIENT_ID")) {
        let mut provider = of_issuer(id, String::new());
        provider.issuer = variable("OIDC_ISSUER");
        provider.authorization_endpoint = variable("OIDC_AUTHORIZATION_ENDPOINT");
        provider.token_endpoint = variable("OIDC_TOKEN_ENDPOINT");
        provider.revocation_endpoint = variable("OIDC_REVOCATION_ENDPOINT");
        provider.client_secret = variable("OIDC_CLIENT_SECRET");
        if variable("OIDC_TOKEN_ENDPOINT_AUTH_METHOD").as_deref() == Some("client_secret_post") {
            provider.token_endpoint_auth_method = SecretIn::Body;
        }
        found.insert("oidc".to_owned(), provider);
    }
    found
}

/// What a provider of identities is asked for unless said otherwise.
const OPENID: &[&str] = &["openid", "profile", "email"];

fn of_issuer(client_id: String, issuer: String) -> Provider {
    Provider {
        issuer: Some(issuer),
        authorization_endpoint: None,
        token_endpoint: None,
        revocation_endpoint: None,
        client_id,
        client_secret: None,
        token_endpoint_auth_method: SecretIn::Header,
        scopes: OPENID.iter().map(ToString::to_string).collect(),
        agents: Vec::new(),
    }
}

fn endpoints(
    client_id: String,
    base: &str,
    authorize: &str,
    token: &str,
    scopes: &[&str],
) -> Provider {
    Provider {
        issuer: None,
        authorization_endpoint: Some(format!("{base}/{authorize}")),
        token_endpoint: Some(format!("{base}/{token}")),
        scopes: scopes.iter().map(ToString::to_string).collect(),
        ..of_issuer(client_id, String::new())
    }
}

#[cfg(test)]
mod tests;
