//! A provider of OAuth on a port of its own: it checks what a client must prove, hands a code and
//! a refresh token out once, and can be told to misbehave.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

type Fields = BTreeMap<String, String>;

/// What it knows and how it behaves.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    url: String,
    /// Refuses whoever asks for a code.
    pub(crate) denies: bool,
    /// Answers its programs with 503.
    pub(crate) ill: bool,
    /// Seconds that a token lives.
    pub(crate) life: u64,
    /// What was asked for with each code that is not used yet.
    codes: BTreeMap<String, Fields>,
    pub(crate) refreshable: BTreeSet<String>,
    /// How often a token was handed out.
    pub(crate) issued: u64,
    /// How often a refresh token came that was used before.
    pub(crate) reused: u64,
    /// Names no place to revoke tokens at.
    pub(crate) keeps: bool,
    /// Revokes refresh tokens alone.
    pub(crate) keeps_access: bool,
    /// What was revoked: the kind of each token, and the token.
    pub(crate) revoked: Vec<(String, String)>,
    /// What its client must show, and how it was shown last.
    pub(crate) secret: Option<&'static str>,
    pub(crate) shown: &'static str,
    /// What access tokens begin with.
    pub(crate) word: Option<&'static str>,
    /// How a client may prove that it asked for a code.
    pub(crate) challenges: Option<&'static str>,
}

impl Desk {
    /// Whether this is the client; if it has a secret it has to show it.
    fn knows(&mut self, headers: &HeaderMap, asked: &Fields) -> bool {
        let basic = BASE64_STANDARD.encode(format!("client:{}", self.secret.unwrap_or_default()));
        let header = headers.get("authorization").map(HeaderValue::as_bytes);
        let named = asked.get("client_id").is_some_and(|id| id == "client");
        self.shown = match (self.secret, asked.get("client_secret")) {
            (None, None) if named && header.is_none() => "nothing",
            (Some(secret), Some(shown)) if named && shown == secret => "in the body",
            (Some(_), None) if header == Some(format!("Basic {basic}").as_bytes()) => "in a header",
            _ => return false,
        };
        true
    }
}

pub(crate) struct Provider {
    pub(crate) url: String,
    desk: Arc<Mutex<Desk>>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Provider {
    pub(crate) fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let desk = Arc::new(Mutex::new(Desk {
            url: url.clone(),
            life: 3600,
            ..Desk::default()
        }));
        let app = Router::new()
            .route("/.well-known/oauth-authorization-server", get(metadata))
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .route("/revoke", post(revoke))
            .with_state(Arc::clone(&desk));
        runtime.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            url,
            desk,
            runtime: Some(runtime),
        }
    }

    pub(crate) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap()
    }

    /// Goes away, and its port with it.
    pub(crate) fn stop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

type Shared = State<Arc<Mutex<Desk>>>;

async fn metadata(State(desk): Shared) -> Json<Value> {
    let desk = desk.lock().unwrap();
    let url = &desk.url;
    let mut told = json!({
        "issuer": url,
        "authorization_endpoint": format!("{url}/authorize"),
        "token_endpoint": format!("{url}/token"),
        "code_challenge_methods_supported": [desk.challenges.unwrap_or("S256")],
        "authorization_response_iss_parameter_supported": true,
    });
    if !desk.keeps {
        told["revocation_endpoint"] = format!("{url}/revoke").into();
    }
    Json(told)
}

/// Sends the person back with a code, or with a refusal.
async fn authorize(State(desk): Shared, Query(asked): Query<Fields>) -> Response {
    let mut desk = desk.lock().unwrap();
    let proper = asked["response_type"] == "code"
        && asked["client_id"] == "client"
        && asked["scope"] == "read write"
        && asked["code_challenge_method"] == "S256"
        && asked["redirect_uri"].starts_with("http://127.0.0.1:");
    if !proper {
        return (StatusCode::BAD_REQUEST, "not asked properly").into_response();
    }
    let back = |what: String| {
        let (to, state, issuer) = (&asked["redirect_uri"], &asked["state"], &desk.url);
        Redirect::to(&format!("{to}?{what}&state={state}&iss={issuer}")).into_response()
    };
    if desk.denies {
        return back("error=access_denied&error_description=not%20today".to_owned());
    }
    let code = format!("code-{}", uuid::Uuid::new_v4());
    let sent = back(format!("code={code}"));
    desk.codes.insert(code, asked);
    sent
}

fn fields(form: &str) -> Fields {
    let fields = url::form_urlencoded::parse(form.as_bytes());
    fields.into_owned().collect()
}

fn refusal(error: &str, why: &str) -> Response {
    let body = json!({ "error": error, "error_description": why });
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

/// Takes a token back. One that it does not know is as good as revoked (RFC 7009, 2.2).
async fn revoke(State(desk): Shared, headers: HeaderMap, form: String) -> Response {
    let asked = fields(&form);
    let mut desk = desk.lock().unwrap();
    if desk.ill {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if !desk.knows(&headers, &asked) {
        return refusal("invalid_client", "that is somebody else");
    }
    let (kind, token) = (&asked["token_type_hint"], &asked["token"]);
    if desk.keeps_access && kind == "access_token" {
        return refusal("unsupported_token_type", "refresh tokens alone");
    }
    desk.refreshable.remove(token);
    desk.revoked.push((kind.clone(), token.clone()));
    StatusCode::OK.into_response()
}

async fn token(State(desk): Shared, headers: HeaderMap, form: String) -> Response {
    let asked = fields(&form);
    let mut desk = desk.lock().unwrap();
    if desk.ill {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let refused = |why: &str| refusal("invalid_grant", why);
    if !desk.knows(&headers, &asked) {
        return refused("the code was given to somebody else");
    }
    match asked["grant_type"].as_str() {
        "authorization_code" => {
            // Whoever comes first uses it up, as RFC 6749 wants it.
            let Some(given) = desk.codes.remove(&asked["code"]) else {
                return refused("the code is not known");
            };
            let proof = asked
                .get("code_verifier")
                .map(String::as_str)
                .unwrap_or_default();
            let proof = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(proof));
            if proof != given["code_challenge"] {
                return refused("the verifier does not fit the challenge");
            }
            if asked["redirect_uri"] != given["redirect_uri"] {
                return refused("the code was given to somebody else");
            }
        }
        "refresh_token" => {
            if !desk.refreshable.remove(&asked["refresh_token"]) {
                desk.reused += 1;
                return refused("the refresh token is not known");
            }
        }
        _ => return refused("no such grant"),
    }
    desk.issued += 1;
    let (access, refresh) = (
        format!("{}-{}", desk.word.unwrap_or("access"), desk.issued),
        format!("refresh-{}", desk.issued),
    );
    desk.refreshable.insert(refresh.clone());
    Json(json!({ "access_token": access, "token_type": "Bearer", "expires_in": desk.life, "refresh_token": refresh })).into_response()
}
