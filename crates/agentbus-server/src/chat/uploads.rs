//! Images that messages show: checked by their first bytes, kept under names of our own.
//!
//! A name is made of what is in the file, so an image that comes again takes no more room.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use agentbus_mcp::Uploads;
use axum::Json;
use axum::body::Body;
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest, Multipart, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::Limited;
use rand::RngExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::refusal::Refusal;
use super::request::{Path, key};
use crate::limits::BODY_TIMEOUT;
use crate::state::App;

/// Endings, the kind of image each means, and what such a file begins with.
const KINDS: [(&str, &str, &str); 7] = [
    (".jpg", ".jpg", "image/jpeg"),
    (".jpeg", ".jpeg", "image/jpeg"),
    (".jpe", ".jpg", "image/jpeg"),
    (".jfif", ".jpg", "image/jpeg"),
    (".png", ".png", "image/png"),
    (".gif", ".gif", "image/gif"),
    (".webp", ".webp", "image/webp"),
];

/// What a form may hold beside the file.
const FORM_BYTES: usize = 64 * 1024;

/// Longest file name that is remembered.
const NAME_CHARS: usize = 255;

/// Uploads an image.
#[utoipa::path(post, path = "/api/upload/image", tag = "conversations",
    params(("Idempotency-Key" = Option<String>, Header, description = "Refuses another image under the same key, for a day; the same image is kept once in any case")),
    request_body(content = String, content_type = "multipart/form-data", description = "The field `file`: .jpg, .jpeg, .png, .gif or .webp"),
    responses((status = 200, description = "url, name"), (status = 400, description = "No image"), (status = 413), (status = 422, description = "The key was used for another image")))]
pub(super) async fn upload(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Json<Value>, Refusal> {
    // All of the body is limited, not only the file: the parser keeps what it has not understood.
    let limit = app.config.chat.max_image_bytes.saturating_add(FORM_BYTES);
    let headers = request.headers().clone();
    let request = request.map(|body| Body::new(Limited::new(body, limit)));
    let parts = Multipart::from_request(request, &()).await;
    let parts = parts.map_err(|_| Refusal::bad("the body is not a form with a file"))?;
    let read = tokio::time::timeout(BODY_TIMEOUT, file_of(&app, parts)).await;
    let read = read.map_err(|_| Refusal::bad("the file did not come in time"))?;
    let (name, bytes) = read?.ok_or_else(|| Refusal::bad("No file provided"))?;
    let ending = ending_of(&name);
    let Some((_, kept_as, kind)) = KINDS.iter().find(|(known, _, _)| *known == ending) else {
        return Err(Refusal::bad(format!(
            "Unsupported file type '{ending}'. Allowed: .jpg, .jpeg, .png, .gif, .webp"
        )));
    };
    if !begins_like(kind, &bytes) {
        return Err(Refusal::bad("File content does not match its extension"));
    }
    let (kept_as, image) = (*kept_as, bytes.clone());
    let stored = aside(move || Ok(name_of(kept_as, &image))).await?;
    if headers.contains_key("idempotency-key") {
        let body = format!("{name}\n{stored}");
        let key = key("POST /api/upload/image", &headers, &body)?;
        // Before the image is kept, or one that is refused would stay.
        app.chat.chat.under(key).once(|| Ok(())).await?;
    }
    let (directory, saved_as) = (app.chat.uploads.clone(), stored.clone());
    aside(move || save(&directory, &saved_as, &bytes)).await?;
    let name: String = name.chars().take(NAME_CHARS).collect();
    Ok(Json(
        json!({ "url": format!("/static/uploads/{stored}"), "name": name }),
    ))
}

/// Hashes or writes an image, which takes long for a large one, beside the threads that answer other
/// requests.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(std::io::Error::other)
        .flatten()
        .map_err(|error| {
            tracing::error!(%error, "an upload could not be kept");
            let text = "the image could not be kept; look into the log of the bus";
            Refusal::text(StatusCode::INSUFFICIENT_STORAGE, text)
        })
}

/// Reads the field `file`, no further than the limit.
async fn file_of(app: &App, mut parts: Multipart) -> Result<Option<(String, Bytes)>, Refusal> {
    let limit = app.config.chat.max_image_bytes;
    while let Some(part) = parts
        .next_field()
        .await
        .map_err(|error| broken(&error, limit))?
    {
        if part.name() != Some("file") {
            continue;
        }
        let name = part.file_name().unwrap_or_default().to_owned();
        return Ok(Some((name, within(part, limit).await?)));
    }
    Ok(None)
}

async fn within(mut part: Field<'_>, limit: usize) -> Result<Bytes, Refusal> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = part.chunk().await.map_err(|error| broken(&error, limit))? {
        if bytes.len() + chunk.len() > limit {
            return Err(too_large(limit));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

fn broken(error: &MultipartError, limit: usize) -> Refusal {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(limit),
        _ => Refusal::bad("the body is not a form with a file"),
    }
}

fn too_large(limit: usize) -> Refusal {
    let limit = limit / (1024 * 1024);
    let text = format!("File too large. Maximum size is {limit} MB");
    Refusal::text(StatusCode::PAYLOAD_TOO_LARGE, text)
}

fn ending_of(name: &str) -> String {
    match name.rfind('.') {
        Some(at) => name[at..].to_lowercase(),
        None => String::new(),
    }
}

fn begins_like(kind: &str, bytes: &[u8]) -> bool {
    match kind {
        "image/jpeg" => bytes.starts_with(&[0xff, 0xd8, 0xff]),
        "image/png" => bytes.starts_with(b"\x89PNG\r\n\x1a\n"),
        "image/gif" => bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a"),
        _ => bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP"),
    }
}

/// The beginning of an image's hash is its name.
fn name_of(kept_as: &str, bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let half = &hash[..16];
    let stem: String = half.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{stem}{kept_as}")
}

/// Keeps an image under the name that was made of it.
fn save(directory: &FilePath, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let path = directory.join(name);
    if path.is_file() {
        return Ok(());
    }
    std::fs::create_dir_all(directory)?;
    write_whole(directory, &path, bytes)
}

/// Writes a file whole or not at all.
fn write_whole(directory: &FilePath, path: &FilePath, bytes: &[u8]) -> std::io::Result<()> {
    // Of a name of its own, because the same image may be coming twice at this moment.
    let draft = directory.join(format!("{:032x}.new", rand::rng().random::<u128>()));
    let written = std::fs::write(&draft, bytes)
        .and_then(|()| std::fs::File::open(&draft)?.sync_all())
        .and_then(|()| std::fs::rename(&draft, path));
    if written.is_err() {
        // On a full disk it would be in the way. There may be none, if it could not be made.
        let _ = std::fs::remove_file(&draft);
    }
    written
}

/// Shows an upload.
#[utoipa::path(get, path = "/static/uploads/{name}", tag = "conversations", params(("name" = String, Path)),
    responses((status = 200, description = "The image"), (status = 404)))]
pub(super) async fn serve(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    let missing = || Refusal::not_found("Not Found");
    let kind = kind_of(&name).ok_or_else(missing)?;
    let path = app.chat.uploads.join(&name);
    let bytes = tokio::fs::read(path).await.map_err(|_| missing())?;
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_DISPOSITION, "inline"),
        (
            header::CACHE_CONTROL,
            "private, max-age=31536000, immutable",
        ),
    ];
    Ok((headers, bytes).into_response())
}

/// Reads uploads by their address.
pub(super) fn reader(directory: PathBuf) -> Uploads {
    Uploads::new(move |url, most| {
        let directory = directory.clone();
        async move {
            let name = url.strip_prefix(Uploads::PATH)?;
            let kind = kind_of(name)?;
            let path = directory.join(name);
            // Before it is read: the limit is there so that memory has one.
            let bytes = tokio::fs::metadata(&path).await.ok()?.len();
            if usize::try_from(bytes).ok()? > most {
                return None;
            }
            let data = tokio::fs::read(path).await.ok()?;
            Some((data, kind.to_owned()))
        }
    })
}

/// The kind of an upload, if the name is one that we gave: nothing else is ever opened.
fn kind_of(name: &str) -> Option<&'static str> {
    let (stem, _) = name.split_once('.')?;
    if stem.len() != 32 || !stem.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let ending = &name[stem.len()..];
    let known = KINDS.iter().find(|(_, kept_as, _)| *kept_as == ending)?;
    Some(known.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_we_gave_are_opened() {
        let stem = "0123456789abcdef0123456789abcdef";
        assert_eq!(kind_of(&format!("{stem}.png")), Some("image/png"));
        for name in [
            "../token",
            "token",
            "..",
            "x.png",
            "",
            &format!("{stem}.svg"),
            &format!("{stem}./../a.png"),
        ] {
            assert_eq!(kind_of(name), None, "{name}");
        }
    }

    #[test]
    fn an_image_that_comes_again_is_kept_once() {
        let directory = tempfile::tempdir().unwrap();
        let uploads = directory.path().join("uploads");
        let keep = |bytes: &[u8]| {
            let name = name_of(".png", bytes);
            save(&uploads, &name, bytes).unwrap();
            name
        };
        let first = keep(b"one");
        assert_eq!(kind_of(&first), Some("image/png"), "{first}");
        assert_eq!(keep(b"one"), first);
        assert_eq!(std::fs::read_dir(&uploads).unwrap().count(), 1);
        assert_ne!(keep(b"two"), first);
        assert_eq!(std::fs::read(uploads.join(first)).unwrap(), b"one");
    }

    #[test]
    fn what_cannot_be_kept_leaves_no_draft() {
        let directory = tempfile::tempdir().unwrap();
        // A directory in the place of the file.
        let path = directory.path().join("taken.png");
        std::fs::create_dir(&path).unwrap();
        write_whole(directory.path(), &path, b"one").unwrap_err();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_first_bytes_must_fit() {
        assert!(begins_like("image/webp", b"RIFF0000WEBPVP8 "));
        assert!(!begins_like("image/webp", b"RIFF0000WAVEfmt "));
        assert!(!begins_like("image/png", b"notpng"));
        assert!(!begins_like("image/jpeg", b""));
    }
}
