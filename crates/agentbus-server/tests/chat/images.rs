//! Uploads that come along with messages as images.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::client::{Answer, Host, quiet};
use super::mcp_session::McpSession;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and what a picture needs beside";

/// A form, between lines of `X`, with a file of this name.
pub(super) fn form(name: &str, bytes: &[u8]) -> Vec<u8> {
    let head = format!(
        "--X\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
         content-type: image/png\r\n\r\n"
    );
    [head.as_bytes(), bytes, b"\r\n--X--\r\n".as_slice()].concat()
}

async fn send(host: &Host, name: &str, bytes: &[u8]) -> Answer {
    let kind = [("content-type", "multipart/form-data; boundary=X")];
    host.send("POST", "/api/upload/image", &kind, form(name, bytes))
        .await
}

/// Uploads the image; what is answered.
async fn upload(host: &Host) -> Value {
    let uploaded = send(host, "a.png", PNG).await;
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

/// Everything in the data directory, which is beside the uploads, and in what it is in.
fn files(host: &Host) -> Vec<String> {
    let data = host.server.data_dir().token_path();
    let data = data.parent().unwrap();
    let mut found = Vec::new();
    let mut left = vec![data.parent().unwrap().to_owned()];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => left.push(path),
                false => found.push(path.file_name().unwrap().to_str().unwrap().to_owned()),
            }
        }
    }
    found
}

#[tokio::test]
async fn a_name_leads_nowhere_but_into_the_uploads() {
    let host = Host::start(quiet()).await;
    let names = [
        "../../escaped.png",
        "/tmp/escaped.png",
        "..\\..\\escaped.png",
        "escaped.png/../../token.png",
        "escaped\0.png",
        ".png",
    ];
    for name in names {
        let answer = send(&host, name, PNG).await;
        // Either the name is no name, or it is only shown again.
        if answer.status == 200 {
            let url = answer.body["url"].as_str().unwrap();
            let stored = url.strip_prefix("/static/uploads/").unwrap();
            let stem = stored.strip_suffix(".png").unwrap();
            assert!(stem.bytes().all(|byte| byte.is_ascii_hexdigit()), "{url}");
        } else {
            assert_eq!(answer.status, 400, "{name:?}: {}", answer.text);
        }
    }
    let images = files(&host);
    let images = images.iter().filter(|name| name.ends_with(".png"));
    assert_eq!(images.count(), 1, "one image, under a name of our own");
    assert!(!files(&host).iter().any(|name| name.contains("escaped")));
    host.server.shutdown().await;
}

#[tokio::test]
async fn what_is_no_image_is_refused_and_not_kept() {
    let host = Host::start(quiet()).await;
    let mut big = PNG.to_vec();
    big.resize(5 * 1024 * 1024 + 1, 0);
    let cases: [(&str, &[u8], u16, &str); 6] = [
        ("a.png", b"\xff\xd8\xff and a JPEG", 400, "does not match"),
        ("a.webp", b"RIFF0000WAVEfmt ", 400, "does not match"),
        ("a.gif", b"", 400, "does not match"),
        ("a.svg", b"<svg/>", 400, "Allowed: .jpg"),
        ("png", PNG, 400, "Unsupported file type ''"),
        ("a.png", &big, 413, "Maximum size is 5 MB"),
    ];
    for (name, bytes, status, why) in cases {
        let refused = send(&host, name, bytes).await;
        assert_eq!(refused.status, status, "{name}: {}", refused.text);
        let said = refused.body["detail"].as_str().unwrap();
        assert!(said.contains(why), "{name}: {said}");
    }
    let kept = files(&host);
    let endings = [".png", ".webp", ".gif", ".svg", ".new"];
    let is_kept = |name: &String| endings.iter().any(|ending| name.ends_with(ending));
    assert!(!kept.iter().any(is_kept), "{kept:?}");
    host.server.shutdown().await;
}
