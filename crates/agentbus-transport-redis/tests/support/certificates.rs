//! An authority of a test's own, and certificates of it.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};

/// An authority whose certificates lie in a folder that goes with it.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

/// The files of a certificate.
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    /// Two of one name would seem to be one whose signature is wrong.
    pub(crate) fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = params(name, Vec::new());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        write(folder.path(), "ca.pem", &made.pem());
        Self {
            issuer: Issuer::new(params, key),
            folder,
        }
    }

    /// The file to trust.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for a server at 127.0.0.1.
    pub(crate) fn server(&self) -> Files {
        self.issue("server", vec!["127.0.0.1".to_owned()])
    }

    /// A certificate for a client.
    pub(crate) fn client(&self) -> Files {
        self.issue("client", Vec::new())
    }

    fn issue(&self, name: &str, places: Vec<String>) -> Files {
        let key = KeyPair::generate().unwrap();
        let made = params(name, places).signed_by(&key, &self.issuer).unwrap();
        let folder = self.folder.path();
        Files {
            certificate: write(folder, &format!("{name}.pem"), &made.pem()),
            key: write(folder, &format!("{name}.key"), &key.serialize_pem()),
        }
    }
}

impl Files {
    /// As a URL names them.
    pub(crate) fn query(&self) -> String {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        format!("cert={certificate}&key={key}")
    }
}

/// What a certificate says. Each has a name of its own, or it would seem to sign itself.
fn params(name: &str, places: Vec<String>) -> CertificateParams {
    let mut params = CertificateParams::new(places).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("agentbus test {name}"));
    params
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let file = folder.join(name);
    std::fs::write(&file, text).unwrap();
    file
}
