//! What strangers get: every route, with every wrong header.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

#[path = "support/host.rs"]
mod host;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use agentbus::{Bus, Request};
use agentbus_server::{AuthMode, RunningServer, Server, ServerError};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use host::{ask, config, open_server, post};

/// Longest time that anything may take. Nothing waits this long unless it is broken.
const GUARD: Duration = Duration::from_secs(60);

async fn bus() -> Bus {
    Bus::builder("test").connect().await.unwrap()
}

/// All routes of the description, and those that it leaves out.
fn routes() -> Vec<(String, String)> {
    let description: Value =
        serde_json::from_str(&agentbus_server::openapi().to_json().unwrap()).unwrap();
    let mut all: Vec<_> = description["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            let path = path.replace(['{', '}'], "");
            let methods = methods
                .as_object()
                .unwrap()
                .keys()
                .map(|m| m.to_uppercase());
            methods
                .map(move |method| (method, path.clone()))
                .collect::<Vec<_>>()
        })
        .collect();
    for path in [
        "/",
        "/page.js",
        "/page.css",
        "/open?code=x",
        "/v1/ws",
        "/acp",
        "/nowhere",
    ] {
        all.push(("GET".to_owned(), path.to_owned()));
    }
    for path in ["/mcp", "/mcp/sse", "/mcp/messages/?session_id=x"] {
        for method in ["GET", "POST", "DELETE"] {
            all.push((method.to_owned(), path.to_owned()));
        }
    }
    assert!(all.len() >= 15);
    all
}

#[tokio::test]
async fn no_route_answers_a_stranger() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(config(dir.path()), bus().await)
        .await
        .unwrap();
    let token = std::fs::read_to_string(server.data_dir().token_path()).unwrap();
    let authority = server.local_addr().to_string();
    let good = format!("Authorization: Bearer {}\r\n", token.trim());
    for (method, path) in routes() {
        let send = async |headers: &str| {
            let length = "Content-Length: 0\r\nConnection: close\r\n";
            ask(
                &server,
                &format!("{method} {path} HTTP/1.1\r\n{headers}{length}\r\n"),
            )
            .await
        };
        let foreign = [
            "Host: evil.example\r\n".to_owned(),
            "Host: localhost.evil.example\r\n".to_owned(),
            "Host: localhost:1;id\r\n".to_owned(),
            "Host: localhost:$(id)\r\n".to_owned(),
            format!("Host: {authority}\r\nHost: {authority}\r\n"),
            format!("Host: {authority}@evil.example\r\n"),
            format!("Host: {authority}\r\nOrigin: http://evil.example\r\n"),
            format!("Host: {authority}\r\nOrigin: null\r\n"),
            format!("Host: {authority}\r\nOrigin: http://localhost:1\r\n"),
            format!(
                "Host: {authority}\r\nOrigin: http://{authority}\r\nOrigin: http://{authority}\r\n"
            ),
        ];
        for headers in foreign {
            let (status, answer) = send(&format!("{headers}{good}")).await;
            assert!(
                matches!(status, 400 | 403),
                "{method} {path} {headers}: {answer}"
            );
        }
        let open = path == "/healthz" || path.starts_with("/open?");
        for wrong in [
            "",
            "Authorization: Bearer wrong\r\n",
            "Authorization: Basic x\r\n",
            "Cookie: agentbus_session=x\r\n",
        ] {
            let (status, answer) = send(&format!("Host: {authority}\r\n{wrong}")).await;
            let refused = status == 401 && answer.contains("AUTH_FAILURE");
            assert!(
                refused || (open && path == "/healthz" && status == 200),
                "{method} {path}: {answer}"
            );
            assert!(
                answer.to_lowercase().contains("content-security-policy"),
                "{path}"
            );
        }
    }
    server.shutdown().await;
}

#[tokio::test]
async fn the_host_of_an_absolute_target_counts_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.auth = AuthMode::Off;
    let server = Server::start(config, bus().await).await.unwrap();
    let authority = server.local_addr().to_string();
    let (own, origin) = (authority.as_str(), format!("http://{authority}"));
    for (target, host, origin, expect) in [
        (own, own, "", 200),
        ("evil.example", own, "", 403),
        (own, "evil.example", "", 403),
        ("evil.example", "evil.example", "", 403),
        ("me@localhost", own, "", 403),
        // The target's authority is the host of the request, so it is what an origin may be.
        ("localhost:1", own, "http://localhost:1", 200),
        ("localhost:1", own, origin.as_str(), 403),
    ] {
        let origin = match origin {
            "" => String::new(),
            origin => format!("Origin: {origin}\r\n"),
        };
        let (status, answer) = ask(
            &server,
            &format!(
                "GET http://{target}/v1/targets HTTP/1.1\r\nHost: {host}\r\n{origin}Connection: close\r\n\r\n"
            ),
        )
        .await;
        assert_eq!(status, expect, "{target} {host} {origin}: {answer}");
    }
    server.shutdown().await;
}

#[tokio::test]
async fn a_console_link_opens_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(config(dir.path()), bus().await)
        .await
        .unwrap();
    let link = server.console_link();
    let path = link.strip_prefix(&server.url()).unwrap();
    let host = server.local_addr();
    let open = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let (status, answer) = ask(&server, &open).await;
    assert_eq!(status, 303, "{answer}");
    let cookie = answer
        .lines()
        .find_map(|line| line.strip_prefix("set-cookie: "))
        .unwrap();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    let pair = cookie.split(';').next().unwrap();
    let page =
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nCookie: {pair}\r\nConnection: close\r\n\r\n");
    assert_eq!(ask(&server, &page).await.0, 200);
    // A cookie is given to every port of a host; the browser says which page asked.
    for (site, expect) in [
        ("same-origin", 200),
        ("same-site", 401),
        ("cross-site", 401),
    ] {
        let said = page.replace("Cookie:", &format!("Sec-Fetch-Site: {site}\r\nCookie:"));
        assert_eq!(ask(&server, &said).await.0, expect, "{site}");
    }
    assert_eq!(ask(&server, &open).await.0, 401, "a link works once");
    server.shutdown().await;
}

#[tokio::test]
async fn the_data_directory_is_private_and_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(config(dir.path()), bus().await)
        .await
        .unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir.path().join("data")), 0o700);
    assert_eq!(mode(&server.data_dir().token_path()), 0o600);
    assert_eq!(mode(&dir.path().join("data/chat.db")), 0o600);
    let second = Server::start(config(dir.path()), bus().await).await;
    assert!(matches!(second, Err(ServerError::Locked { .. })));
    let mut busy = config(dir.path());
    busy.data_dir = dir.path().join("other");
    busy.listen = server.local_addr();
    assert!(matches!(
        Server::start(busy, bus().await).await,
        Err(ServerError::AddressInUse { .. })
    ));
    server.shutdown().await;
    std::fs::set_permissions(dir.path().join("data"), PermissionsExt::from_mode(0o755)).unwrap();
    let open = Server::start(config(dir.path()), bus().await).await;
    assert!(matches!(open, Err(ServerError::TooOpen { .. })));
}

#[tokio::test]
async fn strangers_cannot_be_let_in_by_accident() {
    let dir = tempfile::tempdir().unwrap();
    let mut open = config(dir.path());
    open.listen = "0.0.0.0:0".parse().unwrap();
    for (auth, hosts) in [
        (AuthMode::Off, vec!["x".to_owned()]),
        (AuthMode::Token, vec![]),
    ] {
        open.auth = auth;
        open.allowed_hosts = hosts;
        let refused = Server::start(open.clone(), bus().await).await;
        assert!(matches!(refused, Err(ServerError::Exposed { .. })));
    }
    let mut origin = config(dir.path());
    origin.allowed_origins = vec!["*".to_owned()];
    assert!(matches!(
        Server::start(origin, bus().await).await,
        Err(ServerError::BadOrigin(_))
    ));
}

#[tokio::test]
async fn a_browser_is_told_which_pages_may_call() {
    let dir = tempfile::tempdir().unwrap();
    let mut allowing = config(dir.path());
    allowing.allowed_origins = vec!["https://console.example".to_owned()];
    let server = Server::start(allowing, bus().await).await.unwrap();
    let asking = |server: &RunningServer, origin: &str| {
        format!(
            "OPTIONS /v1/agents/echo/invoke HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
             Origin: {origin}\r\nAccess-Control-Request-Method: POST\r\n\
             Access-Control-Request-Headers: authorization,content-type\r\n\r\n",
            server.local_addr()
        )
    };
    let told = "access-control-allow-origin: https://console.example\r\n";
    let (status, answer) = ask(&server, &asking(&server, "https://console.example")).await;
    assert_eq!(status, 200, "{answer}");
    for header in [
        told,
        "access-control-allow-headers: authorization,content-type\r\n",
    ] {
        assert!(answer.contains(header), "{answer}");
    }
    assert!(!answer.contains("allow-credentials"), "{answer}");
    let (_, answer) = ask(&server, &asking(&server, "https://other.example")).await;
    assert!(!answer.contains("access-control-allow-origin"), "{answer}");
    // A refusal is read by the page as well, and the token is asked for all the same.
    let refused = post(
        &server,
        "/v1/agents/echo/invoke",
        "Origin: https://console.example\r\n",
        "1",
    );
    let (status, answer) = ask(&server, &refused).await;
    assert_eq!(status, 401, "{answer}");
    assert!(answer.contains(told), "{answer}");
    server.shutdown().await;

    let server = open_server(&dir.path().join("closed"), bus().await).await;
    let (_, answer) = ask(&server, &asking(&server, "https://console.example")).await;
    assert!(!answer.contains("access-control"), "{answer}");
    server.shutdown().await;
}

#[tokio::test]
async fn bad_input_gets_its_own_answer() {
    let dir = tempfile::tempdir().unwrap();
    let bus = bus().await;
    bus.handle("echo", |r: Request| async move { Ok(r.payload().cloned()) })
        .await
        .unwrap();
    let server = open_server(dir.path(), bus).await;
    let huge = format!("\"{}\"", "x".repeat(4 * 1024 * 1024));
    let fits = format!("\"{}\"", "x".repeat(4 * 1024 * 1024 - 2));
    let cases = [
        ("/v1/agents/echo/invoke", "", "{bad", 400, "not valid JSON"),
        (
            "/v1/agents/echo/invoke",
            "",
            huge.as_str(),
            400,
            "exceeds 4 MiB",
        ),
        ("/v1/agents/echo/invoke", "", fits.as_str(), 200, ""),
        ("/v1/agents/nobody/invoke", "", "1", 404, "NO_HANDLER"),
        ("/v1/agents/nobody/stream", "", "1", 404, "NO_HANDLER"),
        ("/v1/agents/a..b/invoke", "", "1", 400, "empty token"),
        ("/v1/agents/%3E/invoke", "", "1", 400, "INVALID_REQUEST"),
        ("/v1/events/a%20b", "", "1", 400, "INVALID_REQUEST"),
        (
            "/v1/agents/echo/invoke",
            "X-Tenant-Id: a.invoke\r\n",
            "1",
            400,
            "tenant",
        ),
        (
            "/v1/agents/echo/invoke",
            "Idempotency-Key: \r\n",
            "1",
            400,
            "Idempotency-Key",
        ),
    ];
    for (path, headers, body, status, text) in cases {
        let (got, answer) = ask(&server, &post(&server, path, headers, body)).await;
        assert_eq!(
            got,
            status,
            "{path} {headers}: {}",
            &answer[..answer.len().min(600)]
        );
        assert!(
            answer.contains(text),
            "{path}: {}",
            &answer[..answer.len().min(600)]
        );
    }
    let bad_pattern = format!(
        "GET /v1/events?pattern=a.%3E.b HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        server.local_addr()
    );
    assert_eq!(ask(&server, &bad_pattern).await.0, 400);
    server.shutdown().await;
}

/// As docs/limits.md says.
#[tokio::test]
async fn the_head_of_a_request_is_limited() {
    let dir = tempfile::tempdir().unwrap();
    let server = open_server(dir.path(), bus().await).await;
    let begin = format!(
        "GET /healthz HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
        server.local_addr()
    );
    let more = |headers: usize| format!("{begin}{}\r\n", "x: y\r\n".repeat(headers));
    assert_eq!(ask(&server, &more(98)).await.0, 200);
    assert_eq!(ask(&server, &more(99)).await.0, 431);
    let fill = 64 * 1024 - begin.len();
    let long = format!("{begin}z: {}\r\n\r\n", "y".repeat(fill - 8));
    assert_eq!(ask(&server, &long).await.0, 200);
    // Not at its end after so many bytes.
    let endless = format!("{begin}z: {}", "y".repeat(fill - 3));
    assert_eq!(ask(&server, &endless).await.0, 431);
    server.shutdown().await;
}

#[tokio::test]
async fn every_refusal_is_json() {
    let dir = tempfile::tempdir().unwrap();
    let server = open_server(dir.path(), bus().await).await;
    for (method, path, expect) in [
        ("GET", "/nowhere", 404),
        ("POST", "/v1/nowhere", 404),
        ("POST", "/v1/agents//invoke", 404),
        ("DELETE", "/v1/targets", 405),
        ("GET", "/v1/agents/echo/invoke", 405),
        ("PUT", "/mcp", 405),
        ("POST", "/v1/agents/%ff/stream", 400),
        ("POST", "/v1/pools/%ff/drain", 400),
        ("GET", "/v1/events?format=xml", 400),
        ("GET", "/v1/sessions/x/events?after=y", 400),
        ("GET", "/open?code=a&code=b", 400),
        ("GET", "/mcp?lang=a&lang=b", 400),
        ("GET", "/acp?agent=a&agent=b", 400),
        ("GET", "/v1/ws", 400),
        ("GET", "/api/nowhere", 404),
        ("PATCH", "/api/threads", 405),
        ("GET", "/api/threads/%ff", 400),
    ] {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            server.local_addr()
        );
        let (status, answer) = ask(&server, &request).await;
        assert_eq!(status, expect, "{method} {path}: {answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let is_json = head
            .to_lowercase()
            .contains("content-type: application/json");
        assert!(is_json, "{method} {path}: {answer}");
        let body: Value = serde_json::from_str(body).unwrap();
        let said = match path.starts_with("/api/") {
            true => body["detail"].as_str(),
            false => body["message"].as_str(),
        };
        let told = said.is_some_and(|said| !said.is_empty());
        assert!(told, "{method} {path}: {answer}");
    }
    server.shutdown().await;
}

#[tokio::test]
async fn an_idempotency_key_runs_once() {
    let dir = tempfile::tempdir().unwrap();
    let bus = bus().await;
    let runs = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = runs.clone();
    bus.handle("count", move |_| {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async move { Ok(serde_json::json!(n)) }
    })
    .await
    .unwrap();
    let server = open_server(dir.path(), bus).await;
    let path = "/v1/agents/count/invoke";
    let key = "Idempotency-Key: k1\r\n";
    let (_, first) = ask(&server, &post(&server, path, key, "1")).await;
    let (_, again) = ask(&server, &post(&server, path, key, "1")).await;
    let tail = |answer: &str| answer.rsplit("\r\n").next().unwrap().to_owned();
    assert_eq!(
        (tail(&first), tail(&again)),
        ("0".to_owned(), "0".to_owned())
    );
    assert_eq!(ask(&server, &post(&server, path, key, "2")).await.0, 422);
    let (_, other) = ask(
        &server,
        &post(&server, path, "Idempotency-Key: k2\r\n", "1"),
    )
    .await;
    assert_eq!(tail(&other), "1");
    // Another tenant has keys of its own; nobody serves the target there.
    let elsewhere = "Idempotency-Key: k1\r\nX-Tenant-Id: acme\r\n";
    assert_ne!(
        ask(&server, &post(&server, path, elsewhere, "1")).await.0,
        200
    );
    let absent = "/v1/agents/late/invoke";
    let (status, _) = ask(&server, &post(&server, absent, key, "1")).await;
    assert_eq!(status, 422, "the key is taken by another request");
    server.shutdown().await;
}

#[tokio::test]
async fn an_outcome_that_may_be_another_the_next_time_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let bus = bus().await;
    let server = open_server(dir.path(), bus.clone()).await;
    let path = "/v1/agents/late/invoke";
    let key = "Idempotency-Key: k1\r\n";
    let asked = post(&server, path, key, "1");
    assert_eq!(ask(&server, &asked).await.0, 404, "nobody serves it yet");
    let runs = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = runs.clone();
    bus.handle("late", move |_| {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async move {
            match n {
                0 => Err(agentbus::Error::from(agentbus::ErrorPayload::new(
                    agentbus::ErrorCode::BackpressureDrop,
                    "later",
                ))),
                1 => Err(agentbus::Error::agent("it failed")),
                n => Ok(serde_json::json!(n)),
            }
        }
    })
    .await
    .unwrap();
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(ask(&server, &asked).await.0);
    }
    assert_eq!(statuses, [429, 502, 200, 200]);
    assert_eq!(runs.load(std::sync::atomic::Ordering::SeqCst), 3);
    server.shutdown().await;
}

#[tokio::test]
async fn a_client_that_leaves_cancels_and_a_shutdown_finishes() {
    struct Tell(
        tokio::sync::mpsc::UnboundedSender<&'static str>,
        &'static str,
    );
    impl Drop for Tell {
        fn drop(&mut self) {
            let _ = self.0.send(self.1);
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let bus = bus().await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let stuck = tell.clone();
    bus.handle("stuck", move |_| {
        let guard = Tell(stuck.clone(), "cancelled");
        stuck.send("started").unwrap();
        async move {
            let _guard = guard;
            std::future::pending::<Result<(), agentbus::Error>>().await
        }
    })
    .await
    .unwrap();
    bus.handle("slow", move |_| {
        tell.send("started").unwrap();
        async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            Ok(serde_json::json!("finished"))
        }
    })
    .await
    .unwrap();
    let mut config = config(dir.path());
    config.auth = AuthMode::Off;
    config.drain = GUARD;
    let server = Server::start(config, bus).await.unwrap();
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    let request = post(&server, "/v1/agents/stuck/invoke", "", "1");
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(told.recv().await, Some("started"));
    drop(stream);
    let cancelled = tokio::time::timeout(GUARD, told.recv()).await;
    assert_eq!(cancelled.unwrap(), Some("cancelled"));

    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    let request = post(&server, "/v1/agents/slow/invoke", "", "1");
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(told.recv().await, Some("started"));
    server.shutdown().await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.ends_with("\"finished\""),
        "an accepted request was lost: {answer}"
    );
}

#[tokio::test]
async fn a_stream_that_the_bus_cuts_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let bus = bus().await;
    bus.handle_stream("endless", |_, out| async move {
        out.delta(&"one").await?;
        std::future::pending().await
    })
    .await
    .unwrap();
    let mut config = config(dir.path());
    config.auth = AuthMode::Off;
    config.drain = Duration::from_millis(50);
    let server = Server::start(config, bus).await.unwrap();
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    let request = post(&server, "/v1/agents/endless/stream", "", "1");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 1];
    stream.read_exact(&mut head).await.unwrap();
    server.shutdown().await;
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    let last = rest.rsplit("event: ").next().unwrap();
    assert!(last.starts_with("agent.response.error"), "{rest}");
    assert!(last.contains("AGENT_UNAVAILABLE"), "{rest}");
    assert!(last.contains(r#""is_final":true"#), "{rest}");
}

#[tokio::test]
async fn events_are_tailed() {
    let dir = tempfile::tempdir().unwrap();
    let bus = bus().await;
    let publisher = bus.clone();
    let server = open_server(dir.path(), bus).await;
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    let host = server.local_addr();
    let request = format!("GET /v1/events?pattern=order.%3E HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = String::new();
    let mut read = async |until: &str| {
        let mut buffer = [0; 4096];
        while !seen.contains(until) {
            let reading = stream.read(&mut buffer);
            let n = tokio::time::timeout(GUARD, reading).await.unwrap().unwrap();
            seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
        seen.clone()
    };
    read(": hb\n\n").await;
    publisher.publish("other.thing", &1).await.unwrap();
    publisher
        .publish("order.paid", &serde_json::json!({"n": 1}))
        .await
        .unwrap();
    let seen = read("order.paid").await;
    let seen = if seen.contains("\"n\":1") {
        seen
    } else {
        read("\"n\":1").await
    };
    assert!(!seen.contains("other.thing"));
    server.shutdown().await;
}
