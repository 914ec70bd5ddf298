//! Files to make results from.

use std::io::Cursor;

use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;
use dicom_object::meta::FileMetaTableBuilder;
use image::{GrayImage, ImageFormat};

/// A character set and a name in it, of an even number of bytes.
pub type Named = (&'static str, &'static [u8]);
/// One byte a letter.
pub const LATIN: Named = ("ISO_IR 100", b"R\xf6nt^Gen");
/// UTF-8.
pub const UNICODE: Named = ("ISO_IR 192", "R\u{f6}nt^Ge\u{f1}".as_bytes());
/// ASCII that escapes to JIS X 0208 (PS3.5 annex H).
pub const JAPANESE: Named = ("\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B");

/// A DICOM image of 200 x 100 pixels, explicit VR little endian.
pub fn file(named: Named, change: impl FnOnce(&mut InMemDicomObject)) -> Vec<u8> {
    file_in(uids::EXPLICIT_VR_LITTLE_ENDIAN, named, change)
}

/// As [`file`], in any transfer syntax of plain pixels.
pub fn file_in(
    syntax: &str,
    (charset, name): Named,
    change: impl FnOnce(&mut InMemDicomObject),
) -> Vec<u8> {
    let mut object = InMemDicomObject::new_empty();
    for (tag, vr, value) in [
        (tags::SOP_CLASS_UID, VR::UI, uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE),
        (tags::STUDY_INSTANCE_UID, VR::UI, "1.2.3"),
        (tags::SERIES_INSTANCE_UID, VR::UI, "1.2.4"),
        (tags::SOP_INSTANCE_UID, VR::UI, "1.2.5"),
        (tags::MODALITY, VR::CS, "CR"),
        (tags::PATIENT_ID, VR::LO, "TEST-1"),
        (tags::ACCESSION_NUMBER, VR::SH, "A-7"),
        (tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
        (tags::PIXEL_SPACING, VR::DS, "0.2\\0.2"),
        (tags::LOSSY_IMAGE_COMPRESSION, VR::CS, "01"),
        (tags::LOSSY_IMAGE_COMPRESSION_RATIO, VR::DS, "8.5"),
        (tags::WINDOW_CENTER, VR::DS, "2048\\1024"),
        (tags::WINDOW_WIDTH, VR::DS, "4096\\2048"),
    ] {
        put(&mut object, tag, vr, PrimitiveValue::from(value));
    }
    let mut charset = charset.as_bytes().to_vec();
    if charset.len() % 2 == 1 {
        charset.push(b' ');
    }
    put(&mut object, tags::SPECIFIC_CHARACTER_SET, VR::CS, PrimitiveValue::U8(charset.into()));
    put(&mut object, tags::PATIENT_NAME, VR::PN, PrimitiveValue::U8(name.into()));
    for (tag, value) in [(tags::ROWS, 100u16), (tags::COLUMNS, 200), (tags::BITS_ALLOCATED, 16)] {
        put(&mut object, tag, VR::US, PrimitiveValue::from(value));
    }
    let mut request = InMemDicomObject::new_empty();
    put(&mut request, tags::REQUESTED_PROCEDURE_ID, VR::SH, PrimitiveValue::from("RP-7"));
    let requests = DataSetSequence::from(vec![request]);
    object.put(DataElement::new(tags::REQUEST_ATTRIBUTES_SEQUENCE, VR::SQ, requests));
    put(&mut object, tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(vec![7; 20_000].into()));
    change(&mut object);
    let meta = FileMetaTableBuilder::new().transfer_syntax(syntax);
    let mut bytes = Vec::new();
    object.with_meta(meta).expect("meta").write_all(&mut bytes).expect("encodes");
    bytes
}

/// A plain picture.
pub fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    GrayImage::new(width, height).write_to(&mut bytes, ImageFormat::Png).expect("encodes");
    bytes.into_inner()
}

fn put(object: &mut InMemDicomObject, tag: Tag, vr: VR, value: PrimitiveValue) {
    object.put(DataElement::new(tag, vr, value));
}
