//! Identifiers that follow from what they name, so that the same result always has the same.

use sha2::{Digest, Sha256};

/// A UID under the root for UUIDs (2.25, PS3.5 B.2) from the SHA-256 of all `parts`, as a UUID of
/// version 8 (RFC 9562 section 5.8).
pub fn derived(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let number = digest.iter().take(16).fold(0u128, |n, &byte| (n << 8) | u128::from(byte));
    const VERSION: u128 = 0xF << 76;
    const VARIANT: u128 = 0b11 << 62;
    format!("2.25.{}", number & !(VERSION | VARIANT) | 0x8 << 76 | 0b10 << 62)
}

/// Whether text is a UID: up to 64 digits and dots, no empty component, no leading zero
/// (PS3.5 section 9.1).
pub fn is_valid(text: &str) -> bool {
    let component = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        digits && (part == "0" || !part.starts_with('0'))
    };
    text.len() <= 64 && text.contains('.') && text.split('.').all(component)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_uids_are_valid_and_depend_on_every_part() {
        let uids = [derived(&["a", "bc"]), derived(&["ab", "c"]), derived(&["a", "bc", ""])];
        assert!(uids.iter().all(|uid| is_valid(uid)), "{uids:?}");
        assert_eq!(uids[0], derived(&["a", "bc"]));
        assert!(uids[0] != uids[1] && uids[0] != uids[2] && uids[1] != uids[2]);
    }

    #[test]
    fn other_texts_are_no_uids() {
        let long = format!("1.{}", "2".repeat(63));
        for text in ["", "1", ".", "1..2", "1.02", "1.2 ", "1.a", "1.2\\1.3", &long] {
            assert!(!is_valid(text), "{text}");
        }
        assert!(is_valid("1.2.840.10008.5.1.4.1.1.7") && is_valid("1.0.2"));
    }
}
