//! Images that were uploaded to the host, which alone knows where they are.

use std::fmt;
use std::sync::Arc;

use agentbus_chat::BoxFuture;

/// The bytes of an image and what they are.
type Found = Option<(Vec<u8>, String)>;

type Read = dyn Fn(String, usize) -> BoxFuture<'static, Found> + Send + Sync;

/// Reads uploads. Cloning gives another handle.
#[derive(Clone)]
pub struct Uploads(Arc<Read>);

impl Uploads {
    /// How the address of every upload begins.
    pub const PATH: &'static str = "/static/uploads/";

    /// Reads uploads with a function that takes the address and the most bytes that an image may
    /// have, and gives nothing for what is no upload, or is larger.
    pub fn new<F, R>(read: F) -> Self
    where
        F: Fn(String, usize) -> R + Send + Sync + 'static,
        R: Future<Output = Found> + Send + 'static,
    {
        Self(Arc::new(move |url, most| Box::pin(read(url, most))))
    }

    pub(crate) fn read(&self, url: &str, most: usize) -> BoxFuture<'static, Found> {
        (self.0)(url.to_owned(), most)
    }
}

impl fmt::Debug for Uploads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Uploads")
    }
}
