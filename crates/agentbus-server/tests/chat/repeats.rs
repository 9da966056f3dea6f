//! Writes beside the database, repeated under one key.

use serde_json::{Value, json};

use super::client::{Answer, Host, quiet};
use super::images::form;

const KEY: (&str, &str) = ("idempotency-key", "k");

async fn upload(host: &Host, name: &str, bytes: &[u8]) -> Answer {
    let kind = ("content-type", "multipart/form-data; boundary=X");
    let form = form(name, bytes);
    host.send("POST", "/api/upload/image", &[kind, KEY], form)
        .await
}

fn kept(host: &Host) -> usize {
    let uploads = host
        .server
        .data_dir()
        .token_path()
        .with_file_name("uploads");
    std::fs::read_dir(uploads).map_or(0, Iterator::count)
}

#[tokio::test]
async fn a_repeated_upload_is_answered_alike_and_another_is_refused() {
    let host = Host::start(quiet()).await;
    let (one, two) = (b"\x89PNG\r\n\x1a\n one", b"\x89PNG\r\n\x1a\n two");
    let first = upload(&host, "a.png", one).await;
    assert_eq!(first.status, 200, "{}", first.text);
    let again = upload(&host, "a.png", one).await;
    assert_eq!((again.status, &again.body), (200, &first.body));
    for (name, bytes) in [("a.png", two), ("b.png", one)] {
        let other = upload(&host, name, bytes).await;
        assert_eq!(other.status, 422, "{}", other.text);
        let why = other.body["detail"].as_str().unwrap();
        assert!(why.contains("choose a new one"), "{why}");
    }
    assert_eq!(kept(&host), 1, "what is refused is not kept");
    host.server.shutdown().await;
}

async fn put(host: &Host, headers: &[(&str, &str)]) -> Answer {
    let settings = json!({ "MSG_WAIT_TIMEOUT": 10 });
    host.json_as("PUT", "/api/settings", headers, settings)
        .await
}

#[tokio::test]
async fn settings_need_the_admin_token_where_there_is_one() {
    let host = Host::start_with(|config, _| {
        config.chat = quiet();
        config.admin_token = Some("secret".to_owned());
    })
    .await;
    let file = host.server.data_dir().token_path();
    let file = file.with_file_name("settings.json");
    for offered in ["", "secre", "secret2", "SECRET"] {
        // Under the key, too, nothing is told to whoever has no token.
        let refused = put(&host, &[("x-admin-token", offered), KEY]).await;
        assert_eq!(refused.status, 401, "{offered}: {}", refused.text);
        assert_eq!(refused.body["detail"], "Invalid admin token");
    }
    assert_eq!(put(&host, &[]).await.status, 401);
    assert!(!file.exists(), "nothing was saved");
    let saved = put(&host, &[("x-admin-token", "secret"), KEY]).await;
    assert_eq!(saved.status, 200, "{}", saved.text);
    assert!(file.exists());
    assert_eq!(
        put(&host, &[KEY]).await.status,
        401,
        "a repetition needs it as well"
    );
    let shown = host.get("/api/settings").await;
    assert!(!shown.text.contains("secret"), "{}", shown.text);
    host.server.shutdown().await;
}

#[tokio::test]
async fn a_repeated_setting_does_not_come_back() {
    let host = Host::start(quiet()).await;
    let put = async |key: &str, seconds: u64| {
        let settings = json!({ "MSG_WAIT_TIMEOUT": seconds });
        let headers = [("idempotency-key", key)];
        host.json_as("PUT", "/api/settings", &headers, settings)
            .await
    };
    let first = put("one", 10).await;
    assert_eq!(first.status, 200, "{}", first.text);
    assert_eq!(put("two", 20).await.status, 200);
    let again = put("one", 10).await;
    assert_eq!((again.status, &again.body), (200, &first.body));
    let file = host.server.data_dir().token_path();
    let kept = std::fs::read_to_string(file.with_file_name("settings.json")).unwrap();
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(kept["MSG_WAIT_TIMEOUT"], 20, "the newer one counts");
    let other = put("one", 30).await;
    assert_eq!(other.status, 422, "{}", other.text);
    host.server.shutdown().await;
}

#[tokio::test]
async fn a_setting_that_cannot_be_changed_saves_nothing() {
    let host = Host::start(quiet()).await;
    let put = async |settings: Value| host.json("PUT", "/api/settings", settings).await;
    let file = host.server.data_dir().token_path();
    let file = file.with_file_name("settings.json");
    for (settings, says) in [
        (json!({ "PORT": 1 }), "`listen`"),
        (json!({ "REPLY_TOKEN_LEASE_SECONDS": 7 }), "3600 s"),
        (json!({ "SEQ_TOLERENCE": 1 }), "no setting SEQ_TOLERENCE"),
        (json!({ "MSG_WAIT_TIMEOUT": -1 }), "cannot be negative"),
    ] {
        let mut settings = settings;
        settings["ENABLE_PRIORITY"] = json!(true);
        let refused = put(settings).await;
        assert_eq!(refused.status, 400, "{}", refused.text);
        assert!(refused.body["detail"].as_str().unwrap().contains(says));
        assert!(refused.body["errors"][0].as_str().unwrap().contains(says));
        assert!(!file.exists(), "{says}");
    }
    assert_eq!(put(json!({ "SEQ_TOLERANCE": 2 })).await.status, 200);
    assert!(file.exists());
    host.server.shutdown().await;
}
