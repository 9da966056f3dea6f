//! Uploads that come along with messages as images.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::client::{Host, quiet};
use super::mcp_session::McpSession;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and what a picture needs beside";

/// Uploads the image; what is answered.
async fn upload(host: &Host) -> Value {
    let mut form = b"--X\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.png\"\r\n\
        content-type: image/png\r\n\r\n"
        .to_vec();
    form.extend(PNG);
    form.extend(b"\r\n--X--\r\n");
    let kind = [("content-type", "multipart/form-data; boundary=X")];
    let uploaded = host.send("POST", "/api/upload/image", &kind, form).await;
    assert_eq!(uploaded.status, 200, "{}", uploaded.text);
    uploaded.body
}

#[tokio::test]
async fn the_same_image_twice_is_one_file_at_one_address() {
    let host = Host::start(quiet()).await;
    let (first, second) = (upload(&host).await, upload(&host).await);
    assert_eq!(first["url"], second["url"]);
    assert_eq!(host.get(first["url"].as_str().unwrap()).await.status, 200);
    let token = host.server.data_dir().token_path();
    let uploads = std::fs::read_dir(token.with_file_name("uploads")).unwrap();
    assert_eq!(uploads.count(), 1);
    host.server.shutdown().await;
}

#[tokio::test]
async fn an_uploaded_image_reaches_an_agent_as_an_image() {
    let host = Host::start(quiet()).await;
    let uploaded = upload(&host).await;
    let thread = host.thread("t").await;
    let gone = json!({ "url": "/static/uploads/00000000000000000000000000000000.png" });
    let outside = json!({ "url": "/static/uploads/../token" });
    let post = json!({ "content": "look", "images": [uploaded, gone, outside] });
    let path = format!("/api/threads/{thread}/messages");
    assert_eq!(host.json("POST", &path, post).await.status, 201);

    let mcp = McpSession::open(&host, "none").await;
    let listed = async |more: Value| {
        let mut asked = json!({ "thread_id": thread, "include_system_prompt": false });
        asked
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let listed = mcp.call("msg_list", asked).await;
        listed["content"].as_array().unwrap().clone()
    };
    let blocks = listed(json!({})).await;
    assert_eq!(blocks[1]["text"], "look");
    assert_eq!(
        (&blocks[2]["type"], &blocks[2]["mimeType"]),
        (&json!("image"), &json!("image/png"))
    );
    assert_eq!(
        STANDARD
            .decode(blocks[2]["data"].as_str().unwrap())
            .unwrap(),
        PNG
    );
    let text = |block: &Value| block["text"].as_str().unwrap().to_owned();
    assert_eq!(
        text(&blocks[3]),
        "[image] /static/uploads/00000000000000000000000000000000.png"
    );
    assert_eq!(text(&blocks[4]), "[image] /static/uploads/../token");
    let without = listed(json!({ "include_attachments": false })).await;
    assert_eq!(without.len(), 2);
}
