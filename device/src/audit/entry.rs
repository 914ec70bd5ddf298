//! What the trail tells: one entry for each thing that someone may have to answer for.

use serde::{Deserialize, Serialize};

use crate::event::{Event, ScanId};
use crate::record::Verdict;

/// One thing that happened. Texts are AE titles, configured names and words of ours: nothing that
/// tells who a patient is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Entry {
    /// The service started.
    Started {
        /// Its version.
        version: String,
        /// SHA-256 of its configuration in hexadecimal digits.
        configuration: String,
        /// SHA-256 of its bundle's manifest in hexadecimal digits.
        bundle: String,
    },
    /// The service stopped in good order.
    Stopped,
    /// A scan was stored.
    Received {
        /// Which scan.
        scan: ScanId,
        /// Calling AE title, or `folder`.
        from: String,
    },
    /// A sender or an object was turned away.
    Refused {
        /// Calling AE title, or `folder`.
        from: String,
        /// Why.
        reason: String,
    },
    /// A scan was judged.
    Judged {
        /// Which scan.
        scan: ScanId,
        /// What was decided.
        verdict: Verdict,
        /// By which bundle: SHA-256 of its manifest in hexadecimal digits.
        bundle: String,
    },
    /// A scan cannot be judged.
    Unjudged {
        /// Which scan.
        scan: ScanId,
    },
    /// No result objects can be made of it.
    Unreported {
        /// Which scan.
        scan: ScanId,
    },
    /// A destination has the results.
    Delivered {
        /// Which scan.
        scan: ScanId,
        /// The destination's name in the configuration.
        destination: String,
    },
    /// A destination promised to keep the results.
    Committed {
        /// Which scan.
        scan: ScanId,
        /// The destination's name in the configuration.
        destination: String,
    },
    /// A delivery was given up.
    GivenUp {
        /// Which scan.
        scan: ScanId,
        /// The destination's name in the configuration.
        destination: String,
    },
    /// A human sent a dead letter again.
    Redelivered {
        /// Which scan.
        scan: ScanId,
        /// The destination's name in the configuration.
        destination: String,
        /// Who decided.
        by: String,
    },
    /// A human decided that a delivery is not needed.
    Abandoned {
        /// Which scan.
        scan: ScanId,
        /// The destination's name in the configuration.
        destination: String,
        /// Who decided.
        by: String,
    },
    /// Someone has seen the verdict.
    Acknowledged {
        /// Which scan.
        scan: ScanId,
        /// `panel` or `page`.
        by: String,
    },
    /// A scan's content was removed at the end of its time.
    Expired {
        /// Which scan.
        scan: ScanId,
    },
    /// A scan's content was found to be missing.
    Lost {
        /// Which scan.
        scan: ScanId,
    },
    /// A scan that was received just before the service died was taken up by the next start.
    Adopted {
        /// Which scan.
        scan: ScanId,
    },
    /// A scan's judgement or results were found to be missing; they are made again.
    SetBack {
        /// Which scan.
        scan: ScanId,
    },
    /// The spool's database was damaged and built anew: all deliveries are repeated.
    Rebuilt,
    /// Someone signed in to the page.
    SignedIn {
        /// The user's name in the configuration.
        user: String,
    },
    /// Someone failed to sign in to the page.
    SignInRefused,
    /// Another bundle judges from now on.
    BundleChanged {
        /// SHA-256 of its manifest in hexadecimal digits.
        bundle: String,
    },
    /// A line torn by a power loss was cut off; nobody had been told that it was written.
    Repaired {
        /// How many bytes were cut off.
        bytes: u64,
    },
    /// The trail did not agree with its head when it was opened: it was changed or shortened.
    Cut {
        /// The last entry that was written, where the head was there.
        head: Option<u64>,
        /// The last entry that was found.
        found: u64,
    },
}

impl Entry {
    /// The entry of an event; none for those that nobody has to answer for.
    pub fn of(event: &Event) -> Option<Self> {
        let entry = match event.clone() {
            Event::Received { scan, from } => Self::Received { scan, from },
            Event::Refused { from, reason } => Self::Refused { from, reason: reason.into() },
            Event::Judged { scan, verdict, bundle, .. } => Self::Judged { scan, verdict, bundle },
            Event::Unjudged { scan } => Self::Unjudged { scan },
            Event::Unreported { scan } => Self::Unreported { scan },
            Event::Delivered { scan, destination } => Self::Delivered { scan, destination },
            Event::Committed { scan, destination } => Self::Committed { scan, destination },
            Event::GivenUp { scan, destination } => Self::GivenUp { scan, destination },
            Event::Acknowledged { scan, by } => Self::Acknowledged { scan, by },
            Event::Expired { scan } => Self::Expired { scan },
            Event::BundleChanged { digest } => Self::BundleChanged { bundle: digest },
            Event::Retried { .. } | Event::DiskFull(_) => return None,
        };
        Some(entry)
    }
}
