//! The HTTP API of a running bus.

use std::path::PathBuf;

use agentbus::transport::remote::hidden;
use agentbus_server::limits::BODY_BYTES_MAX;
use agentbus_transport_ws::credentials;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::commands::attach::Event;
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Where the bus is and how to print.
pub(crate) struct Api {
    url: String,
    /// Where the token is, if not in the data directory of the user.
    data_dir: Option<PathBuf>,
    pub(in crate::commands) output: Output,
}

type Sender = http1::SendRequest<Full<Bytes>>;
type Connection = http1::Connection<TokioIo<TcpStream>, Full<Bytes>>;

struct Answer {
    status: StatusCode,
    body: Bytes,
}

impl Api {
    pub(crate) fn new(url: &str, output: Output) -> Self {
        Self {
            url: url.trim_end_matches('/').to_owned(),
            data_dir: None,
            output,
        }
    }

    /// The same bus, with the token of this data directory.
    pub(crate) fn with_token_of(self, data_dir: Option<PathBuf>) -> Self {
        Self { data_dir, ..self }
    }

    /// Where the bus is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What the bus there is shown.
    pub(crate) fn token(&self) -> Result<Option<String>, Failure> {
        let token = agentbus_transport_ws::token_to_show(&self.url, self.data_dir.as_deref());
        Ok(token.map_err(agentbus::Error::from)?)
    }

    /// What to do when the bus there does not take the token.
    pub(crate) fn refusal(&self) -> String {
        credentials::refusal(&self.url, self.data_dir.as_deref())
    }

    /// Whether a bus answers there.
    pub(crate) async fn is_there(&self) -> bool {
        let answer = self.exchange("GET", "/healthz", &[], None).await;
        answer.is_ok_and(|answer| answer.status.is_success())
    }

    pub(in crate::commands) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.send("GET", path, &[], None).await
    }

    /// The same, where there may be nothing.
    pub(super) async fn try_get(&self, path: &str) -> Result<Option<Value>, Failure> {
        let answer = self.exchange("GET", path, &[], None).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.read(&answer).map(Some)
    }

    pub(in crate::commands) async fn post(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<Value, Failure> {
        self.send("POST", path, &[], Some(body)).await
    }

    /// Has the bus forget what is there.
    pub(in crate::commands) async fn delete(&self, path: &str) -> Result<(), Failure> {
        let answer = self.exchange("DELETE", path, &[], None).await?;
        match answer.status.is_success() {
            true => Ok(()),
            false => Err(self.refused(&answer)),
        }
    }

    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        self.read(&self.exchange(method, path, headers, body).await?)
    }

    pub(super) async fn text(&self, path: &str) -> Result<String, Failure> {
        let answer = self.exchange("GET", path, &[], None).await?;
        if !answer.status.is_success() {
            return Err(self.refused(&answer));
        }
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }

    async fn exchange(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let (uri, request) = self.request(method, path, headers, body)?;
        let (mut sender, connection) = self.connect(&uri).await?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok::<_, hyper::Error>(Answer {
                status: parts.status,
                body,
            })
        };
        // Both in this task, so that nothing is left when it is dropped.
        let answered = tokio::select! {
            answered = exchange => answered,
            ended = connection => return Err(match ended {
                Err(error) => self.away(&error),
                Ok(()) => self.away(&"the connection was closed"),
            }),
        };
        answered.map_err(|error| self.away(&error))
    }

    /// Hears server-sent events until `hear` has heard enough, or until the bus hangs up.
    pub(in crate::commands) async fn listen(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        mut hear: impl FnMut(Event<'_>) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let (uri, request) = self.request("GET", path, headers, None)?;
        let (mut sender, connection) = self.connect(&uri).await?;
        let listening = async {
            let away = |error: hyper::Error| self.away(&error);
            let mut response = sender.send_request(request).await.map_err(away)?;
            if !response.status().is_success() {
                let status = response.status();
                let body = response.body_mut().collect().await.map_err(away)?;
                let body = body.to_bytes();
                return Err(self.refused(&Answer { status, body }));
            }
            let mut blocks = Blocks::default();
            while let Some(frame) = response.frame().await {
                let frame = frame.map_err(away)?;
                if let Some(data) = frame.data_ref()
                    && !blocks.read(data, &mut hear)?
                {
                    return Ok(());
                }
            }
            Ok(())
        };
        tokio::select! {
            heard = listening => heard,
            _ = connection => Ok(()),
        }
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<(Uri, Request<Full<Bytes>>), Failure> {
        let wrong = |error: String| Failure::usage(format!("{}: {error}", hidden(&self.url)));
        let uri: Uri = self
            .url
            .parse()
            .map_err(|_| wrong("is not a URL".to_owned()))?;
        if uri.scheme_str() != Some("http") {
            return Err(wrong(
                "conversations are reached over http:// only".to_owned(),
            ));
        }
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &authority);
        if let Some(token) = self.token()? {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        if body.len() > BODY_BYTES_MAX {
            // The bus would hang up while it is sent, and its answer would be lost.
            return Err(Failure::usage(format!(
                "that makes {} bytes, and the bus takes {BODY_BYTES_MAX}",
                body.len()
            )));
        }
        let request = request
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| wrong(error.to_string()))?;
        Ok((uri, request))
    }

    async fn connect(&self, uri: &Uri) -> Result<(Sender, Connection), Failure> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await;
        let stream = stream.map_err(|error| self.away(&error))?;
        let shaken = http1::handshake(TokioIo::new(stream)).await;
        shaken.map_err(|error| self.away(&error))
    }

    fn read(&self, answer: &Answer) -> Result<Value, Failure> {
        if !answer.status.is_success() {
            return Err(self.refused(answer));
        }
        let value = serde_json::from_slice(&answer.body);
        value.map_err(|_| Failure::unexpected("the bus answered with something that is no JSON"))
    }

    fn refused(&self, answer: &Answer) -> Failure {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        // Not the conversations, where a token is that of an agent: the door.
        if answer.status == StatusCode::UNAUTHORIZED && body["code"] == "AUTH_FAILURE" {
            return Failure::new(Exit::Refused, self.refusal());
        }
        refused(answer.status, &body)
    }

    fn away(&self, error: &dyn std::fmt::Display) -> Failure {
        let hint = "start one with `agentbus serve`, or name another with --url";
        let message = format!("no bus answers at {}: {error}; {hint}", hidden(&self.url));
        Failure::new(Exit::Unreachable, message)
    }

    /// Prints an answer: as JSON, or as a sentence.
    pub(in crate::commands) fn say(&self, answer: &Value, sentence: &str) -> Result<(), Failure> {
        if self.output.is_json() {
            return self.output.line(&answer.to_string());
        }
        self.output.line(sentence)
    }

    /// Prints a list: as JSON, one object a line, or as lines for people.
    pub(in crate::commands) fn rows(
        &self,
        rows: &Value,
        show: fn(&Value) -> String,
    ) -> Result<(), Failure> {
        let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
        if rows.is_empty() {
            self.output.note("nothing found");
        }
        for row in rows {
            if self.output.is_json() {
                self.output.line(&row.to_string())?;
            } else {
                self.output.line(&show(row))?;
            }
        }
        Ok(())
    }
}

/// Server-sent events as they come in pieces.
#[derive(Default)]
struct Blocks(Vec<u8>);

impl Blocks {
    /// Hands out the events that are whole; false when no more are wanted.
    fn read(
        &mut self,
        data: &[u8],
        hear: &mut impl FnMut(Event<'_>) -> Result<bool, Failure>,
    ) -> Result<bool, Failure> {
        self.0.extend_from_slice(data);
        let mut begin = 0;
        while let Some(length) = self.0[begin..].windows(2).position(|end| end == b"\n\n") {
            let block = String::from_utf8_lossy(&self.0[begin..begin + length]);
            begin += length + 2;
            if let Some(event) = Event::read(&block)
                && !hear(event)?
            {
                return Ok(false);
            }
        }
        self.0.drain(..begin);
        Ok(true)
    }
}

fn refused(status: StatusCode, body: &Value) -> Failure {
    let exit = match status.as_u16() {
        401 | 403 => Exit::Refused,
        409 | 429 | 507 => Exit::NotTaken,
        503 => Exit::Unreachable,
        400..=499 => Exit::Usage,
        _ => Exit::Unexpected,
    };
    let told = [
        &body["detail"],
        &body["detail"]["message"],
        &body["detail"]["error"],
        &body["error"],
        &body["message"],
    ];
    let text = told.into_iter().find_map(Value::as_str);
    if let (Some(field), Some(problem)) = (
        body["detail"][0]["loc"][1].as_str(),
        body["detail"][0]["msg"].as_str(),
    ) {
        return Failure::new(exit, format!("{field}: {problem}"));
    }
    if body["detail"]["error"] == "THREAD_CLOSED" {
        let message = "the thread is closed; `agentbus thread reopen THREAD` opens it again";
        return Failure::new(exit, message);
    }
    if let (429, Some(limit), Some(wait)) = (
        status.as_u16(),
        body["limit"].as_u64(),
        body["retry_after"].as_u64(),
    ) {
        let message = format!(
            "an author may post {limit} messages in {} s (`chat_rate_limit`); try again in {wait} s",
            body["window"]
        );
        return Failure::new(exit, message);
    }
    Failure::new(
        exit,
        text.map_or_else(|| format!("the bus answered with {status}"), str::to_owned),
    )
}

/// Makes a text safe to stand in a path or a query.
pub(in crate::commands) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_that_is_wrong_is_named() {
        let detail = json!([{ "loc": ["body", "content"], "msg": "Field required" }]);
        let body = json!({ "detail": detail });
        let refusal = refused(StatusCode::UNPROCESSABLE_ENTITY, &body);
        assert_eq!(refusal.message, "content: Field required");
    }
}
