//! Where tokens are kept: one file, sealed with AES-256-GCM.
//!
//! It promises that a file which was changed, or which others may read, is refused and never
//! written over; and that writers, in this process or another one, do not lose what the other one
//! wrote: whoever changes something holds the lock from before it reads until after it has
//! written. Every function blocks.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine};
use parking_lot::Mutex;
use ring::aead::{Aad, LessSafeKey, Nonce};
use serde::{Deserialize, Serialize};

use super::error::AuthError;
use super::key::{KeySource, random, read_private};
use super::token::Token;
use crate::worker::limits::TOKENS_MAX;

/// The form of the file.
const VERSION: u32 = 1;

/// The tokens by their provider.
pub(super) type Tokens = BTreeMap<String, Token>;

/// The file as it is on disk.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    version: u32,
    key: String,
    salt: String,
    nonce: String,
    tokens: String,
}

impl Sealed {
    /// What is sealed with the tokens without being hidden.
    fn header(version: u32, key: &str, salt: &str) -> Vec<u8> {
        format!("agentbus tokens {version} {key} {salt}").into_bytes()
    }
}

/// Which file was read: a file that is replaced is another one.
type Stamp = (u64, i64, i64, u64);

/// What was read last, so that a message costs a look at the file and not a key from a passphrase.
struct Known {
    stamp: Stamp,
    salt: String,
    key: LessSafeKey,
    tokens: Tokens,
}

/// The store.
pub(super) struct Vault {
    file: PathBuf,
    source: KeySource,
    known: Mutex<Option<Known>>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// The right to change the store; dropping it gives it up.
#[derive(Debug)]
pub(super) struct Lock(#[allow(dead_code, reason = "its drop unlocks")] File);

impl Vault {
    pub(super) fn new(directory: &Path, source: KeySource) -> Self {
        Self {
            file: directory.join("tokens.sealed"),
            source,
            known: Mutex::new(None),
        }
    }

    /// Waits for whoever changes the store.
    pub(super) fn lock(&self) -> Result<Lock, AuthError> {
        let path = self.file.with_extension("lock");
        let opened = self.make_directory().and_then(|()| {
            let mut options = OpenOptions::new();
            let options = options.write(true).create(true).truncate(false);
            let file = options.mode(0o600).open(&path)?;
            file.lock()?;
            Ok(Lock(file))
        });
        opened.map_err(|error| AuthError::storage(&path, &error))
    }

    /// Returns the tokens; none if there is no file.
    pub(super) fn read(&self) -> Result<Tokens, AuthError> {
        let mut known = self.known.lock();
        let Some(stamp) = self.stamp()? else {
            *known = None;
            return Ok(Tokens::new());
        };
        if let Some(known) = known.as_ref().filter(|known| known.stamp == stamp) {
            return Ok(known.tokens.clone());
        }
        let read = self.open(stamp)?;
        let tokens = read.tokens.clone();
        *known = Some(read);
        Ok(tokens)
    }

    /// Sees to it that there is a key, so that nobody is asked for what cannot be kept.
    pub(super) fn prepare(&self, _lock: &Lock) -> Result<(), AuthError> {
        self.read()?;
        if self.known.lock().is_none() {
            let salt = self.salt()?;
            self.source.key(&salt, true)?;
        }
        Ok(())
    }

    fn salt(&self) -> Result<[u8; 16], AuthError> {
        random().map_err(|error| AuthError::storage(&self.file, &error))
    }

    /// Changes the tokens.
    pub(super) fn change(
        &self,
        _lock: &Lock,
        change: impl FnOnce(&mut Tokens),
    ) -> Result<(), AuthError> {
        let mut tokens = self.read()?;
        change(&mut tokens);
        if tokens.len() > TOKENS_MAX {
            return Err(self.unusable(&format!(
                "it would hold more than {TOKENS_MAX} tokens; log out somewhere with `--logout`"
            )));
        }
        let mut known = self.known.lock();
        let written = match known.take() {
            Some(known) => self.seal(known.key, known.salt, tokens),
            None => {
                let salt = self.salt()?;
                let key = self.source.key(&salt, true)?;
                self.seal(key, BASE64_STANDARD.encode(salt), tokens)
            }
        };
        *known = Some(written?);
        Ok(())
    }

    /// Forgets everything, also what cannot be read; returns what it was, or why that cannot be
    /// told.
    pub(super) fn forget(&self, _lock: &Lock) -> Result<Result<Tokens, AuthError>, AuthError> {
        let tokens = self.read();
        *self.known.lock() = None;
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(AuthError::storage(&self.file, &error))
            }
            _ => Ok(tokens),
        }
    }

    fn stamp(&self) -> Result<Option<Stamp>, AuthError> {
        match fs::metadata(&self.file) {
            Ok(about) => Ok(Some((
                about.ino(),
                about.ctime(),
                about.ctime_nsec(),
                about.len(),
            ))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(AuthError::storage(&self.file, &error)),
        }
    }

    fn open(&self, stamp: Stamp) -> Result<Known, AuthError> {
        let text = read_private(&self.file)?;
        let sealed: Sealed = serde_json::from_slice(&text)
            .map_err(|_| self.unusable("it is no store of tokens; `--logout` begins a new one"))?;
        if sealed.version != VERSION || sealed.key != self.source.kind() {
            return Err(self.unusable(&format!(
                "its key is a {}, and a {} was named; name the right one, or begin anew with `--logout`",
                sealed.key,
                self.source.kind()
            )));
        }
        let changed = || {
            self.unusable("it was changed, or the key is another one; put both back as they were, or begin anew with `--logout`")
        };
        let bytes = |text: &str| BASE64_STANDARD.decode(text).map_err(|_| changed());
        let key = self.source.key(&bytes(&sealed.salt)?, false)?;
        let nonce =
            Nonce::try_assume_unique_for_key(&bytes(&sealed.nonce)?).map_err(|_| changed())?;
        let header = Sealed::header(sealed.version, &sealed.key, &sealed.salt);
        let mut hidden = bytes(&sealed.tokens)?;
        let plain = key.open_in_place(nonce, Aad::from(header), &mut hidden);
        let tokens =
            serde_json::from_slice(plain.map_err(|_| changed())?).map_err(|_| changed())?;
        Ok(Known {
            stamp,
            salt: sealed.salt,
            key,
            tokens,
        })
    }

    /// Writes beside the file and renames, so that a crash leaves the old one.
    fn seal(&self, key: LessSafeKey, salt: String, tokens: Tokens) -> Result<Known, AuthError> {
        let failed = |error: &io::Error| AuthError::storage(&self.file, error);
        let nonce = random::<12>().map_err(|error| failed(&error))?;
        let mut hidden = serde_json::to_vec(&tokens).map_err(|error| failed(&error.into()))?;
        let header = Sealed::header(VERSION, self.source.kind(), &salt);
        let sealed = key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(header),
            &mut hidden,
        );
        sealed.map_err(|_| self.unusable("the tokens cannot be sealed"))?;
        let sealed = Sealed {
            version: VERSION,
            key: self.source.kind().to_owned(),
            salt: salt.clone(),
            nonce: BASE64_STANDARD.encode(nonce),
            tokens: BASE64_STANDARD.encode(hidden),
        };
        let text = serde_json::to_vec(&sealed).map_err(|error| failed(&error.into()))?;
        self.replace(&text).map_err(|error| failed(&error))?;
        let stamp = self.stamp()?;
        let stamp = stamp.ok_or_else(|| self.unusable("it went away; log in again"))?;
        Ok(Known {
            stamp,
            salt,
            key,
            tokens,
        })
    }

    fn replace(&self, text: &[u8]) -> io::Result<()> {
        let beside = self.file.with_extension("new");
        // Only the holder of the lock writes here, so that what lies there was left by a crash.
        let _ = fs::remove_file(&beside);
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&beside, &self.file)
    }

    fn make_directory(&self) -> io::Result<()> {
        let directory = self.file.parent().unwrap_or(Path::new("."));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
    }

    fn unusable(&self, why: &str) -> AuthError {
        AuthError::Storage {
            path: self.file.clone(),
            why: why.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
