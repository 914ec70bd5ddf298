//! TLS for associations, from PEM files (PS3.15 annex B: version 1.2 or later).

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// Most bytes of a file with certificates or a key.
const MAX_PEM: u64 = 1024 * 1024;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file holds nothing of the kind that is wanted.
    #[error("{path} holds no {what} in PEM form")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wanted.
        what: &'static str,
    },
    /// The certificates and keys do not make a working whole.
    #[error("the TLS files do not fit together: {0}")]
    Setup(String),
    /// A peer's address is neither a host name nor an IP address.
    #[error("a destination's address is neither a host name nor an IP address")]
    Name,
}

/// Who this end is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// PEM file with the certificate, and those that lead to its authority.
    pub certificate: PathBuf,
    /// PEM file with the certificate's private key.
    pub key: PathBuf,
}

/// TLS for the end that is connected to. With `client_ca`, only peers with a certificate from one
/// of its authorities get in.
///
/// # Errors
/// [`TlsError`] when a file is unusable.
pub fn server(
    identity: &Identity,
    client_ca: Option<&Path>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(setup)?;
    let builder = match client_ca {
        Some(path) => {
            let roots = Arc::new(roots(path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                .build()
                .map_err(setup)?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let (chain, key) = load(identity)?;
    Ok(Arc::new(builder.with_single_cert(chain, key).map_err(setup)?))
}

/// TLS for the end that connects: trusts the authorities in `ca` alone, and shows `identity` to a
/// peer that asks.
///
/// # Errors
/// [`TlsError`] when a file is unusable.
pub fn client(ca: &Path, identity: Option<&Identity>) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(setup)?
        .with_root_certificates(roots(ca)?);
    let config = match identity {
        Some(identity) => {
            let (chain, key) = load(identity)?;
            builder.with_client_auth_cert(chain, key).map_err(setup)?
        }
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// The name that a peer's certificate must hold: a host name or an IP address.
///
/// # Errors
/// [`TlsError::Name`] when it is neither.
pub fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Name)
}

/// The certificates in a PEM file: at least one.
///
/// # Errors
/// [`TlsError`] when the file is unusable.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content = || TlsError::Content { path: path.into(), what: "certificate" };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    found.ok().filter(|all| !all.is_empty()).ok_or_else(content)
}

/// The cryptography of all TLS here: chosen, so that no process-wide default is needed.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(setup)?;
    }
    Ok(roots)
}

type Loaded = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn load(identity: &Identity) -> Result<Loaded, TlsError> {
    let chain = certificates(&identity.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&read(&identity.key)?)
        .map_err(|_| TlsError::Content { path: identity.key.clone(), what: "private key" })?;
    Ok((chain, key))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_PEM).read_to_end(&mut bytes))
        .map_err(|source| TlsError::Read { path: path.into(), source })?;
    Ok(bytes)
}

fn setup(error: impl std::fmt::Display) -> TlsError {
    TlsError::Setup(error.to_string())
}

/// Certificates for tests.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A certificate authority.
    pub(crate) struct Authority {
        certificate: rcgen::Certificate,
        issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    }

    impl Authority {
        pub(crate) fn new() -> Self {
            let mut params = rcgen::CertificateParams::new(Vec::new()).expect("params");
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let key = rcgen::KeyPair::generate().expect("key");
            let certificate = params.self_signed(&key).expect("sign");
            Self { certificate, issuer: rcgen::Issuer::new(params, key) }
        }

        /// Writes its own certificate into a folder.
        pub(crate) fn write(&self, folder: &Path, name: &str) -> PathBuf {
            write(folder, &format!("{name}.pem"), &self.certificate.pem())
        }

        /// Writes a certificate for `localhost` and its key into a folder.
        pub(crate) fn issue(&self, folder: &Path, name: &str) -> Identity {
            let params = rcgen::CertificateParams::new(vec!["localhost".into()]).expect("params");
            let key = rcgen::KeyPair::generate().expect("key");
            let certificate = params.signed_by(&key, &self.issuer).expect("sign");
            Identity {
                certificate: write(folder, &format!("{name}.pem"), &certificate.pem()),
                key: write(folder, &format!("{name}.key"), &key.serialize_pem()),
            }
        }
    }

    fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("write");
        path
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Authority;
    use super::*;

    #[test]
    fn unusable_files_are_named() {
        let folder = tempfile::tempdir().expect("folder");
        let identity = Authority::new().issue(folder.path(), "board");
        let missing = folder.path().join("missing");
        let swapped =
            Identity { certificate: identity.key.clone(), key: identity.certificate.clone() };
        let others = Identity { key: Authority::new().issue(folder.path(), "b").key, ..identity };
        assert!(
            matches!(client(&missing, None), Err(TlsError::Read { path, .. }) if path == missing)
        );
        assert!(
            matches!(server(&swapped, None), Err(TlsError::Content { path, .. }) if path == swapped.certificate)
        );
        assert!(matches!(server(&others, None), Err(TlsError::Setup(_))));
    }
}
