//! Coded concepts (PS3.3 section 8, PS3.16).

use dicom_core::VR;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use models::label::Class;

use super::dataset::{put, put_items};
use crate::record::Verdict;

/// A concept: value, scheme, meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    value: &'static str,
    scheme: &'static str,
    meaning: &'static str,
}

/// The scheme for concepts that have no standard code.
const OURS: &str = "99SPINESIGHT";

/// A concept of DICOM's own (PS3.16 annex D).
pub const fn dcm(value: &'static str, meaning: &'static str) -> Code {
    Code { value, scheme: "DCM", meaning }
}

/// A concept of SNOMED CT.
pub const fn sct(value: &'static str, meaning: &'static str) -> Code {
    Code { value, scheme: "SCT", meaning }
}

/// A unit of measurement.
pub const fn ucum(value: &'static str, meaning: &'static str) -> Code {
    Code { value, scheme: "UCUM", meaning }
}

/// A concept of ours alone.
pub const fn ours(value: &'static str, meaning: &'static str) -> Code {
    Code { value, scheme: OURS, meaning }
}

/// American English, as TID 1204 wants it.
pub const ENGLISH: Code =
    Code { value: "en-US", scheme: "RFC5646", meaning: "English (United States)" };

/// The section for statements without numbers (TID 1500).
pub const QUALITATIVE: Code =
    Code { value: "C0034375", scheme: "UMLS", meaning: "Qualitative Evaluations" };

impl Code {
    /// The concept as the item of a code sequence.
    pub fn item(self) -> InMemDicomObject {
        let mut item = InMemDicomObject::new_empty();
        put(&mut item, tags::CODE_VALUE, VR::SH, self.value);
        put(&mut item, tags::CODING_SCHEME_DESIGNATOR, VR::SH, self.scheme);
        put(&mut item, tags::CODE_MEANING, VR::LO, self.meaning);
        item
    }
}

/// What a verdict says was found; nothing where a human decides.
pub fn finding(verdict: Verdict, class: Class) -> Option<Code> {
    match (verdict, class) {
        (Verdict::Refer, _) => None,
        (Verdict::Normal, _) => Some(ours("NONE", "Neither scoliosis nor spondylolisthesis found")),
        // Both findings together flagged, though neither alone is likelier than none.
        (Verdict::Abnormal, Class::Normal) => {
            Some(ours("EITHER", "Scoliosis or spondylolisthesis suspected"))
        }
        (Verdict::Abnormal, Class::Scoliosis) => {
            Some(sct("298382003", "Scoliosis deformity of spine"))
        }
        (Verdict::Abnormal, Class::Spondylolisthesis) => {
            Some(sct("274152003", "Spondylolisthesis"))
        }
    }
}

/// A verdict.
pub fn verdict(verdict: Verdict) -> Code {
    match verdict {
        Verdict::Normal => ours("NORMAL", "Normal: no known finding"),
        Verdict::Abnormal => ours("ABNORMAL", "Abnormal: flagged for prompt reading"),
        Verdict::Refer => ours("REFER", "Referred: a human must decide"),
    }
}

/// The name of a class's probability.
pub fn probability(class: Class) -> Code {
    match class {
        Class::Normal => ours("P-NORMAL", "Probability of no known finding"),
        Class::Scoliosis => ours("P-SCOLIOSIS", "Probability of scoliosis"),
        Class::Spondylolisthesis => ours("P-SLIP", "Probability of spondylolisthesis"),
    }
}

/// Says whose the concepts of ours are (PS3.3 C.12.1.1.5).
pub fn put_scheme(object: &mut InMemDicomObject) {
    let mut item = InMemDicomObject::new_empty();
    put(&mut item, tags::CODING_SCHEME_DESIGNATOR, VR::SH, OURS);
    put(&mut item, tags::CODING_SCHEME_NAME, VR::ST, "Spinesight private concepts");
    put(&mut item, tags::CODING_SCHEME_VERSION, VR::SH, "1");
    put(&mut item, tags::CODING_SCHEME_RESPONSIBLE_ORGANIZATION, VR::ST, "Spinesight");
    put_items(object, tags::CODING_SCHEME_IDENTIFICATION_SEQUENCE, vec![item]);
}
