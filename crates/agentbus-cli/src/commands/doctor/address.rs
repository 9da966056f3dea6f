//! Who listens where clients look for the bus, and whether the token opens it.

use std::io;
use std::path::Path;
use std::time::Duration;

use agentbus::transport::remote::hidden;
use agentbus_transport_ws::{credentials, token_to_show};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Check;
use super::locks::holder;
use crate::commands::serve::reached_at;
use crate::config::Config;

const ADDRESS: &str = "address";
const TOKEN: &str = "token";

/// How long whoever listens may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Most that is read of an answer: a bus with many targets lists them all.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

struct Answer {
    status: u16,
    body: Value,
}

/// Why there is no answer.
enum Silence {
    /// Nobody is there.
    Nobody,
    /// Somebody is, or may be, and did not speak HTTP in time.
    Unreadable(String),
}

pub(super) async fn checks(url: &str, config: &Config, data_dir: &Path) -> Vec<Check> {
    let url = place(url, config);
    let shown = hidden(&url);
    let uri = match url.parse::<Uri>() {
        Ok(uri) if uri.scheme_str() == Some("http") && uri.host().is_some() => uri,
        _ => {
            let detail = format!("{shown} was not looked at");
            let hint = "only http:// is; name the bus with --url http://HOST:PORT";
            return vec![Check::warning(ADDRESS, detail, hint)];
        }
    };
    match is_bus(&uri).await {
        Err(Silence::Nobody) => vec![nobody(&shown, data_dir)],
        Err(Silence::Unreadable(what)) => vec![Check::wrong(
            ADDRESS,
            format!("{shown} does not answer as an agentbus: {what}"),
            "stop what listens there, or start the bus on another port with --listen and name it with --url",
        )],
        Ok(Some(refused)) => vec![Check::wrong(
            ADDRESS,
            format!("the bus at {shown} refuses that name: {refused}"),
            "use a name that it goes by, or start it with --allow-host",
        )],
        Ok(None) => opened(&uri, &url, &shown, data_dir).await,
    }
}

/// Where to look: what was named, else where the configuration has a bus listen.
fn place(url: &str, config: &Config) -> String {
    let usual = Config::default().listen;
    match url.trim_end_matches('/') == format!("http://{usual}") && config.listen != usual {
        true => format!("http://{}", reached_at(config.listen)),
        false => url.trim_end_matches('/').to_owned(),
    }
}

fn nobody(shown: &str, data_dir: &Path) -> Check {
    let detail = format!("nobody listens at {shown}");
    match holder(&data_dir.join("lock")) {
        None => Check::warning(ADDRESS, detail, "start a bus with `agentbus serve`"),
        Some(process) => Check::wrong(
            ADDRESS,
            format!("{detail}, but process {process} runs a bus with this data directory"),
            "name the address that it printed with --url",
        ),
    }
}

/// Whether it is a bus that answers, found out without showing the token: a health check that
/// says so, and beside it a door that is closed as ours are, or open. A refused name is told.
async fn is_bus(uri: &Uri) -> Result<Option<String>, Silence> {
    let health = get(uri, "/healthz", None).await?;
    if health.status == 403 && health.body["code"].is_string() {
        let why = health.body["message"].as_str().unwrap_or("no reason");
        return Ok(Some(why.to_owned()));
    }
    let other = |path: &str, answer: &Answer| {
        let status = answer.status;
        Silence::Unreadable(format!("{path} is answered with the status {status}"))
    };
    if health.status != 200 || health.body["status"] != "ok" {
        return Err(other("/healthz", &health));
    }
    let ready = get(uri, "/readyz", None).await?;
    let is_ours = match ready.status {
        401 => ready.body["code"] == "AUTH_FAILURE",
        200 => ready.body["status"] == "ready",
        503 => ready.body["status"] == "stopping",
        _ => false,
    };
    match is_ours {
        true => Ok(None),
        false => Err(other("/readyz", &ready)),
    }
}

/// What a bus says to the token.
async fn opened(uri: &Uri, url: &str, shown: &str, data_dir: &Path) -> Vec<Check> {
    let listens = |more: &str| Check::ok(ADDRESS, format!("an agentbus{more} listens at {shown}"));
    let token = match token_to_show(url, Some(data_dir)) {
        Ok(token) => token,
        Err(error) => {
            let hint = "see who listens there before you show it a token";
            let wrong = Check::wrong(TOKEN, error.to_string(), hint);
            return vec![listens(""), wrong];
        }
    };
    let ready = get(uri, "/readyz", token.as_deref()).await;
    let told = get(uri, "/v1/targets", token.as_deref()).await;
    let (Ok(ready), Ok(told)) = (ready, told) else {
        let hint = "look at its log, and try again";
        let silent = Check::wrong(TOKEN, "the bus stopped answering".to_owned(), hint);
        return vec![listens(""), silent];
    };
    let refused = |status| matches!(status, 401 | 403);
    if refused(ready.status) || refused(told.status) {
        let detail = format!("the bus at {shown} does not take it");
        let hint = credentials::refusal(url, Some(data_dir));
        return vec![listens(""), Check::wrong(TOKEN, detail, hint)];
    }
    let address = match ready.status {
        200 => running(&told.body, shown),
        _ => Check::warning(
            ADDRESS,
            format!("the bus at {shown} is stopping"),
            "start it again with `agentbus serve`",
        ),
    };
    vec![address, accepted(token.is_some(), url, data_dir)]
}

/// A bus that runs, and whether it is of the version of this program.
fn running(told: &Value, shown: &str) -> Check {
    let text = |name: &str| told[name].as_str().unwrap_or("unknown");
    let (version, own) = (text("version"), env!("CARGO_PKG_VERSION"));
    let detail = format!(
        "an agentbus {version} over {} listens at {shown}",
        text("transport")
    );
    match version == own {
        true => Check::ok(ADDRESS, detail),
        false => Check::warning(
            ADDRESS,
            detail,
            format!("this program is {own}; use the same version of both"),
        ),
    }
}

/// A token that was taken, and whether other commands find it.
fn accepted(shown: bool, url: &str, data_dir: &Path) -> Check {
    if !shown {
        return Check::ok(TOKEN, "there is none, and the bus does not ask for one");
    }
    let found = token_to_show(url, None).ok().flatten();
    let same = found == token_to_show(url, Some(data_dir)).ok().flatten();
    match same {
        true => Check::ok(TOKEN, "it opens the bus"),
        false => Check::warning(
            TOKEN,
            format!(
                "that in {} opens the bus, and other commands do not look there",
                data_dir.display()
            ),
            format!("set AGENTBUS_DATA_DIR={} for them", data_dir.display()),
        ),
    }
}

/// Asks for one path.
async fn get(uri: &Uri, path: &str, token: Option<&str>) -> Result<Answer, Silence> {
    let unreadable = |error: &dyn std::fmt::Display| Silence::Unreadable(error.to_string());
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = uri.port_u16().unwrap_or(80);
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    // Names and passwords are not for the header.
    let (_, named) = authority.rsplit_once('@').unwrap_or(("", authority));
    let mut request = Request::builder().uri(path).header("host", named);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(Full::new(Bytes::new()));
    let request = request.map_err(|error| unreadable(&error))?;
    let asking = async {
        let stream = TcpStream::connect((host, port)).await;
        let stream = stream.map_err(|error| away(&error))?;
        exchange(stream, request).await
    };
    let asked = timeout(PATIENCE, asking).await;
    asked.unwrap_or_else(|_| Err(unreadable(&"it says nothing")))
}

fn away(error: &io::Error) -> Silence {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Silence::Nobody,
        _ => Silence::Unreadable(error.to_string()),
    }
}

async fn exchange(stream: TcpStream, request: Request<Full<Bytes>>) -> Result<Answer, Silence> {
    let unreadable = |error: hyper::Error| Silence::Unreadable(error.to_string());
    let shaken = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(unreadable)?;
    let answering = async move {
        let response = sender.send_request(request).await.map_err(unreadable)?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| Silence::Unreadable(error.to_string()))?;
        Ok::<_, Silence>(Answer {
            status: parts.status.as_u16(),
            body: serde_json::from_slice(&body.to_bytes()).unwrap_or_default(),
        })
    };
    // The connection ends once its sender is gone.
    let (answer, _) = tokio::join!(answering, connection);
    answer
}
