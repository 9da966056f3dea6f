//! When a connection is encrypted, and whom it trusts.
//!
//! To another machine always, unless the URL says `sslmode=disable`; on this one when it says
//! `sslmode=require`. A certificate is always checked, and that it has the name of the host: what
//! libpq calls `verify-full`, whichever of its words the URL uses.

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

use crate::store::StoreError;

/// Takes the words of libpq out of a URL that the driver does not know, and returns the file of the
/// authority that it names; `sslrootcert=system` is what is trusted without a word.
pub(super) fn authority_of(url: &str) -> (String, Option<PathBuf>) {
    let Some((place, query)) = url.split_once('?') else {
        return (url.to_owned(), None);
    };
    let mut authority = None;
    let mut kept = Vec::new();
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("sslrootcert", "system")) => {}
            Some(("sslrootcert", file)) => {
                let file = percent_decode_str(file).decode_utf8_lossy();
                authority = Some(file.into_owned().into());
            }
            Some(("sslmode", "verify-ca" | "verify-full")) => kept.push("sslmode=require"),
            _ => kept.push(pair),
        }
    }
    (format!("{place}?{}", kept.join("&")), authority)
}

/// What makes the connections encrypted; `None` where they are not.
pub(super) fn connector(
    config: &mut Config,
    authority: Option<&Path>,
) -> Result<Option<MakeRustlsConnect>, StoreError> {
    match config.get_ssl_mode() {
        SslMode::Disable => return Ok(None),
        // Unless it is asked for: servers come with a certificate that nobody has signed.
        SslMode::Prefer if is_here(config) && authority.is_none() => return Ok(None),
        _ => config.ssl_mode(SslMode::Require),
    };
    let roots = match authority {
        Some(file) => roots_of(file)?,
        None => roots_of_system(),
    };
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let tls = tls
        .with_safe_default_protocol_versions()
        .map_err(|error| StoreError::Failed(format!("cannot set up TLS: {error}")))?;
    let mut tls = tls.with_root_certificates(roots).with_no_client_auth();
    if config.get_ssl_negotiation() == SslNegotiation::Direct {
        // Asked for by PostgreSQL 17 of a client that does not ask first.
        tls.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(Some(MakeRustlsConnect::new(tls)))
}

/// Whether nothing is sent over a network.
fn is_here(config: &Config) -> bool {
    let by_name = |host: &Host| match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
        }
        Host::Unix(_) => true,
    };
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

/// Says what to do when the other side cannot or may not be spoken to in secret.
pub(super) fn explained(error: postgres::Error) -> StoreError {
    // The driver does not tell its errors apart otherwise.
    let is_of_tls = error.to_string().contains("TLS handshake");
    match StoreError::from(error) {
        StoreError::Failed(why) | StoreError::Unreachable(why) if is_of_tls => {
            StoreError::Failed(format!(
                "no encrypted connection to the database ({why}); name the authority that signed \
                 its certificate with `?sslrootcert=FILE`, or, if the network between is yours, \
                 add `?sslmode=disable`"
            ))
        }
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
        target.contains("encrypted: true")
    }

    #[test]
    fn only_what_stays_on_this_machine_is_said_in_the_clear_unless_that_is_meant() {
        for here in ["localhost", "127.0.0.1", "[::1]", "%2Frun%2Fpostgresql"] {
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
    fn what_the_driver_knows_stays_as_it_is_written() {
        let (url, authority) =
            authority_of("postgresql://u@h/d?options=-c%20a%3Db&sslrootcert=/x&sslmode=verify-ca");
        assert_eq!(url, "postgresql://u@h/d?options=-c%20a%3Db&sslmode=require");
        assert_eq!(authority, Some("/x".into()));
    }
}
