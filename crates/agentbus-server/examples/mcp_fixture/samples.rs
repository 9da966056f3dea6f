//! The smallest files of their kinds.

use agentbus_mcp::{Content, Document};

/// A PNG image of one pixel.
const PIXEL: [u8; 70] = [
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 0x0d, 0x49, 0x48, 0x44, 0x52, 0, 0, 0,
    1, 0, 0, 0, 1, 8, 6, 0, 0, 0, 0x1f, 0x15, 0xc4, 0x89, 0, 0, 0, 0x0d, 0x49, 0x44, 0x41, 0x54,
    0x78, 0x9c, 0x63, 0xf8, 0xcf, 0xc0, 0xf0, 0x1f, 0, 5, 0, 1, 0xff, 0x89, 0x99, 0x3d, 0x1d, 0, 0,
    0, 0, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82,
];

/// A WAV file with no sound in it.
const SILENCE: [u8; 44] = [
    b'R', b'I', b'F', b'F', 36, 0, 0, 0, b'W', b'A', b'V', b'E', b'f', b'm', b't', b' ', 16, 0, 0,
    0, 1, 0, 1, 0, 0x44, 0xac, 0, 0, 0x88, 0x58, 1, 0, 2, 0, 16, 0, b'd', b'a', b't', b'a', 0, 0,
    0, 0,
];

pub(crate) fn image() -> Content {
    Content::Image {
        data: PIXEL.to_vec(),
        mime: "image/png".to_owned(),
    }
}

pub(crate) fn audio() -> Content {
    Content::Audio {
        data: SILENCE.to_vec(),
        mime: "audio/wav".to_owned(),
    }
}

pub(crate) fn binary(uri: impl Into<String>) -> Document {
    Document::bytes(uri, "image/png", PIXEL.to_vec())
}
