//! Where the browser comes back to: a port of this machine, for as long as a login takes.
//!
//! An answer to another login is refused in the browser and does not end this one, so that a page
//! somewhere cannot; the first one that belongs here does, and nobody listens after it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use subtle::ConstantTimeEq;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::error::AuthError;
use super::metadata::Endpoints;
use crate::worker::limits::{CALLBACKS_AT_A_TIME, FOREIGN_CALLBACKS_MAX};

/// What the page that the browser shows last gets to arrive.
const PAGE_GRACE: Duration = Duration::from_secs(1);

/// A port that waits for one answer.
#[derive(Debug)]
pub(super) struct Callback {
    listener: TcpListener,
    host: String,
}

/// What an answer must bring.
#[derive(Debug)]
struct Expected {
    host: String,
    provider: String,
    state: String,
    issuer: Option<String>,
    names_issuer: bool,
}

/// What the browser brought.
#[derive(Debug)]
enum Answer {
    Code(String),
    Failed(AuthError),
    /// It belongs to another login.
    Foreign,
}

impl Callback {
    /// Opens a port.
    pub(super) async fn open() -> Result<Self, AuthError> {
        let failed = |error: std::io::Error| AuthError::Callback(error.to_string());
        // The literal address, as RFC 8252 wants it: a name may be somebody else's.
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let host = listener.local_addr().map_err(failed)?.to_string();
        Ok(Self { listener, host })
    }

    pub(super) fn redirect_uri(&self) -> String {
        format!("http://{}/callback", self.host)
    }

    /// Waits for the code of the login with this state.
    pub(super) async fn code(
        self,
        provider: &str,
        state: &str,
        endpoints: &Endpoints,
    ) -> Result<String, AuthError> {
        let expected = Arc::new(Expected {
            host: self.host,
            provider: provider.to_owned(),
            state: state.to_owned(),
            issuer: endpoints.issuer.clone(),
            names_issuer: endpoints.names_issuer,
        });
        let (to_us, mut answers) = mpsc::channel(CALLBACKS_AT_A_TIME);
        // Dropped, and its connections with it, when the wait is over.
        let mut open = JoinSet::new();
        let mut foreign = 0;
        let code = loop {
            tokio::select! {
                accepted = self.listener.accept(), if open.len() < CALLBACKS_AT_A_TIME => {
                    let (stream, _) = accepted.map_err(|error| AuthError::Callback(error.to_string()))?;
                    open.spawn(serve(stream, Arc::clone(&expected), to_us.clone()));
                }
                Some(_) = open.join_next() => {}
                Some(answer) = answers.recv() => match answer {
                    Answer::Code(code) => break Ok(code),
                    Answer::Failed(error) => break Err(error),
                    Answer::Foreign => foreign += 1,
                },
            }
            if foreign >= FOREIGN_CALLBACKS_MAX {
                break Err(AuthError::State);
            }
        };
        drop(self.listener);
        let last_page = async { while open.join_next().await.is_some() {} };
        // A browser that keeps a connection open shows its page all the same.
        let _ = timeout(PAGE_GRACE, last_page).await;
        code
    }
}

async fn serve(stream: TcpStream, expected: Arc<Expected>, answers: mpsc::Sender<Answer>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (page, answer) = taken(&request, &expected);
        let answers = answers.clone();
        async move {
            if let Some(answer) = answer {
                // Nobody hears it if an earlier one has ended the wait.
                let _ = answers.send(answer).await;
            }
            Ok::<_, Infallible>(page)
        }
    });
    let served = http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // A browser may hang up; what it said is known.
    let _ = served.await;
}

/// Judges a request; returns the page for the person, and what was brought.
fn taken(
    request: &Request<Incoming>,
    expected: &Expected,
) -> (Response<Full<Bytes>>, Option<Answer>) {
    let host = request.headers().get(HOST).map(HeaderValue::as_bytes);
    // A page elsewhere whose name leads here is not the provider.
    if host != Some(expected.host.as_bytes()) {
        return (
            page(
                StatusCode::MISDIRECTED_REQUEST,
                "Nobody of this name is here.",
            ),
            None,
        );
    }
    if request.method() != Method::GET || request.uri().path() != "/callback" {
        return (page(StatusCode::NOT_FOUND, "There is nothing here."), None);
    }
    let query = request.uri().query().unwrap_or_default();
    let answer = brought(query, expected);
    let page = match &answer {
        Answer::Code(_) => page(
            StatusCode::OK,
            "AgentBus has the answer and goes on with it. You can close this page.",
        ),
        Answer::Failed(error) => page(
            StatusCode::OK,
            &format!("{error}. You can close this page."),
        ),
        Answer::Foreign => page(
            StatusCode::BAD_REQUEST,
            "This answer belongs to another login. Go back to the page that AgentBus opened.",
        ),
    };
    (page, Some(answer))
}

fn brought(query: &str, expected: &Expected) -> Answer {
    let value = |name: &str| {
        let mut found =
            url::form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
        found.next().map(|(_, value)| value.into_owned())
    };
    let state = value("state").unwrap_or_default();
    if !bool::from(state.as_bytes().ct_eq(expected.state.as_bytes())) {
        return Answer::Foreign;
    }
    let refused = |why: String| {
        Answer::Failed(AuthError::Refused {
            provider: expected.provider.clone(),
            why,
        })
    };
    let issuer = value("iss");
    let other = match (&issuer, &expected.issuer) {
        (Some(one), Some(other)) => one != other,
        (None, Some(_)) => expected.names_issuer,
        _ => false,
    };
    if other {
        return refused("another provider answered in its place".to_owned());
    }
    if let Some(error) = value("error") {
        let more = value("error_description").map_or(String::new(), |more| format!(" ({more})"));
        return refused(format!("{error}{more}"));
    }
    match value("code") {
        Some(code) if !code.is_empty() => Answer::Code(code),
        _ => refused("it sent neither a code nor a reason".to_owned()),
    }
}

/// A page that shows a sentence as text.
fn page(status: StatusCode, sentence: &str) -> Response<Full<Bytes>> {
    let mut page = Response::new(Full::new(Bytes::from(format!("{sentence}\n"))));
    *page.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    page.headers_mut().insert(CONTENT_TYPE, plain);
    let kept_nowhere = HeaderValue::from_static("no-store");
    page.headers_mut().insert(CACHE_CONTROL, kept_nowhere);
    page
}
