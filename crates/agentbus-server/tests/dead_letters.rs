//! Dead letters and durable names, as who looks after a bus sees them over HTTP.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

#[path = "support/host.rs"]
mod host;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agentbus::middleware::DeadLetter;
use agentbus::{Bus, Error, Request};
use agentbus_server::RunningServer;
use serde_json::{Value, json};

use host::{ask, open_server};

/// How long anything may take that is awaited; nothing here takes a fraction of it.
const GUARD: Duration = Duration::from_secs(60);

/// Sends a request without a body; the status and the body of the answer, where it is JSON.
async fn send(server: &RunningServer, method: &str, path: &str) -> (u16, Value) {
    let host = server.local_addr();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    );
    let (status, answer) = ask(server, &request).await;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, serde_json::from_str(body).unwrap_or_default())
}

/// The list of letters, once it is as it should be.
async fn letters(server: &RunningServer, path: &str, is: impl Fn(&Value) -> bool) -> Value {
    let waited = async {
        loop {
            let (status, listed) = send(server, "GET", path).await;
            assert_eq!(status, 200, "{listed}");
            if is(&listed) {
                return listed;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(GUARD, waited).await.unwrap()
}

/// A bus whose orders fail until they are repaired.
async fn failing() -> (Bus, Arc<AtomicBool>) {
    let bus = Bus::builder("t").layer(DeadLetter).connect().await.unwrap();
    let repaired = Arc::new(AtomicBool::new(false));
    let works = Arc::clone(&repaired);
    bus.on("order.*", move |_: Request| {
        let outcome = match works.load(Ordering::SeqCst) {
            true => Ok(()),
            false => Err(Error::agent("out of paper")),
        };
        std::future::ready(outcome)
    })
    .await
    .unwrap();
    (bus, repaired)
}

#[tokio::test]
async fn a_letter_is_listed_redriven_and_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (bus, repaired) = failing().await;
    let server = open_server(dir.path(), bus.clone()).await;
    let all = "/v1/dead-letters";
    bus.publish("order.paid", &json!({ "n": 1 })).await.unwrap();
    let listed = letters(&server, all, |listed| listed["entries"] == 1).await;
    let letter = &listed["dead_letters"][0];
    assert_eq!(letter["event_type"], "order.paid");
    assert_eq!(letter["subject"], "acp.v1.events.order.paid");
    assert_eq!(letter["reason"], "handler_error");
    assert_eq!(
        (&letter["attempts"], &letter["redrives"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(letter["payload"], json!({ "n": 1 }));
    let error = letter["error"].as_str().unwrap();
    assert!(error.contains("out of paper"), "{letter}");

    let id = letter["id"].as_str().unwrap().to_owned();
    let redrive = format!("{all}/{id}/redrive");
    let (status, failed) = send(&server, "POST", &redrive).await;
    assert_eq!(status, 502, "{failed}");
    let again = |listed: &Value| listed["dead_letters"][0]["redrives"] == 1;
    letters(&server, all, again).await;

    repaired.store(true, Ordering::SeqCst);
    let (status, redriven) = send(&server, "POST", &redrive).await;
    assert_eq!(status, 200, "{redriven}");
    assert_eq!(redriven, json!({ "redriven": [id], "failed": [] }));
    letters(&server, all, |listed| listed["entries"] == 0).await;
    for (method, path) in [("POST", redrive), ("DELETE", format!("{all}/{id}"))] {
        let (status, unknown) = send(&server, method, &path).await;
        assert_eq!(status, 404, "{unknown}");
        assert_eq!(unknown["code"], "INVALID_REQUEST");
    }
    assert_eq!(send(&server, "GET", &format!("{all}/{id}")).await.0, 405);
    server.shutdown().await;
}

#[tokio::test]
async fn letters_are_told_apart_redriven_together_and_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let (bus, repaired) = failing().await;
    let server = open_server(dir.path(), bus.clone()).await;
    for (event_type, n) in [("order.paid", 1), ("order.paid", 2), ("order.sent", 3)] {
        bus.publish(event_type, &n).await.unwrap();
    }
    let all = "/v1/dead-letters";
    let listed = letters(&server, all, |listed| listed["entries"] == 3).await;
    assert_eq!(listed["dead_letters"][0]["payload"], 3, "newest first");
    let one = "/v1/dead-letters?event_type=order.paid&offset=1&limit=1";
    let page = letters(&server, one, |_| true).await;
    assert_eq!(page["dead_letters"].as_array().unwrap().len(), 1);
    assert_eq!(page["dead_letters"][0]["payload"], 1);

    let paid = "/v1/dead-letters/redrive?event_type=order.paid";
    let (status, outcome) = send(&server, "POST", paid).await;
    assert_eq!(status, 200, "{outcome}");
    assert_eq!(outcome["redriven"], json!([]));
    assert_eq!(outcome["failed"].as_array().unwrap().len(), 2, "{outcome}");
    assert_eq!(outcome["failed"][0]["id"], page["dead_letters"][0]["id"]);
    repaired.store(true, Ordering::SeqCst);
    let one = format!("{paid}&limit=1");
    let (_, outcome) = send(&server, "POST", &one).await;
    let oldest = page["dead_letters"][0]["id"].clone();
    assert_eq!(outcome["redriven"], json!([oldest]));
    let (_, outcome) = send(&server, "POST", paid).await;
    let redriven = outcome["redriven"].as_array().unwrap();
    assert_eq!(redriven.len(), 1, "{outcome}");

    let left = letters(&server, all, |listed| listed["entries"] == 1).await;
    let id = left["dead_letters"][0]["id"].as_str().unwrap();
    let path = format!("{all}/{id}");
    assert_eq!(send(&server, "DELETE", &path).await.0, 204);
    letters(&server, all, |listed| listed["entries"] == 0).await;
    server.shutdown().await;
}

#[tokio::test]
async fn a_durable_name_is_removed_where_the_transport_can() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::builder("t").connect().await.unwrap();
    let server = open_server(&dir.path().join("memory"), bus).await;
    let (status, refused) = send(&server, "DELETE", "/v1/durables/jobs").await;
    assert_eq!(status, 400, "{refused}");
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("sqlite://PATH"), "{refused}");
    let (status, refused) = send(&server, "GET", "/v1/durables").await;
    assert_eq!(status, 400, "{refused}");
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("sqlite://PATH"), "{refused}");
    server.shutdown().await;

    let url = format!("sqlite://{}", dir.path().join("bus.db").display());
    let bus = Bus::builder("t").transport(url).connect().await.unwrap();
    let server = open_server(&dir.path().join("sqlite"), bus.clone()).await;
    let jobs = bus.subscribe("job.*").durable("my jobs").await.unwrap();
    let path = "/v1/durables/my%20jobs";
    let (status, in_use) = send(&server, "DELETE", path).await;
    assert_eq!(status, 400, "{in_use}");
    assert!(in_use["message"].as_str().unwrap().contains("in use"));
    let (status, listed) = send(&server, "GET", "/v1/durables").await;
    assert_eq!(status, 200, "{listed}");
    let told = &listed["durables"][0];
    assert_eq!(told["name"], "my jobs", "{listed}");
    assert_eq!(told["pattern"], "acp.v1.events.job.*", "{listed}");
    assert_eq!(told["members"], 1, "{listed}");
    drop(jobs);
    bus.publish("job.made", &1).await.unwrap();
    assert_eq!(send(&server, "DELETE", path).await.0, 204);
    assert_eq!(send(&server, "DELETE", path).await.0, 400);
    let mut jobs = bus.subscribe("job.*").durable("my jobs").await.unwrap();
    bus.publish("job.made", &2).await.unwrap();
    let next = tokio::time::timeout(GUARD, jobs.next()).await.unwrap();
    let payload = next.unwrap().envelope().payload.clone().unwrap();
    assert_eq!(payload.as_str(), "2", "it began anew");
    server.shutdown().await;
}

/// A bus that joins another one has no names of its own, and shows those of the one behind it.
#[tokio::test]
async fn durable_names_are_listed_through_the_bus_in_front() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", dir.path().join("bus.db").display());
    let bus = Bus::builder("t").transport(url).connect().await.unwrap();
    let behind = open_server(&dir.path().join("behind"), bus).await;
    let bus = Bus::builder("front").transport(behind.url());
    let bus = bus.connect().await.unwrap();
    let front = open_server(&dir.path().join("front"), bus.clone()).await;
    let jobs = bus.subscribe("job.*").durable("jobs").await.unwrap();
    let (status, listed) = send(&front, "GET", "/v1/durables").await;
    assert_eq!(status, 200, "{listed}");
    assert_eq!(listed["durables"][0]["name"], "jobs", "{listed}");
    assert_eq!(listed["durables"][0]["members"], 1, "{listed}");
    let (_, kept) = send(&behind, "GET", "/v1/durables").await;
    assert_eq!(kept["durables"][0]["name"], "jobs", "{kept}");
    drop(jobs);
    front.shutdown().await;
    behind.shutdown().await;
}

/// Letters have no tenant, so who looks after the bus has those of all.
#[tokio::test]
async fn a_letter_of_a_tenant_is_sent_to_that_tenant_again() {
    let dir = tempfile::tempdir().unwrap();
    let host = Bus::builder("t").connect().await.unwrap();
    let server = open_server(dir.path(), host.clone()).await;
    let acme = Bus::builder("acme").tenant("acme").layer(DeadLetter);
    let acme = acme.transport_instance(Arc::clone(host.transport()));
    let acme = acme.connect().await.unwrap();
    let tries = Arc::new(AtomicBool::new(false));
    acme.on("order.*", move |_: Request| {
        let outcome = match tries.swap(true, Ordering::SeqCst) {
            true => Ok(()),
            false => Err(Error::agent("out of paper")),
        };
        std::future::ready(outcome)
    })
    .await
    .unwrap();
    acme.publish("order.paid", &1).await.unwrap();
    let all = "/v1/dead-letters";
    let listed = letters(&server, all, |listed| listed["entries"] == 1).await;
    let letter = &listed["dead_letters"][0];
    assert_eq!(letter["subject"], "acp.v1.acme.events.order.paid");
    let id = letter["id"].as_str().unwrap();
    let (status, sent) = send(&server, "POST", &format!("{all}/{id}/redrive")).await;
    assert_eq!(status, 200, "{sent}");
    letters(&server, all, |listed| listed["entries"] == 0).await;
    server.shutdown().await;
}
