//! What the board takes: SOP classes and transfer syntaxes, in one place.

use std::sync::LazyLock;

use dicom_dictionary_std::uids;
use dicom_encoding::TransferSyntaxIndex;
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

/// SOP classes of pictures that can be stored here.
pub const STORAGE: [&str; 4] = [
    uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE,
    uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION,
    uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PROCESSING,
    uids::SECONDARY_CAPTURE_IMAGE_STORAGE,
];

/// Transfer syntaxes of everything that is not a picture, the preferred one first.
pub const PLAIN: [&str; 2] = [uids::EXPLICIT_VR_LITTLE_ENDIAN, uids::IMPLICIT_VR_LITTLE_ENDIAN];

/// Transfer syntaxes a picture could have. A deflated data set is not among them: a few bytes of
/// it could fill the memory.
const CANDIDATES: [&str; 12] = [
    uids::EXPLICIT_VR_LITTLE_ENDIAN,
    uids::IMPLICIT_VR_LITTLE_ENDIAN,
    "1.2.840.10008.1.2.2", // Explicit VR Big Endian, retired
    uids::JPEG_BASELINE8_BIT,
    uids::JPEG_EXTENDED12_BIT,
    uids::JPEG_LOSSLESS,
    uids::JPEG_LOSSLESS_SV1,
    uids::RLE_LOSSLESS,
    uids::JPEGLS_LOSSLESS,
    uids::JPEGLS_NEAR_LOSSLESS,
    uids::JPEG2000_LOSSLESS,
    uids::JPEG2000,
];

/// Transfer syntaxes of pictures that can be stored here: those that the decoder built into this
/// program reads. JPEG-LS and JPEG 2000 drop out unless their decoders are built in.
pub fn pictures() -> &'static [&'static str] {
    static DECODED: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
        let decoded = |uid: &&str| {
            TransferSyntaxRegistry.get(uid).is_some_and(|syntax| syntax.can_decode_all())
        };
        CANDIDATES.into_iter().filter(decoded).collect()
    });
    &DECODED
}

/// The transfer syntaxes accepted for an abstract syntax where objects of these SOP classes can be
/// stored; empty when it is not supported at all.
pub fn accepted(abstract_syntax: &str, storage: &[String]) -> &'static [&'static str] {
    match abstract_syntax {
        uids::VERIFICATION | uids::STORAGE_COMMITMENT_PUSH_MODEL => &PLAIN,
        class if storage.iter().any(|stored| stored == class) => pictures(),
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uncompressed_jpeg_and_run_length_pictures_are_accepted() {
        for class in STORAGE {
            for uid in &CANDIDATES[..8] {
                assert!(accepted(class, &[class.into()]).contains(uid), "{class} {uid}");
            }
        }
    }

    /// Covers: RCV-4
    #[test]
    fn what_would_not_decode_is_not_accepted() {
        let deflated = uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN;
        for uid in [deflated, uids::JPEGLS_LOSSLESS, uids::JPEG2000, "1.2.3", ""] {
            assert!(!pictures().contains(&uid), "{uid}");
        }
        assert!(accepted(uids::CT_IMAGE_STORAGE, &STORAGE.map(String::from)).is_empty());
    }
}
