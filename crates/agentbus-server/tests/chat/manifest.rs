//! What settings there are.

use serde_json::{Value, json};

use super::client::{Host, quiet};

/// The fields of a manifest, of all sections.
fn fields(manifest: &Value) -> Vec<&Value> {
    let sections = manifest["sections"].as_array().unwrap();
    sections
        .iter()
        .flat_map(|section| section["fields"].as_array().unwrap())
        .collect()
}

fn field<'a>(manifest: &'a Value, key: &str) -> &'a Value {
    let found = fields(manifest).into_iter().find(|one| one["key"] == key);
    found.unwrap()
}

#[tokio::test]
async fn every_setting_is_described_with_its_value() {
    let host = Host::start_with(|config, _| {
        config.chat = quiet();
        config.chat.enable_priority = true;
        config.admin_token = Some("hidden".to_owned());
    })
    .await;
    let answer = host.get("/api/settings/manifest").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(!answer.text.contains("hidden"), "{}", answer.text);
    let manifest = answer.body;
    let settings = host.get("/api/settings").await.body;
    for (key, value) in settings.as_object().unwrap() {
        assert_eq!(field(&manifest, key)["value"], *value, "{key}");
    }
    for one in fields(&manifest) {
        let key = one["key"].as_str().unwrap();
        let saved = json!({ key: one["value"] });
        let headers = [("x-admin-token", "hidden")];
        let saved = host.json_as("PUT", "/api/settings", &headers, saved).await;
        let editable = one["editable"].as_bool().unwrap();
        assert_eq!(saved.status == 200, editable, "{one}: {}", saved.text);
        assert_eq!(one["readonly_reason"].is_string(), !editable, "{one}");
    }
    assert_eq!(field(&manifest, "ENABLE_PRIORITY")["value_source"], "env");
    assert_eq!(field(&manifest, "ENABLE_PRIORITY")["type"], "boolean");
    assert_eq!(field(&manifest, "ADMIN_TOKEN_CONFIGURED")["value"], true);
    host.server.shutdown().await;
}

#[tokio::test]
async fn a_manifest_shows_what_was_saved() {
    let host = Host::start(quiet()).await;
    let before = host.get("/api/settings/manifest").await.body;
    let wait = field(&before, "MSG_WAIT_TIMEOUT");
    assert_eq!(
        (&wait["value"], &wait["value_source"], &wait["min"]),
        (&json!(300), &json!("default"), &json!(0))
    );
    let saved = json!({ "MSG_WAIT_TIMEOUT": 20 });
    let saved = host.json("PUT", "/api/settings", saved).await;
    assert_eq!(saved.body["message"], before["save_message"]);
    let after = host.get("/api/settings/manifest").await.body;
    let wait = field(&after, "MSG_WAIT_TIMEOUT");
    assert_eq!(
        (&wait["value"], &wait["value_source"]),
        (&json!(20), &json!("persisted"))
    );
    host.server.shutdown().await;
}
