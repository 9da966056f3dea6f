//! The login itself: an authorization code with PKCE (RFC 7636) that comes back to a port of this
//! machine (RFC 8252), and the renewal of what it brought.

use std::fmt;

use oauth2::basic::{BasicClient, BasicErrorResponse, BasicTokenResponse, BasicTokenType};
use oauth2::{
    AuthType, AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken, EndpointNotSet,
    EndpointSet, ErrorResponseType, HttpRequest, HttpResponse, PkceCodeChallenge, PkceCodeVerifier,
    RedirectUrl, RefreshToken, RequestTokenError, Scope, StandardErrorResponse, TokenResponse,
    TokenUrl,
};

use super::callback::Callback;
use super::error::AuthError;
use super::metadata::{Endpoints, endpoints};
use super::provider::{Provider, SecretIn};
use super::token::Token;
use crate::worker::limits::{PROVIDER_TIMEOUT, TOKEN_ANSWER_BYTES_MAX};
use crate::worker::web;

type Client = BasicClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet>;

/// A login that waits for its person.
pub(super) struct Flow<'a> {
    name: &'a str,
    client: Client,
    endpoints: Endpoints,
    callback: Callback,
    state: CsrfToken,
    verifier: PkceCodeVerifier,
    /// Where the person is sent.
    pub(super) url: String,
}

impl<'a> Flow<'a> {
    /// Opens the port and makes the address.
    pub(super) async fn begin(name: &'a str, provider: &Provider) -> Result<Self, AuthError> {
        let endpoints = endpoints(name, provider).await?;
        let callback = Callback::open().await?;
        let redirect = RedirectUrl::new(callback.redirect_uri());
        let redirect = redirect.map_err(|error| AuthError::Callback(error.to_string()))?;
        let client = client(provider, &endpoints).set_redirect_uri(redirect);
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let scopes = provider.scopes.iter().cloned().map(Scope::new);
        let asked = client.authorize_url(CsrfToken::new_random);
        let (url, state) = asked.add_scopes(scopes).set_pkce_challenge(challenge).url();
        Ok(Self {
            name,
            client,
            endpoints,
            callback,
            state,
            verifier,
            url: url.into(),
        })
    }

    /// Waits for the code and exchanges it.
    pub(super) async fn finish(self) -> Result<Token, AuthError> {
        let code = self
            .callback
            .code(self.name, self.state.secret(), &self.endpoints);
        let code = AuthorizationCode::new(code.await?);
        let asked = self
            .client
            .exchange_code(code)
            .set_pkce_verifier(self.verifier);
        let answer = asked.request_async(&send).await;
        let answer = answer.map_err(|error| refusal(self.name, error))?;
        usable(self.name, &answer)?;
        Ok(Token::new(&answer, None))
    }
}

/// Fetches a new token in place of an old one.
pub(super) async fn renew(
    name: &str,
    provider: &Provider,
    refresh: &RefreshToken,
) -> Result<Token, AuthError> {
    let endpoints = endpoints(name, provider).await?;
    let client = client(provider, &endpoints);
    let answer = client
        .exchange_refresh_token(refresh)
        .request_async(&send)
        .await;
    let answer = answer.map_err(|error| match refusal(name, error) {
        AuthError::Credentials { provider, why } => AuthError::Ended { provider, why },
        other => other,
    })?;
    usable(name, &answer)?;
    Ok(Token::new(&answer, Some(refresh.clone())))
}

pub(super) fn client(provider: &Provider, endpoints: &Endpoints) -> Client {
    let client = BasicClient::new(ClientId::new(provider.client_id.clone()))
        .set_auth_uri(AuthUrl::from_url(endpoints.authorization.clone()))
        .set_token_uri(TokenUrl::from_url(endpoints.token.clone()));
    let Some(secret) = &provider.client_secret else {
        // A public client is named in the body: there is nothing to show in a header.
        return client.set_auth_type(AuthType::RequestBody);
    };
    let client = client.set_client_secret(ClientSecret::new(secret.clone()));
    client.set_auth_type(match provider.token_endpoint_auth_method {
        SecretIn::Header => AuthType::BasicAuth,
        SecretIn::Body => AuthType::RequestBody,
    })
}

/// Only what anybody may show who has it is of use to an agent, and only in a header.
fn usable(name: &str, answer: &BasicTokenResponse) -> Result<(), AuthError> {
    let why = match answer.token_type() {
        BasicTokenType::Bearer if answer.access_token().secret().contains(char::is_control) => {
            "its token has characters that no header takes".to_owned()
        }
        BasicTokenType::Bearer => return Ok(()),
        other => format!("its tokens are {other:?} and no bearer tokens"),
    };
    Err(AuthError::Provider {
        provider: name.to_owned(),
        why,
    })
}

type Failed = RequestTokenError<SendError, BasicErrorResponse>;

fn refusal(name: &str, error: Failed) -> AuthError {
    let provider = name.to_owned();
    match error {
        RequestTokenError::ServerResponse(said) => AuthError::Credentials {
            provider,
            why: words_of(&said),
        },
        RequestTokenError::Request(SendError(why)) => AuthError::Network { provider, why },
        // What did not parse may hold a token, so that only where it failed is told.
        RequestTokenError::Parse(error, _) => AuthError::Provider {
            provider,
            why: format!("its answer has no token at `{}`", error.path()),
        },
        RequestTokenError::Other(why) => AuthError::Network { provider, why },
    }
}

/// The word of a refusal, with what a provider adds to it.
pub(super) fn words_of<T>(said: &StandardErrorResponse<T>) -> String
where
    T: ErrorResponseType + fmt::Display,
{
    match said.error_description() {
        Some(more) => format!("{} ({more})", said.error()),
        None => said.error().to_string(),
    }
}

/// A request that got no answer.
#[derive(Debug)]
pub(super) struct SendError(pub(super) String);

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SendError {}

/// Sends a request of the OAuth library with our client, which follows no redirect.
pub(super) async fn send(request: HttpRequest) -> Result<HttpResponse, SendError> {
    let client = web::client().map_err(SendError)?;
    let failed = |error: reqwest::Error| SendError(web::reason(&error));
    let mut request = reqwest::Request::try_from(request).map_err(failed)?;
    *request.timeout_mut() = Some(PROVIDER_TIMEOUT);
    let answer = client.execute(request).await.map_err(failed)?;
    let status = answer.status();
    let kind = answer.headers().get(reqwest::header::CONTENT_TYPE).cloned();
    let text = web::read(answer, TOKEN_ANSWER_BYTES_MAX).await;
    let text = text.map_err(SendError)?;
    if status.is_server_error() {
        return Err(SendError(format!("it answers with {status}")));
    }
    let mut response = HttpResponse::new(text);
    *response.status_mut() = status;
    if let Some(kind) = kind {
        response
            .headers_mut()
            .insert(reqwest::header::CONTENT_TYPE, kind);
    }
    Ok(response)
}
