//! The store on disk: what is refused, what is kept, and what a file shows.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

fn token(secret: &str) -> Token {
    serde_json::from_value(
        json!({ "access": secret, "refresh": null, "expires": null, "renew": null }),
    )
    .unwrap()
}

/// A store with one token in a directory of its own.
fn kept(source: fn(&Path) -> KeySource) -> (TempDir, impl Fn() -> Vault) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let open = move || Vault::new(&path, source(&path));
    put(&open(), "one", "secret-of-one");
    (directory, open)
}

fn put(vault: &Vault, name: &str, secret: &str) {
    let lock = vault.lock().unwrap();
    let insert = |tokens: &mut Tokens| drop(tokens.insert(name.to_owned(), token(secret)));
    vault.change(&lock, insert).unwrap();
}

fn secret(vault: &Vault, name: &str) -> String {
    vault.read().unwrap()[name].access.secret().clone()
}

fn key_file(directory: &Path) -> KeySource {
    KeySource::File(directory.join("key"))
}

fn passphrase(_: &Path) -> KeySource {
    KeySource::Passphrase("correct horse".to_owned())
}

fn sealed(directory: &TempDir) -> PathBuf {
    directory.path().join("tokens.sealed")
}

/// Checks that a store cannot be read nor changed, and that its file stays as it is.
fn refused(vault: &Vault, directory: &TempDir, why: &str) {
    let before = fs::read(sealed(directory)).unwrap();
    let error = vault.read().unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
    let lock = vault.lock().unwrap();
    vault.change(&lock, |_| ()).unwrap_err();
    assert_eq!(fs::read(sealed(directory)).unwrap(), before);
}

#[test]
fn tokens_come_back_and_do_not_show_on_disk() {
    for source in [key_file, passphrase] {
        let (directory, open) = kept(source);
        assert_eq!(secret(&open(), "one"), "secret-of-one");
        let text = fs::read_to_string(sealed(&directory)).unwrap();
        assert!(!text.contains("secret-of-one") && !text.contains("\"one\""));
        for file in fs::read_dir(directory.path()).unwrap() {
            let mode = file.unwrap().metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600);
        }
    }
}

#[test]
fn a_file_that_was_changed_anywhere_is_refused() {
    let (directory, open) = kept(key_file);
    let text = fs::read_to_string(sealed(&directory)).unwrap();
    let original: Value = serde_json::from_str(&text).unwrap();
    for member in ["salt", "nonce", "tokens"] {
        let mut bytes = BASE64_STANDARD
            .decode(original[member].as_str().unwrap())
            .unwrap();
        bytes[3] ^= 1;
        let mut changed = original.clone();
        changed[member] = BASE64_STANDARD.encode(bytes).into();
        fs::write(sealed(&directory), changed.to_string()).unwrap();
        refused(&open(), &directory, "changed");
    }
    fs::write(sealed(&directory), &text[..text.len() / 2]).unwrap();
    refused(&open(), &directory, "no store of tokens");
    // The way out.
    let vault = open();
    let lost = vault.forget(&vault.lock().unwrap()).unwrap();
    lost.unwrap_err();
    put(&vault, "two", "s");
    assert_eq!(secret(&open(), "two"), "s");
}

#[test]
fn another_key_or_another_kind_of_key_is_refused() {
    let (directory, open) = kept(passphrase);
    let other = Vault::new(directory.path(), KeySource::Passphrase("wrong".to_owned()));
    refused(&other, &directory, "the key is another one");
    refused(
        &Vault::new(directory.path(), key_file(directory.path())),
        &directory,
        "its key is a passphrase",
    );
    assert_eq!(secret(&open(), "one"), "secret-of-one");

    let (directory, open) = kept(key_file);
    let key = directory.path().join("key");
    fs::write(&key, BASE64_STANDARD.encode([7; 32])).unwrap();
    refused(&open(), &directory, "the key is another one");
    fs::write(&key, "short").unwrap();
    refused(&open(), &directory, "it is no key");
    fs::remove_file(&key).unwrap();
    refused(&open(), &directory, "key");
    assert!(
        !key.exists(),
        "a lost key is not replaced behind the person's back"
    );
}

#[test]
fn files_that_others_may_use_are_refused() {
    for name in ["key", "tokens.sealed"] {
        let (directory, open) = kept(key_file);
        let mode = fs::Permissions::from_mode(0o640);
        fs::set_permissions(directory.path().join(name), mode).unwrap();
        refused(&open(), &directory, "chmod 600");
    }
}

#[test]
fn what_another_process_writes_is_seen_and_not_lost() {
    let (_directory, open) = kept(key_file);
    let (one, other) = (open(), open());
    assert_eq!(secret(&one, "one"), secret(&other, "one"));
    put(&other, "two", "secret-of-two");
    put(&one, "three", "secret-of-three");
    for vault in [one, other] {
        assert_eq!(secret(&vault, "two"), "secret-of-two");
        assert_eq!(secret(&vault, "three"), "secret-of-three");
    }
}

#[test]
fn writers_at_the_same_time_lose_nothing() {
    let (_directory, open) = kept(key_file);
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let vault = open();
            scope.spawn(move || {
                for number in 0..8 {
                    put(&vault, &format!("{writer}-{number}"), "s");
                }
            });
        }
    });
    assert_eq!(open().read().unwrap().len(), 33);
}

#[test]
fn there_is_a_most_of_tokens() {
    let (_directory, open) = kept(key_file);
    let vault = open();
    let many = |tokens: &mut Tokens| {
        tokens.extend((0..TOKENS_MAX).map(|number| (number.to_string(), token("s"))));
    };
    let error = vault.change(&vault.lock().unwrap(), many).unwrap_err();
    assert!(error.to_string().contains("--logout"), "{error}");
    assert_eq!(vault.read().unwrap().len(), 1);
}
