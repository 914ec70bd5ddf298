//! A phantom as a DICOM object: Digital X-Ray Image, For Presentation (PS3.3 A.26).

use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::meta::FileMetaTableBuilder;
use dicom_object::{InMemDicomObject, WithMetaError, WriteError};
use models::label::Class;
use sha2::{Digest, Sha256};

use super::Phantom;
use super::geometry::View;
use super::truth::{Edge, Truth};

/// Why an object cannot be formed.
#[derive(Debug, thiserror::Error)]
pub enum DicomError {
    /// The file meta group is incomplete.
    #[error("the DICOM file meta group cannot be formed: {0}")]
    Meta(#[from] Box<WithMetaError>),
    /// The encoder failed.
    #[error("the DICOM object cannot be written: {0}")]
    Write(#[from] Box<WriteError>),
}

/// Encodes a phantom as a DICOM file, explicit VR little endian, 16 bits stored.
///
/// Every field about a patient is plainly synthetic: name and id carry `number`, the dates are
/// the first day of 2000, and the object says of itself that it is a phantom. The UIDs follow
/// from the phantom's specification.
///
/// # Errors
/// When the encoder refuses the object.
pub fn encode(phantom: &Phantom, number: usize) -> Result<Vec<u8>, DicomError> {
    let truth = &phantom.truth;
    let mut object = InMemDicomObject::new_empty();
    identity(&mut object, truth, number);
    acquisition(&mut object, truth);
    pixels(&mut object, phantom);
    let meta = FileMetaTableBuilder::new().transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let file = object.with_meta(meta).map_err(Box::new)?;
    let mut bytes = Vec::new();
    file.write_all(&mut bytes).map_err(Box::new)?;
    Ok(bytes)
}

/// Modules patient, study, series, equipment and SOP common.
fn identity(object: &mut InMemDicomObject, truth: &Truth, number: usize) {
    put(object, tags::SOP_CLASS_UID, VR::UI, uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION);
    put(object, tags::SOP_INSTANCE_UID, VR::UI, &uid(truth, "instance"));
    put(object, tags::STUDY_INSTANCE_UID, VR::UI, &uid(truth, "study"));
    put(object, tags::SERIES_INSTANCE_UID, VR::UI, &uid(truth, "series"));
    put(object, tags::PATIENT_NAME, VR::PN, &format!("PHANTOM^{number:04}"));
    put(object, tags::PATIENT_ID, VR::LO, &format!("PHANTOM-{number:04}"));
    put(object, tags::PATIENT_COMMENTS, VR::LT, "Computed phantom; no patient exists.");
    put(object, tags::STUDY_DESCRIPTION, VR::LO, "Synthetic spine radiograph");
    put(object, tags::STUDY_ID, VR::SH, &number.to_string());
    for tag in [tags::STUDY_DATE, tags::SERIES_DATE, tags::CONTENT_DATE, tags::ACQUISITION_DATE] {
        put(object, tag, VR::DA, "20000101");
    }
    for tag in [tags::STUDY_TIME, tags::SERIES_TIME, tags::CONTENT_TIME, tags::ACQUISITION_TIME] {
        put(object, tag, VR::TM, "120000");
    }
    put(object, tags::MODALITY, VR::CS, "DX");
    put(object, tags::PRESENTATION_INTENT_TYPE, VR::CS, "FOR PRESENTATION");
    put(object, tags::SERIES_NUMBER, VR::IS, "1");
    put(object, tags::INSTANCE_NUMBER, VR::IS, "1");
    put(object, tags::MANUFACTURER, VR::LO, "Spinesight phantom");
    put(object, tags::QUALITY_CONTROL_IMAGE, VR::CS, "YES");
    for (tag, vr) in [
        (tags::PATIENT_BIRTH_DATE, VR::DA),
        (tags::PATIENT_SEX, VR::CS),
        (tags::REFERRING_PHYSICIAN_NAME, VR::PN),
        (tags::ACCESSION_NUMBER, VR::SH),
    ] {
        object.put(DataElement::new(tag, vr, PrimitiveValue::Empty));
    }
}

/// Modules DX anatomy imaged, DX positioning, DX detector and acquisition context.
fn acquisition(object: &mut InMemDicomObject, truth: &Truth) {
    let (position, orientation) = match (truth.view, truth.faces) {
        (View::Frontal, _) => ("AP", "L\\F"),
        (View::Lateral, Some(Edge::Right)) => ("LL", "A\\F"),
        (View::Lateral, _) => ("LL", "P\\F"),
    };
    put(object, tags::VIEW_POSITION, VR::CS, position);
    put(object, tags::PATIENT_ORIENTATION, VR::CS, orientation);
    put(object, tags::IMAGE_LATERALITY, VR::CS, "U");
    put(object, tags::BODY_PART_EXAMINED, VR::CS, "SPINE");
    let mut spine = InMemDicomObject::new_empty();
    put(&mut spine, tags::CODE_VALUE, VR::SH, "421060004");
    put(&mut spine, tags::CODING_SCHEME_DESIGNATOR, VR::SH, "SCT");
    put(&mut spine, tags::CODE_MEANING, VR::LO, "Spine");
    let region = DataSetSequence::from(vec![spine]);
    object.put(DataElement::new(tags::ANATOMIC_REGION_SEQUENCE, VR::SQ, region));
    let nothing = DataSetSequence::<InMemDicomObject>::from(Vec::new());
    object.put(DataElement::new(tags::ACQUISITION_CONTEXT_SEQUENCE, VR::SQ, nothing));
    put(object, tags::DETECTOR_TYPE, VR::CS, "SCINTILLATOR");
    let spacing = format!("{0:.5}\\{0:.5}", truth.mm_per_pixel);
    put(object, tags::IMAGER_PIXEL_SPACING, VR::DS, &spacing);
}

/// Modules image pixel, DX image and VOI LUT.
fn pixels(object: &mut InMemDicomObject, phantom: &Phantom) {
    put(object, tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY\\");
    put(object, tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2");
    put(object, tags::PIXEL_INTENSITY_RELATIONSHIP, VR::CS, "LOG");
    put(object, tags::RESCALE_INTERCEPT, VR::DS, "0");
    put(object, tags::RESCALE_SLOPE, VR::DS, "1");
    put(object, tags::RESCALE_TYPE, VR::LO, "US");
    put(object, tags::PRESENTATION_LUT_SHAPE, VR::CS, "IDENTITY");
    put(object, tags::LOSSY_IMAGE_COMPRESSION, VR::CS, "00");
    put(object, tags::BURNED_IN_ANNOTATION, VR::CS, "NO");
    put(object, tags::WINDOW_CENTER, VR::DS, "32768");
    put(object, tags::WINDOW_WIDTH, VR::DS, "65536");
    // Larger values mean less X-ray intensity.
    let sign = PrimitiveValue::from(-1i16);
    object.put(DataElement::new(tags::PIXEL_INTENSITY_RELATIONSHIP_SIGN, VR::SS, sign));
    let image = &phantom.image;
    for (tag, value) in [
        (tags::SAMPLES_PER_PIXEL, 1),
        (tags::ROWS, image.height() as u16),
        (tags::COLUMNS, image.width() as u16),
        (tags::BITS_ALLOCATED, 16),
        (tags::BITS_STORED, 16),
        (tags::HIGH_BIT, 15),
        (tags::PIXEL_REPRESENTATION, 0),
    ] {
        object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
    }
    let samples = PrimitiveValue::U16(image.samples().into());
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OW, samples));
}

fn put(object: &mut InMemDicomObject, tag: Tag, vr: VR, value: &str) {
    object.put(DataElement::new(tag, vr, PrimitiveValue::from(value)));
}

/// A UID under the root for numbers without a registry (2.25, ITU-T X.667), from a digest of
/// what the object is.
fn uid(truth: &Truth, role: &str) -> String {
    let Truth { class, seed, width, height, .. } = truth;
    let class: &Class = class;
    let digest = Sha256::digest(format!("spinesight {role} {class} {seed} {width} {height}"));
    let number = digest.iter().take(16).fold(0u128, |n, &byte| (n << 8) | u128::from(byte));
    format!("2.25.{number}")
}

#[cfg(test)]
mod tests {
    use super::super::{PhantomSpec, render};
    use super::*;

    fn phantom() -> Phantom {
        let spec =
            PhantomSpec { class: Class::Spondylolisthesis, seed: 5, width: 160, height: 240 };
        render(&spec).expect("render")
    }

    #[test]
    fn reading_back_gives_the_same_samples() {
        let phantom = phantom();
        let bytes = encode(&phantom, 7).expect("encode");
        let object = dicom_object::from_reader(bytes.as_slice()).expect("read");
        let text = |tag: Tag| {
            object.element(tag).expect("present").to_str().expect("text").trim().to_string()
        };
        let samples =
            object.element(tags::PIXEL_DATA).expect("pixels").to_multi_int::<u16>().expect("u16");
        assert_eq!(samples, phantom.image.samples());
        assert_eq!(text(tags::ROWS), "240");
        assert_eq!(text(tags::COLUMNS), "160");
        assert_eq!(text(tags::PATIENT_NAME), "PHANTOM^0007");
        assert_eq!(text(tags::PHOTOMETRIC_INTERPRETATION), "MONOCHROME2");
        assert_eq!(
            object.meta().media_storage_sop_instance_uid.trim_end_matches('\0'),
            text(tags::SOP_INSTANCE_UID).trim_end_matches('\0')
        );
    }

    #[test]
    fn uids_are_valid_and_follow_the_specification() {
        let truth = phantom().truth;
        let other = Truth { seed: 6, ..truth.clone() };
        assert_eq!(uid(&truth, "study"), uid(&truth, "study"));
        assert_ne!(uid(&truth, "study"), uid(&other, "study"));
        assert_ne!(uid(&truth, "study"), uid(&truth, "series"));
        for role in ["study", "series", "instance"] {
            let uid = uid(&truth, role);
            assert!(uid.len() <= 64 && uid.starts_with("2.25."));
            assert!(uid[5..].bytes().all(|b| b.is_ascii_digit()) && !uid[5..].starts_with('0'));
        }
    }

    #[test]
    fn encoding_is_deterministic() {
        let phantom = phantom();
        assert_eq!(encode(&phantom, 1).expect("once"), encode(&phantom, 1).expect("twice"));
    }
}
