//! Who asked for what, as the SDKs write it into `_ext`.

use serde::Deserialize;
use serde_json::value::RawValue;

/// The target of the log lines; they are written at `info`.
pub const TARGET: &str = "agentbus::audit";

#[derive(Deserialize)]
struct Audited<'a> {
    #[serde(borrow, rename = "_ext")]
    extensions: Option<Extensions<'a>>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Extensions<'a> {
    #[serde(borrow)]
    identity: Option<&'a RawValue>,
    #[serde(borrow)]
    audit: Option<&'a RawValue>,
}

/// Logs the identity and the audit event of a message that has them. The message itself goes on
/// unchanged. Nothing is looked for when nobody listens.
pub(crate) fn note(line: &[u8]) {
    if !tracing::enabled!(target: TARGET, tracing::Level::INFO)
        || memchr::memmem::find(line, b"\"_ext\"").is_none()
    {
        return;
    }
    let Ok(audited) = serde_json::from_slice::<Audited<'_>>(line) else {
        return;
    };
    let Some(extensions) = audited.extensions else {
        return;
    };
    let text = |value: Option<&RawValue>| value.map_or("null", RawValue::get).to_owned();
    let (identity, audit) = (text(extensions.identity), text(extensions.audit));
    tracing::info!(target: TARGET, method = text(audited.method), identity, audit, "request");
}
