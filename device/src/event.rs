//! What happens to scans, told to whoever listens: panel, page, log, audit trail.
//!
//! An event names a scan by its [`ScanId`] and holds nothing that tells who the patient is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use models::label::Class;

use crate::record::Verdict;

/// A scan's name on the board: the first 16 hexadecimal digits of the SHA-256 of its SOP Instance
/// UID, or of its bytes where it has none. The same scan has the same name whenever and however it
/// arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ScanId(u64);

impl ScanId {
    /// The name of the scan that has this SOP Instance UID, or these bytes.
    pub fn of(identity: &[u8]) -> Self {
        let digest = Sha256::digest(identity);
        let head: [u8; 8] = std::array::from_fn(|place| digest[place]);
        Self(u64::from_be_bytes(head))
    }

    /// The name as a number, for logs.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ScanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Not 16 hexadecimal digits in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a scan's name has 16 hexadecimal digits")]
pub struct NoScanId;

impl FromStr for ScanId {
    type Err = NoScanId;

    fn from_str(text: &str) -> Result<Self, NoScanId> {
        let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 16 || !text.bytes().all(digit) {
            return Err(NoScanId);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| NoScanId)
    }
}

impl TryFrom<String> for ScanId {
    type Error = NoScanId;

    fn try_from(text: String) -> Result<Self, NoScanId> {
        text.parse()
    }
}

impl From<ScanId> for String {
    fn from(id: ScanId) -> String {
        id.to_string()
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A scan is on disk and its sender was told so.
    Received {
        /// Which scan.
        scan: ScanId,
        /// Calling AE title, or `folder`.
        from: String,
    },
    /// A sender was turned away or an object refused.
    Refused {
        /// Calling AE title, or `folder`.
        from: String,
        /// Why, in words of ours alone.
        reason: &'static str,
    },
    /// The network has judged a scan.
    Judged {
        /// Which scan.
        scan: ScanId,
        /// What to do with it.
        verdict: Verdict,
        /// The likeliest class.
        class: Class,
        /// That class's probability.
        probability: f32,
        /// SHA-256 of the bundle's manifest, in hexadecimal digits.
        bundle: String,
        /// From arrival to verdict, in milliseconds.
        latency_ms: u32,
    },
    /// A scan cannot be judged; a human must look at it.
    Unjudged {
        /// Which scan.
        scan: ScanId,
    },
    /// No result objects can be made of a judged scan; a human must look at it here.
    Unreported {
        /// Which scan.
        scan: ScanId,
    },
    /// A destination has all results of a scan.
    Delivered {
        /// Which scan.
        scan: ScanId,
        /// The destination's name in the configuration.
        destination: String,
    },
    /// A delivery failed and will be tried again.
    Retried {
        /// Which scan.
        scan: ScanId,
        /// The destination's name in the configuration.
        destination: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// A delivery was given up: a human must act.
    GivenUp {
        /// Which scan.
        scan: ScanId,
        /// The destination's name in the configuration.
        destination: String,
    },
    /// A destination has promised to keep the results of a scan (storage commitment).
    Committed {
        /// Which scan.
        scan: ScanId,
        /// The destination's name in the configuration.
        destination: String,
    },
    /// Someone has seen the verdict.
    Acknowledged {
        /// Which scan.
        scan: ScanId,
        /// `panel` or `page`.
        by: String,
    },
    /// A scan's files were removed at the end of their time.
    Expired {
        /// Which scan.
        scan: ScanId,
    },
    /// The disk is too full to accept scans, or has space again.
    DiskFull(bool),
    /// Another bundle judges from now on.
    BundleChanged {
        /// SHA-256 of its manifest, in hexadecimal digits.
        digest: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_keeps_its_name() {
        let id = ScanId::of(b"1.2.3");
        assert_eq!(id, ScanId::of(b"1.2.3"));
        assert_ne!(id, ScanId::of(b"1.2.4"));
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn other_words_are_no_names() {
        for text in ["", "0", "0123456789ABCDEF", "../../etc/passwd", "0123456789abcdef0"] {
            assert_eq!(text.parse::<ScanId>(), Err(NoScanId), "{text}");
        }
    }
}
