//! The token by which a machine elsewhere reads `/metrics`.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// A bearer token (RFC 6750), kept as its SHA-256 so that a comparison's time tells nothing.
#[derive(Debug)]
pub struct Token([u8; 32]);

impl Token {
    /// The token in a configuration.
    pub fn new(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Whether the value of an `Authorization` header carries this token.
    pub fn opens(&self, authorization: &str) -> bool {
        let given = authorization.strip_prefix("Bearer ").map(Self::new);
        given.is_some_and(|given| self.0.ct_eq(&given.0).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_opens() {
        let token = Token::new("k3v7q");
        assert!(token.opens("Bearer k3v7q"));
        for other in ["", "k3v7q", "Bearer ", "Bearer k3v7", "Bearer k3v7q ", "Basic k3v7q"] {
            assert!(!token.opens(other), "{other}");
        }
    }
}
