//! The secret that opens the pages: made once, kept only as an Argon2id hash.
//!
//! A secret has 125 random bits, so no guessing finds it; the hash keeps it out of sight of
//! whoever reads the configuration. Argon2id runs with the smallest parameters that OWASP's
//! Password Storage Cheat Sheet names (19 MiB, two passes, one lane): little enough for a board
//! with 1 GB that judges scans beside it.

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};

use super::random::{self, NoRandomness};

/// Memory in KiB, passes and lanes of a hash made here.
const COST: (u32, u32, u32) = (19 * 1024, 2, 1);
/// The most memory in KiB, passes and lanes that a hash from a configuration may ask for.
const MAX_COST: (u32, u32, u32) = (128 * 1024, 16, 4);
/// Crockford's Base32: no letter that looks like another.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const GROUPS: usize = 5;
const GROUP: usize = 5;
/// Longer input is no secret, and is not hashed.
const MAX_LENGTH: usize = 128;

/// Why a secret cannot be made or checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The system gives no random numbers.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// Hashing failed.
    #[error("the secret cannot be hashed")]
    Hashing,
    /// Not a PHC string of Argon2id.
    #[error("the secret's hash is not an Argon2id hash in PHC form")]
    Form,
    /// A hash that would take too much of the board.
    #[error(
        "the secret's hash asks for more than {} MiB, {} passes or {} lanes",
        MAX_COST.0 / 1024, MAX_COST.1, MAX_COST.2
    )]
    Cost,
}

/// A new secret: five groups of five letters and digits, such as `k3v7q-...`.
///
/// # Errors
/// When the system has no random numbers.
pub fn generate() -> Result<String, SecretError> {
    // 256 is a multiple of 32, so every letter is equally likely.
    let letters =
        random::bytes::<{ GROUPS * GROUP }>()?.map(|byte| ALPHABET[usize::from(byte % 32)]);
    let groups: Vec<String> = letters
        .chunks(GROUP)
        .map(|group| group.iter().copied().map(char::from).collect())
        .collect();
    Ok(groups.join("-"))
}

/// The hash of a secret in PHC form, with a random salt. Takes as long as signing in: 80 to 180 ms
/// on one core of a busy AMD Zen 3, and 19 MiB; no board has been measured yet.
///
/// # Errors
/// When the system has no random numbers or no memory.
pub fn hash(secret: &str) -> Result<String, SecretError> {
    let (memory, passes, lanes) = COST;
    let params = Params::new(memory, passes, lanes, None).map_err(|_| SecretError::Hashing)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let salt = random::bytes::<16>()?;
    let hash = argon2
        .hash_password_with_salt(canonical(secret).as_bytes(), &salt)
        .map_err(|_| SecretError::Hashing)?;
    Ok(hash.to_string())
}

/// Checks secrets against one hash.
#[derive(Debug)]
pub struct Verifier(PasswordHash);

impl Verifier {
    /// Reads a hash made by [`hash`], or by another program for the [`canonical`] secret.
    ///
    /// # Errors
    /// When it is no Argon2id hash, or asks for too much memory or time.
    pub fn new(phc: &str) -> Result<Self, SecretError> {
        let hash = PasswordHash::new(phc).map_err(|_| SecretError::Form)?;
        if hash.algorithm.as_str() != Algorithm::Argon2id.as_ref() || hash.hash.is_none() {
            return Err(SecretError::Form);
        }
        let params = Params::try_from(&hash).map_err(|_| SecretError::Form)?;
        let (memory, passes, lanes) = MAX_COST;
        if params.m_cost() > memory || params.t_cost() > passes || params.p_cost() > lanes {
            return Err(SecretError::Cost);
        }
        Ok(Self(hash))
    }

    /// Whether this is the secret; takes the time and memory that the hash asks for.
    pub fn accepts(&self, secret: &str) -> bool {
        secret.len() <= MAX_LENGTH
            && Argon2::default().verify_password(canonical(secret).as_bytes(), &self.0).is_ok()
    }
}

/// A secret as it is hashed: without spaces and hyphens, in lower case, with the digits that
/// Crockford's Base32 has for look-alike letters. Typing it on a small screen is hard enough.
pub fn canonical(secret: &str) -> String {
    let letters = secret.chars().filter(|c| !c.is_whitespace() && *c != '-');
    letters
        .map(|c| match c.to_ascii_lowercase() {
            'o' => '0',
            'i' | 'l' => '1',
            other => other,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_what_its_hash_locks() {
        let secret = generate().expect("a secret");
        let verifier = Verifier::new(&hash(&secret).expect("a hash")).expect("a verifier");
        assert!(verifier.accepts(&secret));
        assert!(verifier.accepts(&secret.to_uppercase().replace('-', " ").replace('0', "O")));
        assert!(!verifier.accepts(&generate().expect("another")));
        assert!(!verifier.accepts(""));
        assert!(!verifier.accepts(&format!("{secret}{}", "-".repeat(MAX_LENGTH))));
    }

    #[test]
    fn secrets_are_long_and_differ() {
        let [one, two] = [generate(), generate()].map(|s| s.expect("a secret"));
        assert_ne!(one, two);
        assert_eq!(canonical(&one).len(), GROUPS * GROUP);
        assert!(one.split('-').all(|group| group.len() == GROUP));
    }

    #[test]
    fn the_same_secret_has_many_hashes() {
        assert_ne!(hash("secret"), hash("secret"));
    }

    #[test]
    fn unfit_hashes_are_refused() {
        let good = hash("secret").expect("a hash");
        let refused = |phc: &str| Verifier::new(phc).expect_err("refused");
        for bad in ["", "secret", "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ"] {
            assert_eq!(refused(bad), SecretError::Form, "{bad}");
        }
        assert_eq!(refused(&good.replace("argon2id", "argon2i")), SecretError::Form);
        assert_eq!(refused(&good.replace("m=19456", "m=4000000")), SecretError::Cost);
        assert_eq!(refused(&good.replace("t=2", "t=1000")), SecretError::Cost);
    }
}
