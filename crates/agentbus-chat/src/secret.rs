//! Secrets: how they are made, kept and compared.
//!
//! The token of an agent is kept as its hash, marked with a prefix. A token without the prefix
//! comes from a database of AgentChatBus, which kept them as they are; it is understood, and
//! hashed when its database is opened. Reply tokens are kept as they are, because a wait that
//! timed out must give the same one out again.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::Ambient;

const HASHED: &str = "sha256:";

/// Makes the token of an agent: 256 random bits as 64 hexadecimal digits.
pub(crate) fn agent_token(ambient: &Ambient) -> String {
    hex(&ambient.random::<32>())
}

/// Makes a reply token: 24 random bytes as 32 characters that need no escaping in a URL.
pub(crate) fn reply_token(ambient: &Ambient) -> String {
    let bytes = ambient.random::<24>();
    let groups = bytes.chunks_exact(3).flat_map(|group| {
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        [18, 12, 6, 0].map(|shift| BASE64[(bits >> shift & 63) as usize] as char)
    });
    groups.collect()
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The form in which a token is kept.
#[must_use]
pub(crate) fn hashed(token: &str) -> String {
    format!("{HASHED}{}", hex(&Sha256::digest(token.as_bytes())))
}

/// Whether a kept token is still as AgentChatBus left it.
#[must_use]
pub(crate) fn is_plain(kept: &str) -> bool {
    !kept.is_empty() && !kept.starts_with(HASHED)
}

/// Compares an offered token with a kept one, in a time that does not tell how much of it fits.
#[must_use]
pub(crate) fn fits(kept: &str, offered: &str) -> bool {
    fits_hashed(kept, &hashed(offered))
}

/// The same for a token of which only the [`hashed`] form is at hand.
#[must_use]
pub(crate) fn fits_hashed(kept: &str, offered: &str) -> bool {
    let kept = if is_plain(kept) {
        hashed(kept)
    } else {
        kept.to_owned()
    };
    offered.as_bytes().ct_eq(kept.as_bytes()).into()
}

/// A fingerprint of a request, to tell a repetition from another request under the same key.
pub(crate) fn fingerprint(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes())[..16])
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededEntropy;

    fn ambient() -> Ambient {
        Ambient {
            entropy: SeededEntropy::new(7),
            ..Ambient::default()
        }
    }

    #[test]
    fn tokens_have_the_known_lengths() {
        let ambient = ambient();
        assert_eq!(agent_token(&ambient).len(), 64);
        let reply = reply_token(&ambient);
        assert_eq!(reply.len(), 32);
        assert!(reply.bytes().all(|byte| BASE64.contains(&byte)), "{reply}");
        assert_ne!(reply, reply_token(&ambient));
    }

    #[test]
    fn a_token_fits_its_hash_and_its_old_form_and_nothing_else() {
        assert!(fits(&hashed("secret"), "secret"));
        assert!(fits("secret", "secret"));
        assert!(!fits(&hashed("secret"), "secreT"));
        assert!(!fits("", ""));
        assert!(!fits(&hashed("secret"), &hashed("secret")));
    }
}
