//! What a result says in words.

use models::label::Class;

use super::dataset::ascii;
use crate::page::words::{badge, class, percent, short_digest};
use crate::record::{ScanRecord, Verdict};

/// The sentence that no result goes without.
pub const NOTICE: &str = "Decision support, not a diagnosis.";

/// The verdict, in capitals.
pub fn verdict(record: &ScanRecord) -> String {
    badge(record.verdict).to_uppercase()
}

/// What was found and how sure, or who must decide.
pub fn finding(record: &ScanRecord) -> String {
    let probability = record.probabilities.of(record.class);
    match (record.verdict, record.class) {
        (Verdict::Refer, _) => "A human must read it".into(),
        (Verdict::Normal, _) => format!("No known finding {}", percent(probability)),
        (Verdict::Abnormal, Class::Normal) => {
            let findings = percent(1.0 - record.probabilities.normal);
            format!("Scoliosis or spondylolisthesis {findings}")
        }
        (Verdict::Abnormal, found) => format!("{} {}", class(found), percent(probability)),
    }
}

/// The reasons, in ASCII; at most `most` of them.
pub fn reasons(record: &ScanRecord, most: usize) -> impl Iterator<Item = String> {
    record.reasons.iter().take(most).map(|reason| ascii(reason, 1000)).filter(|r| !r.is_empty())
}

/// Which model judged, in short.
pub fn model(record: &ScanRecord) -> String {
    let digest = ascii(&short_digest(&record.bundle.digest), 12);
    format!("Model {}, bundle {digest}", ascii(&record.bundle.name, 64))
}
