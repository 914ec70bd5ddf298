//! Archives whose signature was verified, before anyone looks into them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use ring::signature::{ED25519, UnparsedPublicKey};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;

use super::{InstallError, at};

/// Largest archive: four times the largest network that a board runs.
const MOST_ARCHIVE: u64 = 512 << 20;
/// Largest file with a key or a signature.
const MOST_SMALL: u64 = 16 << 10;
/// How the public key of Ed25519 begins in its DER form, which the 32 bytes of the key end
/// (RFC 8410 section 4).
const HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const KEY_BYTES: usize = 32;

/// An archive with a valid signature: there is no other way to get one.
#[derive(Debug)]
pub struct Signed {
    archive: Vec<u8>,
}

impl Signed {
    /// Reads an archive and verifies its detached Ed25519 signature (64 bytes over all of the
    /// archive, RFC 8032) by a public key (PEM). The bytes that were verified are those that are
    /// used: whoever exchanges the file later changes nothing.
    ///
    /// # Errors
    /// When a file cannot be read, or the signature is not valid.
    pub fn read(archive: &Path, signature: &Path, key: &Path) -> Result<Self, InstallError> {
        let pem = read(key, MOST_SMALL)?;
        let key = public_key(&pem).ok_or_else(|| InstallError::Key { path: key.to_owned() })?;
        let signature = read(signature, MOST_SMALL)?;
        let archive = read(archive, MOST_ARCHIVE)?;
        UnparsedPublicKey::new(&ED25519, key)
            .verify(&archive, &signature)
            .map_err(|_| InstallError::Signature)?;
        Ok(Self { archive })
    }

    /// The archive's bytes.
    pub(super) fn archive(&self) -> &[u8] {
        &self.archive
    }
}

fn public_key(pem: &[u8]) -> Option<[u8; KEY_BYTES]> {
    let key = SubjectPublicKeyInfoDer::from_pem_slice(pem).ok()?;
    key.strip_prefix(&HEAD)?.try_into().ok()
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, InstallError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes));
    if read.map_err(at(path))? as u64 > most {
        return Err(InstallError::TooLarge { path: path.to_owned(), most });
    }
    Ok(bytes)
}
