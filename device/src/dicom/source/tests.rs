//! What is taken over from files of all kinds.

use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, VR};

use super::testing::{JAPANESE, LATIN, UNICODE, file, file_in, png};
use super::*;

/// Explicit VR big endian: retired, and still met.
const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

fn put(object: &mut InMemDicomObject, tag: Tag, vr: VR, value: &str) {
    object.put(DataElement::new(tag, vr, PrimitiveValue::from(value)));
}

#[test]
fn identity_size_and_spacing_are_read_in_every_byte_order() {
    for syntax in [uids::EXPLICIT_VR_LITTLE_ENDIAN, uids::IMPLICIT_VR_LITTLE_ENDIAN, BIG_ENDIAN] {
        let source = Source::from_bytes(&file_in(syntax, LATIN, |_| {})).expect(syntax);
        assert_eq!((source.columns, source.rows), (200, 100));
        assert_eq!(
            [&source.study, &source.series, &source.instance].map(String::as_str),
            ["1.2.3", "1.2.4", "1.2.5"]
        );
        let image = source.image.expect("an image");
        let spacing = Spacing { rows_columns: [0.2, 0.2], plane: Plane::Patient(None) };
        assert_eq!((image.spacing, image.tones), (Some(spacing), Tones::LightRises));
        assert_eq!(source.loss, Loss::Lossy { ratios: vec![8.5], methods: vec![] });
        assert!(image.details.get(tags::REQUEST_ATTRIBUTES_SEQUENCE).is_some());
    }
}

#[test]
fn names_keep_their_bytes_in_every_character_set() {
    for (charset, name) in [LATIN, UNICODE, JAPANESE] {
        let source = Source::from_bytes(&file((charset, name), |_| {})).expect(charset);
        let stored = source.context.element(tags::PATIENT_NAME).expect("a name");
        assert_eq!(stored.to_bytes().expect("bytes").trim_ascii_end(), name.trim_ascii_end());
        assert_eq!(text(&source.context, tags::SPECIFIC_CHARACTER_SET).as_deref(), Some(charset));
    }
}

#[test]
fn binary_numbers_in_sequences_keep_their_value() {
    let bytes = file_in(BIG_ENDIAN, LATIN, |object| {
        let mut table = InMemDicomObject::new_empty();
        let descriptor = PrimitiveValue::U16(vec![4096, 0, 12].into());
        table.put(DataElement::new(tags::LUT_DESCRIPTOR, VR::US, descriptor));
        let tables = DataSetSequence::from(vec![table]);
        object.put(DataElement::new(tags::VOILUT_SEQUENCE, VR::SQ, tables));
    });
    let image = Source::from_bytes(&bytes).expect("a source").image.expect("an image");
    let tables = image.details.element(tags::VOILUT_SEQUENCE).expect("tables");
    let descriptor = tables.items().expect("items")[0].element(tags::LUT_DESCRIPTOR);
    let bytes = descriptor.expect("a descriptor").to_bytes().expect("bytes").into_owned();
    assert_eq!(bytes, [4096u16, 0, 12].map(u16::to_le_bytes).concat());
}

#[test]
fn spacing_says_where_it_was_measured() {
    let spacing = |change: fn(&mut InMemDicomObject)| {
        let source = Source::from_bytes(&file(LATIN, change)).expect("a source");
        source.image.and_then(|image| image.spacing).map(|spacing| spacing.plane)
    };
    let calibrated = spacing(|o| put(o, tags::PIXEL_SPACING_CALIBRATION_TYPE, VR::CS, "FIDUCIAL"));
    assert_eq!(calibrated, Some(Plane::Patient(Some(Calibration::Fiducial))));
    let detector = spacing(|o| {
        o.remove_element(tags::PIXEL_SPACING);
        put(o, tags::IMAGER_PIXEL_SPACING, VR::DS, "0.1\\0.1");
    });
    assert_eq!(detector, Some(Plane::Detector));
    assert_eq!(spacing(|o| put(o, tags::PIXEL_SPACING, VR::DS, "0\\wide")), None);
}

#[test]
fn a_picture_has_uids_of_its_own_bytes_and_nothing_of_a_patient() {
    let (one, other) = (png(60, 80), png(60, 81));
    let source = Source::from_bytes(&one).expect("a source");
    let same = Source::from_bytes(&one).expect("a source");
    let next = Source::from_bytes(&other).expect("a source");
    assert_eq!((&source.study, &source.instance), (&same.study, &same.instance));
    assert!(source.study != next.study && source.study != source.instance);
    assert!(source.image.is_none() && source.context.iter().next().is_none());
    assert_eq!((source.columns, source.rows, source.loss), (60, 80, Loss::Unknown));
}

#[test]
fn a_damaged_file_has_a_typed_reason() {
    let error = |bytes: &[u8]| Source::from_bytes(bytes).map(|_| ()).expect_err("must be refused");
    let whole = file(LATIN, |_| {});
    assert_eq!(error(b""), SourceError::Unknown);
    assert_eq!(error(b"a letter"), SourceError::Unknown);
    for length in (PREAMBLE + 4..whole.len()).step_by(97) {
        assert_eq!(error(&whole[..length]), SourceError::Damaged, "{length} bytes");
    }
    let without = |tag| {
        error(&file(LATIN, |o| {
            o.remove_element(tag);
        }))
    };
    assert_eq!(without(tags::ROWS), SourceError::Size);
    assert_eq!(without(tags::STUDY_INSTANCE_UID), SourceError::Uid("Study Instance UID"));
    let crooked = file(LATIN, |o| put(o, tags::SERIES_INSTANCE_UID, VR::UI, "1.2.x"));
    assert_eq!(error(&crooked), SourceError::Uid("Series Instance UID"));
    assert_eq!(error(&png(10, 10)), SourceError::Size);
}

#[test]
fn a_value_too_long_to_be_written_is_damage() {
    let long = |tag, vr| {
        file_in(uids::IMPLICIT_VR_LITTLE_ENDIAN, LATIN, |object| {
            object.put(DataElement::new(tag, vr, PrimitiveValue::U8(vec![b'a'; 70_000].into())));
        })
    };
    let refused = Source::from_bytes(&long(tags::PATIENT_ID, VR::LO)).map(|_| ());
    assert_eq!(refused, Err(SourceError::Damaged));
    // What is not wanted may be of any length.
    assert!(Source::from_bytes(&long(tags::IMAGE_COMMENTS, VR::LT)).is_ok());
}

#[test]
fn a_number_that_is_no_text_is_left_empty() {
    let bytes = file(LATIN, |object| {
        let broken = PrimitiveValue::U8(vec![0xFF, 0xFE].into());
        // The encoder takes bytes as they are in any kind of text but numbers.
        object.put(DataElement::new(tags::PATIENT_WEIGHT, VR::LO, broken));
    });
    let mut bytes = bytes;
    let header = bytes.windows(6).position(|w| w == b"\x10\x00\x30\x10LO").expect("an element");
    bytes[header + 4..header + 6].copy_from_slice(b"DS");
    let source = Source::from_bytes(&bytes).expect("a source");
    assert_eq!(text(&source.context, tags::PATIENT_WEIGHT), None);
}

#[test]
fn bytes_from_outside_never_panic() {
    let mut bytes = file(JAPANESE, |_| {});
    let pixels = bytes.len() - 40_000;
    for place in PREAMBLE..pixels {
        let whole = bytes[place];
        for value in [0, 0x7F, 0xFF] {
            bytes[place] = value;
            // Any answer will do.
            let _ = Source::from_bytes(&bytes);
        }
        bytes[place] = whole;
    }
}
