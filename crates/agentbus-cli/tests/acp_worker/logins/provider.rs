//! A provider of OAuth on a port of its own: it checks what a client must prove, hands a code and
//! a refresh token out once, and can be told to misbehave.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
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
    let url = desk.lock().unwrap().url.clone();
    Json(json!({
        "issuer": url,
        "authorization_endpoint": format!("{url}/authorize"),
        "token_endpoint": format!("{url}/token"),
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
    }))
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

async fn token(State(desk): Shared, form: String) -> Response {
    let asked: Fields = url::form_urlencoded::parse(form.as_bytes())
        .into_owned()
        .collect();
    let mut desk = desk.lock().unwrap();
    if desk.ill {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let refused = |why: &str| {
        let body = json!({ "error": "invalid_grant", "error_description": why });
        (StatusCode::BAD_REQUEST, Json(body)).into_response()
    };
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
            if asked["redirect_uri"] != given["redirect_uri"] || asked["client_id"] != "client" {
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
        format!("access-{}", desk.issued),
        format!("refresh-{}", desk.issued),
    );
    desk.refreshable.insert(refresh.clone());
    Json(json!({ "access_token": access, "token_type": "Bearer", "expires_in": desk.life, "refresh_token": refresh })).into_response()
}
