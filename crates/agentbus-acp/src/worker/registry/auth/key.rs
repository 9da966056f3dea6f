//! Where the key of the store comes from: a file, a passphrase, or the keychain of the system.
//!
//! The keychain holds the key and not the tokens: some keychains take no more than two kilobytes,
//! and one store has one form and one lock, wherever its key is.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::num::NonZeroU32;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{aead, pbkdf2};

use super::error::AuthError;

/// Bytes of a key of AES-256.
const KEY_BYTES: usize = 32;

/// Rounds that turn a passphrase into a key: a fifth of a second for whoever tries one.
const ROUNDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(599_999);

/// Where the key is.
#[derive(Clone)]
pub enum KeySource {
    /// A file that only its owner reads; it is made with the first token.
    File(PathBuf),
    /// Words of a person.
    Passphrase(String),
    /// The keychain of the system, under this name.
    Keychain(String),
}

impl std::fmt::Debug for KeySource {
    // A passphrase stays out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Passphrase(_) => f.write_str("Passphrase"),
            Self::Keychain(name) => f.debug_tuple("Keychain").field(name).finish(),
        }
    }
}

impl KeySource {
    /// The word for it in the store's file, which is part of what is sealed.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Passphrase(_) => "passphrase",
            Self::Keychain(_) => "keychain",
        }
    }

    /// Returns the key; `new` makes one where there is none.
    pub(super) fn key(&self, salt: &[u8], new: bool) -> Result<aead::LessSafeKey, AuthError> {
        let mut bytes = [0; KEY_BYTES];
        match self {
            Self::Passphrase(words) => pbkdf2::derive(
                pbkdf2::PBKDF2_HMAC_SHA256,
                ROUNDS,
                salt,
                words.as_bytes(),
                &mut bytes,
            ),
            Self::File(path) => bytes = of_file(path, new)?,
            Self::Keychain(name) => bytes = of_keychain(name, new)?,
        }
        let unusable = |_| AuthError::Storage {
            path: PathBuf::from("the key of the tokens"),
            why: "it is no key of AES-256".to_owned(),
        };
        let key = aead::UnboundKey::new(&aead::AES_256_GCM, &bytes).map_err(unusable)?;
        Ok(aead::LessSafeKey::new(key))
    }
}

/// Fills an array from the system's source of randomness.
pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| io::Error::other("the system has no randomness to give"))?;
    Ok(bytes)
}

fn of_file(path: &Path, new: bool) -> Result<[u8; KEY_BYTES], AuthError> {
    if new && !path.exists() {
        let made = random().and_then(|bytes| write_new(path, &bytes).map(|()| bytes));
        return made.map_err(|error| AuthError::storage(path, &error));
    }
    let text = read_private(path)?;
    let bytes = BASE64_STANDARD.decode(text.trim_ascii()).ok();
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| AuthError::Storage {
        path: path.to_owned(),
        why: "it is no key; put the right one back, or begin anew with `--logout`".to_owned(),
    })
}

/// What the key is kept as in the keychain.
const SERVICE: &str = "agentbus-registry";

fn of_keychain(name: &str, new: bool) -> Result<[u8; KEY_BYTES], AuthError> {
    let failed = |why: String| AuthError::Storage {
        path: PathBuf::from(format!("{SERVICE}/{name} in the keychain")),
        why: format!("{why}; unlock the keychain, or keep the key in a file with `--key-file`"),
    };
    let words = |error: keyring::Error| failed(error.to_string());
    if let Err(error) = keyring::Entry::store_status() {
        return Err(failed(error.to_string()));
    }
    let entry = keyring::Entry::new(SERVICE, name).map_err(words)?;
    match entry.get_secret() {
        Err(keyring::Error::NoEntry) if new => {
            let made = random::<KEY_BYTES>().map_err(|error| failed(error.to_string()))?;
            entry.set_secret(&made).map_err(words)?;
            Ok(made)
        }
        Err(error) => Err(words(error)),
        Ok(bytes) => bytes
            .try_into()
            .map_err(|_| failed("it is no key".to_owned())),
    }
}

fn write_new(path: &Path, bytes: &[u8; KEY_BYTES]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "{}", BASE64_STANDARD.encode(bytes))?;
    file.sync_all()
}

/// Reads a file that holds a secret; one that others may read or write is refused.
pub(in super::super) fn read_private(path: &Path) -> Result<Vec<u8>, AuthError> {
    let failed = |error: &io::Error| AuthError::storage(path, error);
    let about = fs::metadata(path).map_err(|error| failed(&error))?;
    let refused = |why: String| AuthError::Storage {
        path: path.to_owned(),
        why,
    };
    if about.mode() & 0o077 != 0 {
        let mode = about.mode() & 0o777;
        return Err(refused(format!(
            "others may use it (mode {mode:o}), so it is not used; look who did, then `chmod 600` it"
        )));
    }
    if about.uid() != rustix::process::geteuid().as_raw() {
        return Err(refused("it belongs to another user".to_owned()));
    }
    fs::read(path).map_err(|error| failed(&error))
}
