//! Messages as blocks: who and when, what, and the images.
//!
//! An image that was uploaded here comes along as an image, so that a model sees what a person sees,
//! until an answer holds so many bytes of them; what is left out is named. Nothing is fetched from
//! anywhere else.

use agentbus_chat::model::Message;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::Services;
use crate::limits::IMAGE_BYTES_MAX;
use crate::{Content, Uploads};

/// What a message shows.
enum Shown {
    Image(Content),
    /// Where it is.
    Link(String),
}

/// Messages as blocks, with their images or without.
pub(super) async fn blocks(
    services: &Services,
    messages: &[Message],
    images: bool,
) -> Vec<Content> {
    let mut room = services.uploads.as_ref().map(|it| (it, IMAGE_BYTES_MAX));
    let mut blocks = Vec::new();
    for message in messages {
        blocks.push(Content::Text(format!(
            "[{}] {} ({}) {}",
            message.seq,
            message.shown_name(),
            message.role.as_str(),
            message.created_at
        )));
        if !message.content.is_empty() {
            blocks.push(Content::text(message.content.as_str()));
        }
        if !images {
            continue;
        }
        for shown in attached(message) {
            blocks.push(match shown {
                Shown::Image(image) => image,
                Shown::Link(url) => taken(&url, &mut room).await,
            });
        }
    }
    blocks
}

/// The image behind an address, if it was uploaded here and there is room for it.
async fn taken(url: &str, room: &mut Option<(&Uploads, usize)>) -> Content {
    let Some((uploads, left)) = room.as_mut().filter(|_| url.starts_with(Uploads::PATH)) else {
        return link(url);
    };
    match uploads.read(url, *left).await {
        Some((data, mime)) => {
            *left = left.saturating_sub(data.len());
            Content::Image { data, mime }
        }
        None => link(url),
    }
}

fn attached(message: &Message) -> Vec<Shown> {
    let lists = ["attachments", "images", "image"];
    let metadata = message.metadata.as_ref();
    let found = metadata.and_then(|it| lists.iter().find_map(|name| it.get(name)));
    match found {
        Some(Value::Array(list)) => list.iter().filter_map(image).collect(),
        Some(one) => image(one).into_iter().collect(),
        None => Vec::new(),
    }
}

/// An attachment as an image, if it is one and comes with its bytes; else where it is.
fn image(attachment: &Value) -> Option<Shown> {
    let text = |names: &[&str]| names.iter().find_map(|name| attachment.get(name)?.as_str());
    let kind = text(&["type", "kind"]).unwrap_or_default().to_lowercase();
    let mut mime = text(&["mimeType", "mime_type"]).map(str::to_owned);
    let mut data = text(&["data", "base64", "b64", "data_url"]);
    let url = text(&["url", "src"]);
    let whole = data.or(url).and_then(|text| text.strip_prefix("data:"));
    if let Some((head, payload)) = whole.and_then(|whole| whole.split_once(',')) {
        mime = mime.or_else(|| head.split(';').next().map(str::to_owned));
        data = Some(payload);
    }
    let is_image = match &mime {
        Some(mime) => mime.starts_with("image/"),
        None => matches!(kind.as_str(), "" | "image"),
    };
    if !is_image {
        return None;
    }
    match data.map(|data| STANDARD.decode(data)) {
        Some(Ok(data)) => Some(Shown::Image(Content::Image {
            data,
            mime: mime.unwrap_or_else(|| "image/png".to_owned()),
        })),
        _ => url.map(|url| Shown::Link(url.to_owned())),
    }
}

/// What stands for an image that does not come with the message.
fn link(url: &str) -> Content {
    Content::Text(format!("[image] {url}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(attachment: &Value, expect: Option<&Content>) {
        let shown = image(attachment).map(|shown| match shown {
            Shown::Image(image) => image,
            Shown::Link(url) => link(&url),
        });
        assert_eq!(shown.as_ref(), expect, "{attachment}");
    }

    #[test]
    fn an_attachment_is_an_image_or_nothing() {
        let png = |mime: &str| {
            Some(Content::Image {
                data: b"abc".to_vec(),
                mime: mime.to_owned(),
            })
        };
        check(
            &json!({ "type": "image", "data": "YWJj" }),
            png("image/png").as_ref(),
        );
        check(
            &json!({ "mimeType": "image/gif", "base64": "YWJj" }),
            png("image/gif").as_ref(),
        );
        check(
            &json!({ "url": "data:image/webp;base64,YWJj" }),
            png("image/webp").as_ref(),
        );
        check(&json!({ "type": "file", "data": "YWJj" }), None);
        check(&json!({ "mimeType": "text/plain", "data": "YWJj" }), None);
        let link = Content::text("[image] /static/uploads/a.png");
        check(
            &json!({ "url": "/static/uploads/a.png", "name": "a" }),
            Some(&link),
        );
        check(&json!({ "type": "image", "data": "!" }), None);
    }

    #[tokio::test]
    async fn uploads_come_along_until_there_are_too_many_bytes() {
        let uploads = Uploads::new(|url, room| async move {
            assert!(url.starts_with("/static/uploads/"));
            let bytes: usize = url["/static/uploads/".len()..].parse().ok()?;
            (bytes <= room).then(|| (vec![0; bytes], "image/png".to_owned()))
        });
        let mut room = Some((&uploads, 10));
        let mut kept = Vec::new();
        for url in ["6", "5", "4", "x", "1"] {
            let url = format!("/static/uploads/{url}");
            kept.push(match taken(&url, &mut room).await {
                Content::Image { data, .. } => data.len().to_string(),
                Content::Text(text) => text,
                other => panic!("{other:?}"),
            });
        }
        let left = |url: &str| format!("[image] /static/uploads/{url}");
        assert_eq!(
            kept,
            [
                "6".to_owned(),
                left("5"),
                "4".to_owned(),
                left("x"),
                left("1")
            ]
        );
        let foreign = taken("https://example.org/a.png", &mut Some((&uploads, 10))).await;
        assert_eq!(
            foreign,
            link("https://example.org/a.png"),
            "nothing is fetched"
        );
    }
}
