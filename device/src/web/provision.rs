//! What a board needs before its pages may be reached from elsewhere: a secret and a certificate.

use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair};
use sha2::{Digest, Sha256};

pub use super::secret::{SecretError, generate as generate_secret, hash as hash_secret};

/// How long a certificate holds: as long as every browser accepts.
pub const VALIDITY: Duration = Duration::from_secs(825 * 24 * 3600);

/// The start lies back so far that a reader whose clock is slow accepts it.
const BACKDATED: Duration = Duration::from_secs(24 * 3600);
/// A clock beyond the year 2200 is wrong, and certificates have no such years.
const LATEST: Duration = Duration::from_secs(230 * 365 * 24 * 3600);

/// Why no certificate was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// No name was given.
    #[error("a certificate needs at least one host name or IP address")]
    NoNames,
    /// A name that no certificate can hold.
    #[error("a host name is not made of ASCII letters, digits, hyphens and dots")]
    Name,
    /// The clock is unusable.
    #[error("the clock is not set")]
    Clock,
    /// Making key or signature failed.
    #[error("key or signature could not be made")]
    Signing,
}

/// A certificate that vouches for itself, with its key.
#[derive(Clone)]
pub struct Certificate {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The private key (ECDSA P-256, PKCS #8), PEM: for the owner's eyes only.
    pub key_pem: String,
    /// SHA-256 of the certificate as browsers show it: pairs of digits with colons, for people to
    /// compare at the first visit.
    pub fingerprint: String,
}

/// Makes a certificate for a board's host names and IP addresses, valid from now for
/// [`VALIDITY`].
///
/// # Errors
/// When a name is unfit, or the system lacks a clock or random numbers.
pub fn certificate(names: &[String]) -> Result<Certificate, CertificateError> {
    let first = names.first().ok_or(CertificateError::NoNames)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':');
    if names.iter().any(|name| name.is_empty() || name.len() > 253 || !name.chars().all(fits)) {
        return Err(CertificateError::Name);
    }
    let now = SystemTime::now();
    let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH);
    if !since_1970.is_ok_and(|time| (BACKDATED..LATEST).contains(&time)) {
        return Err(CertificateError::Clock);
    }
    let mut params = CertificateParams::new(names).map_err(|_| CertificateError::Name)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, first.as_str());
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + VALIDITY - BACKDATED).into();
    let key = KeyPair::generate().map_err(|_| CertificateError::Signing)?;
    let signed = params.self_signed(&key).map_err(|_| CertificateError::Signing)?;
    Ok(Certificate {
        certificate_pem: signed.pem(),
        key_pem: key.serialize_pem(),
        fingerprint: fingerprint(signed.der()),
    })
}

fn fingerprint(certificate: &[u8]) -> String {
    let pairs: Vec<String> =
        Sha256::digest(certificate).iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfit_names_are_refused() {
        let refused = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
            certificate(&names).err()
        };
        assert_eq!(refused(&[]), Some(CertificateError::NoNames));
        for name in ["", "a b", "\u{fc}ber.example", "a\0b"] {
            assert_eq!(refused(&["board.example", name]), Some(CertificateError::Name), "{name}");
        }
    }

    #[test]
    fn certificates_differ_and_have_a_fingerprint() {
        let names = ["board.example".to_string(), "192.0.2.7".into(), "2001:db8::7".into()];
        let [one, two] = [0, 1].map(|_| certificate(&names).expect("a certificate"));
        assert_ne!(one.fingerprint, two.fingerprint);
        assert_ne!(one.key_pem, two.key_pem);
        assert_eq!(one.fingerprint.split(':').count(), 32);
    }
}
