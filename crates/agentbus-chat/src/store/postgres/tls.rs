//! When a connection is encrypted, and whom it trusts.
//!
//! To another machine always, unless the URL says `sslmode=disable`; on this one when it says
//! `sslmode=require` or names an authority, but never over a socket in the file system, which
//! PostgreSQL does not encrypt. A certificate is always checked, and that it has the name of the
//! host: what libpq calls `verify-full`, whichever of its words the URL uses.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use postgres::Config;
use postgres::config::{Host, SslMode, SslNegotiation};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::io_cause;
use super::handshake::Encryption;
use crate::limits;
use crate::store::StoreError;

/// Whose signatures are trusted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Authority {
    /// Whom the system trusts.
    System,
    /// Whoever is named in this file.
    File(PathBuf),
}

/// Takes the words of libpq out of a URL that the driver does not know, and returns the authority
/// that it names.
pub(super) fn authority_of(url: &str) -> (String, Option<Authority>) {
    // As the driver reads it: what is before the first `@` is a name and a password.
    let host = url.find('@').unwrap_or(0);
    let Some(query) = url[host..].find('?').map(|index| host + index) else {
        return (url.to_owned(), None);
    };
    let mut authority = None;
    let mut kept = Vec::new();
    for pair in url[query + 1..].split('&') {
        match pair.split_once('=') {
            Some(("sslrootcert", "system")) => authority = Some(Authority::System),
            Some(("sslrootcert", file)) => {
                let file = percent_decode_str(file).decode_utf8_lossy();
                authority = Some(Authority::File(file.into_owned().into()));
            }
            Some(("sslmode", "verify-ca" | "verify-full")) => kept.push("sslmode=require"),
            _ => kept.push(pair),
        }
    }
    (format!("{}?{}", &url[..query], kept.join("&")), authority)
}

/// What makes the connections encrypted; `None` where they are not.
pub(super) fn connector(
    config: &mut Config,
    authority: Option<Authority>,
) -> Result<Option<Encryption>, StoreError> {
    if uses_sockets(config)? {
        // The driver would ask even there, and be refused.
        config.ssl_mode(SslMode::Disable);
        return Ok(None);
    }
    match config.get_ssl_mode() {
        SslMode::Disable => return Ok(None),
        // Unless it is asked for: servers come with a certificate that nobody has signed.
        SslMode::Prefer if is_here(config) && authority.is_none() => return Ok(None),
        _ => config.ssl_mode(SslMode::Require),
    };
    let roots = match authority {
        Some(Authority::File(file)) => roots_of(&file)?,
        Some(Authority::System) | None => roots_of_system(),
    };
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let tls = tls
        .with_safe_default_protocol_versions()
        .map_err(|error| StoreError::Failed(format!("cannot set up TLS: {error}")))?;
    let mut tls = tls.with_root_certificates(roots).with_no_client_auth();
    let negotiation = config.get_ssl_negotiation();
    if negotiation == SslNegotiation::Direct {
        // Asked for by PostgreSQL 17 of a client that does not ask first.
        tls.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    // The driver would wait for the answer without end, so it is not the driver that asks.
    config.ssl_negotiation(SslNegotiation::Direct);
    let limit = config.get_connect_timeout().copied();
    let limit = limit.unwrap_or(limits::POSTGRES_CONNECT);
    let tls = MakeRustlsConnect::new(tls);
    Ok(Some(Encryption::new(tls, negotiation, limit)))
}

/// Refuses a URL in which the rest of a password is taken for the host: the driver ends user and
/// password at the first `@`, even behind the `?`, and would ask the network for the rest by name.
pub(super) fn refuse_broken_password(url: &str) -> Result<(), StoreError> {
    let (before, place) = url.split_once('@').unwrap_or_default();
    let (place, _) = place.split_once('?').unwrap_or((place, ""));
    let (_, user) = before.split_once("://").unwrap_or_default();
    let behind_place = user
        .find('/')
        .is_some_and(|path| user[path..].contains('?'));
    if place.contains('@') || behind_place {
        return Err(StoreError::Failed(
            "the URL of the database has an `@` in a name or a password; write it as %40"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Whether all hosts are sockets in the file system. An address beside one is where the driver
/// would go instead, and as little encrypted.
fn uses_sockets(config: &Config) -> Result<bool, StoreError> {
    let hosts = config.get_hosts();
    let is_socket = |host: &&Host| matches!(host, Host::Unix(_));
    match hosts.iter().filter(is_socket).count() {
        0 => Ok(false),
        all if all == hosts.len() && config.get_hostaddrs().is_empty() => Ok(true),
        _ => Err(StoreError::Failed(
            "the URL of the database names a socket of this machine beside other hosts or \
             addresses; the first is never encrypted and the others may have to be, so name them \
             in URLs of their own"
                .to_owned(),
        )),
    }
}

/// Whether nothing is sent over a network.
fn is_here(config: &Config) -> bool {
    let is_loopback = |name: &str| name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    let by_name =
        |host: &Host| matches!(host, Host::Tcp(name) if name == "localhost" || is_loopback(name));
    // An address goes before the name that stands beside it.
    config.get_hosts().iter().all(by_name) && config.get_hostaddrs().iter().all(IpAddr::is_loopback)
}

fn roots_of(file: &Path) -> Result<RootCertStore, StoreError> {
    let unusable = |why: String| {
        let file = file.display();
        StoreError::Failed(format!(
            "sslrootcert names {file}, {why}; it is the file, in PEM form, of the authority that \
             signed the certificate of the database"
        ))
    };
    let found =
        CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = found.map_err(|error| unusable(format!("which cannot be read ({error})")))?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found);
    if roots.is_empty() {
        return Err(unusable("in which there is no certificate".to_owned()));
    }
    Ok(roots)
}

fn roots_of_system() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "some certificates of the system cannot be read");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    roots
}

/// What to do when the other side cannot or may not be spoken to in secret.
pub(super) const ADVICE: &str = "name the authority that signed its certificate with \
     `?sslrootcert=FILE`, or, if the network between is yours, add `?sslmode=disable`";

/// Says what to do when the other side cannot or may not be spoken to in secret. That a connection
/// breaks while it is being made says nothing about either.
pub(super) fn explained(error: postgres::Error) -> StoreError {
    // The driver does not tell its errors apart otherwise.
    let is_of_tls = error.to_string().contains("TLS handshake");
    // A certificate that is not accepted is, to the driver, data that is invalid.
    let broke = io_cause(&error).is_some_and(|io| io.kind() != ErrorKind::InvalidData);
    let is_refusal = is_of_tls && !broke;
    match StoreError::from(error) {
        StoreError::Failed(why) | StoreError::Unreachable(why) if is_refusal => StoreError::Failed(
            format!("no encrypted connection to the database ({why}); {ADVICE}"),
        ),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::postgres::connection::Target;

    fn is_encrypted(url: &str) -> bool {
        let target = format!("{:?}", Target::parse(url).unwrap());
        assert!(!target.contains("hunter2"), "{target}");
        let encrypted = target.contains("encrypted: true");
        // What the driver asks of the server.
        assert_eq!(encrypted, target.contains("ssl_mode: Require"), "{target}");
        encrypted
    }

    #[test]
    fn only_what_stays_on_this_machine_is_said_in_the_clear_unless_that_is_meant() {
        for here in ["localhost", "127.0.0.1", "[::1]"] {
            let url = format!("postgresql://u:hunter2@{here}/d");
            assert!(!is_encrypted(&url), "{url}");
            assert!(is_encrypted(&format!("{url}?sslmode=require")), "{url}");
        }
        for (url, encrypted) in [
            ("postgresql://u:hunter2@db.example/d", true),
            ("postgresql://u:hunter2@db.example/d?sslmode=prefer", true),
            ("postgresql://u:hunter2@db.example/d?sslmode=disable", false),
            ("postgresql://u:hunter2@localhost,db.example/d", true),
            (
                "postgresql://u:hunter2@localhost/d?hostaddr=192.0.2.7",
                true,
            ),
            (
                "postgresql://u:hunter2@localhost/d?sslmode=verify-full",
                true,
            ),
            (
                "postgresql://u:hunter2@db.example/d?sslrootcert=system",
                true,
            ),
            (
                "postgresql://u:hunter2@localhost/d?sslrootcert=system",
                true,
            ),
            (
                "postgresql://u:hunter2?@db.example/d?sslmode=verify-ca",
                true,
            ),
            ("postgresql://u:hunter2@%2Frun%2Fpostgresql/d", false),
            (
                "postgresql://u:hunter2@%2Frun%2Fpg/d?sslmode=require",
                false,
            ),
        ] {
            assert_eq!(is_encrypted(url), encrypted, "{url}");
        }
    }

    #[test]
    fn an_authority_is_read_from_its_file_or_refused() {
        let refused = |file: &str| {
            let url = format!("postgresql://u:hunter2@db.example/d?sslrootcert={file}");
            let error = Target::parse(&url).unwrap_err().to_string();
            assert!(
                error.contains("in PEM form") && !error.contains("hunter2"),
                "{error}"
            );
            error
        };
        let error = refused("%2Fno%2Fsuch%20file.pem");
        assert!(error.contains("/no/such file.pem"), "{error}");
        let empty = tempfile::NamedTempFile::new().unwrap();
        let error = refused(&empty.path().display().to_string());
        assert!(error.contains("no certificate"), "{error}");
    }

    #[test]
    fn hosts_that_would_be_reached_wrongly_are_refused() {
        for (url, says) in [
            ("postgresql://u:hun@ter2@db.example/d", "%40"),
            ("postgresql://u:hun@te/r2ter2@db.example/d", "%40"),
            ("postgresql://u:p@%2Frun%2Fpg,db.example/d", "socket"),
            (
                "postgresql://u:p@%2Frun%2Fpg/d?hostaddr=192.0.2.7",
                "socket",
            ),
        ] {
            let error = Target::parse(url).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("ter2"), "{error}");
        }
    }

    #[test]
    fn what_the_driver_knows_stays_as_it_is_written() {
        let (url, authority) =
            authority_of("postgresql://u@h/d?options=-c%20a%3Db&sslrootcert=/x&sslmode=verify-ca");
        assert_eq!(url, "postgresql://u@h/d?options=-c%20a%3Db&sslmode=require");
        assert_eq!(authority, Some(Authority::File("/x".into())));
    }
}
