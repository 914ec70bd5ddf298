//! Random bits that nobody can guess, from the system through the TLS library's provider.

use rustls::crypto::ring;

/// The system gives no random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random numbers")]
pub struct NoRandomness;

/// Random bytes.
///
/// # Errors
/// When the system has none.
pub fn bytes<const COUNT: usize>() -> Result<[u8; COUNT], NoRandomness> {
    let mut bytes = [0; COUNT];
    ring::default_provider().secure_random.fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// 256 random bits in hexadecimal digits.
///
/// # Errors
/// When the system has none.
pub fn token() -> Result<String, NoRandomness> {
    Ok(hex::encode(bytes::<32>()?))
}
