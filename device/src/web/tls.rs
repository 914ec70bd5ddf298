//! The server's side of TLS, with a certificate from files.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate's file is unreadable, empty or not PEM.
    #[error("the certificate's file is not a readable PEM file with a certificate")]
    Certificate,
    /// The key's file is unreadable, empty or not PEM.
    #[error("the key's file is not a readable PEM file with a private key")]
    Key,
    /// The two do not belong together, or have a kind that is not known.
    #[error("certificate and key cannot be used together: {0}")]
    Pair(rustls::Error),
}

/// TLS 1.2 and 1.3 over HTTP/1.1 with the certificates (the server's first) and key of two PEM
/// files. The provider is named here, so nothing depends on what the process has installed.
///
/// # Errors
/// When a file is unusable or the two do not belong together.
pub fn config(certificates: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(certificates).and_then(Iterator::collect);
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or(TlsError::Certificate)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|_| TlsError::Key)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
