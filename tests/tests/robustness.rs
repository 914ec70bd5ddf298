//! What comes from outside, pictures and model bundles, is used as it is or refused for a stated
//! reason.

use std::fs;
use std::path::Path;

use device::decode::{DecodeError, radiograph_from_bytes};
use device::record::Verdict;
use device::scanner::{Scanner, ScannerError};
use image::{GrayImage, ImageBuffer, ImageFormat, Luma};
use models::bundle::BundleError;
use models::radiograph::{Radiograph, RadiographError};
use tests::{dicom_file, encoded, small_phantom, zoo};

/// Tag and VR of elements as an explicit VR little endian file holds them.
const ROWS: &[u8] = b"\x28\x00\x10\x00US";
const COLUMNS: &[u8] = b"\x28\x00\x11\x00US";
const BITS_STORED: &[u8] = b"\x28\x00\x01\x01US";
const PIXEL_DATA: &[u8] = b"\xE0\x7F\x10\x00OW";
const SYNTAX: &[u8] = b"\x02\x00\x10\x00UI";
/// The offset table, which is empty, and the fragment with its length to come.
const FRAGMENT: &[u8] = b"\xFE\xFF\x00\xE0\0\0\0\0\xFE\xFF\x00\xE0";
/// A private sequence behind everything else.
const SEQUENCE: &[u8] = b"\xF1\x7F\x10\x00SQ";
/// Where the length of the meta group stands, its lowest byte first.
const META_LENGTH: usize = 140;
/// More than any file of these tests has.
const FALSE_LENGTH: u32 = 0x7FFF_FFF0;
/// Behind tag and VR of a short element: two bytes of length, then the value.
const SHORT_HEADER: usize = 8;

fn flat(width: u32, height: u32) -> GrayImage {
    ImageBuffer::from_pixel(width, height, Luma([90]))
}

fn position(bytes: &[u8], element: &[u8]) -> usize {
    let found = bytes.windows(element.len()).position(|window| window == element);
    found.expect("the object has the element")
}

/// The file with its pixels as one fragment, in the syntax that encapsulates them uncompressed.
fn encapsulated(whole: &[u8]) -> Vec<u8> {
    let (uid, pixels) = (position(whole, SYNTAX) + SHORT_HEADER, position(whole, PIXEL_DATA));
    let plain = b"1.2.840.10008.1.2.1\0";
    let mut bytes = whole[..uid - 2].to_vec();
    bytes.extend(b"\x16\x001.2.840.10008.1.2.1.98");
    bytes.extend(&whole[uid + plain.len()..pixels]);
    // The meta group is two bytes longer.
    bytes[META_LENGTH] += 2;
    let samples = &whole[pixels + 12..];
    bytes.extend(b"\xE0\x7F\x10\x00OB\0\0\xFF\xFF\xFF\xFF");
    bytes.extend(FRAGMENT);
    bytes.extend((samples.len() as u32).to_le_bytes());
    bytes.extend(samples);
    bytes.extend(b"\xFE\xFF\xDD\xE0\0\0\0\0");
    bytes
}

/// Sequences of one item inside each other, of undefined length.
fn nested(depth: usize) -> Vec<u8> {
    let open = [SEQUENCE, b"\0\0\xFF\xFF\xFF\xFF\xFE\xFF\x00\xE0\xFF\xFF\xFF\xFF"].concat();
    let close = b"\xFE\xFF\x0D\xE0\0\0\0\0\xFE\xFF\xDD\xE0\0\0\0\0";
    [open.repeat(depth), close.repeat(depth)].concat()
}

/// The file with another value in an element of one unsigned short.
fn with_short(mut bytes: Vec<u8>, element: &[u8], value: u16) -> Vec<u8> {
    let at = position(&bytes, element) + SHORT_HEADER;
    bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    bytes
}

fn refusal(bytes: &[u8]) -> DecodeError {
    radiograph_from_bytes(bytes).expect_err("must be refused")
}

fn picture_refusal(bytes: &[u8]) -> RadiographError {
    match refusal(bytes) {
        DecodeError::Picture(error) => error,
        other => panic!("refused for another reason: {other}"),
    }
}

#[test]
fn a_phantom_decodes_to_its_samples() {
    let scan = small_phantom().image;
    let picture: ImageBuffer<Luma<u16>, _> =
        ImageBuffer::from_raw(scan.width(), scan.height(), scan.samples().to_vec())
            .expect("the samples fill the picture");
    let png = encoded(picture, ImageFormat::Png);
    assert!(radiograph_from_bytes(&png).expect("PNG") == scan);
    // Applying the window, an identity here, may cost one of 65,536 steps.
    let windowed = radiograph_from_bytes(&dicom_file()).expect("DICOM");
    assert_eq!((windowed.width(), windowed.height()), (scan.width(), scan.height()));
    let mut pairs = windowed.samples().iter().zip(scan.samples());
    assert!(pairs.all(|(a, b)| a.abs_diff(*b) <= 1));
}

#[test]
fn unusable_pictures_have_a_typed_reason() {
    let jpeg = encoded(flat(640, 480), ImageFormat::Jpeg);
    let cut = &jpeg[..jpeg.len() / 2];
    let dot = encoded(flat(1, 1), ImageFormat::Png);
    let wide = encoded(flat(20_000, 60), ImageFormat::Png);
    assert!(matches!(picture_refusal(&[]), RadiographError::Empty));
    assert!(matches!(picture_refusal(b"a letter\n"), RadiographError::UnknownFormat));
    assert!(matches!(picture_refusal(cut), RadiographError::Truncated));
    assert!(matches!(picture_refusal(&dot), RadiographError::TooSmall { width: 1, height: 1 }));
    assert!(matches!(
        picture_refusal(&wide),
        RadiographError::TooLarge { width: 20_000, height: 60 }
    ));
}

#[test]
fn unusable_dicom_objects_have_a_typed_reason() {
    let whole = dicom_file();
    let pixels = position(&whole, PIXEL_DATA);
    let rows = position(&whole, ROWS);
    let mut without_rows = whole.clone();
    without_rows.drain(rows..rows + SHORT_HEADER + 2);
    let mut preamble_only = vec![0; 128];
    preamble_only.extend(b"DICM");

    assert!(matches!(refusal(&preamble_only), DecodeError::Object(_)));
    assert!(matches!(refusal(&whole[..pixels]), DecodeError::NoPixels));
    assert!(matches!(refusal(&whole[..whole.len() - 500]), DecodeError::Length { .. }));
    assert!(matches!(refusal(&without_rows), DecodeError::NoSize));
    assert!(matches!(
        picture_refusal(&with_short(whole.clone(), COLUMNS, 20_000)),
        RadiographError::TooLarge { width: 20_000, height: 144 }
    ));
    // More rows than there are pixels for.
    assert!(matches!(refusal(&with_short(whole, ROWS, 200)), DecodeError::Pixels(_)));
}

#[test]
fn a_false_length_is_refused_wherever_it_stands() {
    let whole = dicom_file();
    let false_length = |mut bytes: Vec<u8>, element: &[u8], behind: usize| {
        let at = position(&bytes, element) + behind;
        bytes[at..at + 4].copy_from_slice(&FALSE_LENGTH.to_le_bytes());
        refusal(&bytes)
    };
    let is_named = |refusal: DecodeError| {
        assert!(matches!(refusal, DecodeError::Length { declared: FALSE_LENGTH, .. }), "{refusal}");
    };
    is_named(false_length(whole.clone(), PIXEL_DATA, 8));
    is_named(false_length(encapsulated(&whole), FRAGMENT, FRAGMENT.len()));
    is_named(false_length([&whole[..], &nested(3)].concat(), SEQUENCE, 8));
    // A syntax name as a text of unlimited length, in the group before the data set.
    let mut unlimited = whole;
    let at = position(&unlimited, SYNTAX);
    unlimited[at + 4..at + 6].copy_from_slice(b"UT");
    unlimited[at + 8..at + 12].copy_from_slice(&FALSE_LENGTH.to_le_bytes());
    is_named(refusal(&unlimited));
}

#[test]
fn sequences_and_fragments_are_read_within_reason() {
    let whole = dicom_file();
    let plain = radiograph_from_bytes(&whole).expect("decodes");
    assert!(radiograph_from_bytes(&encapsulated(&whole)).expect("fragments") == plain);
    assert!(radiograph_from_bytes(&[&whole[..], &nested(3)].concat()).expect("nested") == plain);
    let bottomless = [&whole[..], &nested(100_000)].concat();
    assert!(matches!(refusal(&bottomless), DecodeError::Nested));
}

#[test]
fn a_deflated_file_is_read_like_a_plain_one() {
    let whole = dicom_file();
    let mut object = dicom_object::from_reader(&whole[..]).expect("reads");
    object.update_meta(|meta| meta.transfer_syntax = "1.2.840.10008.1.2.1.99".into());
    let mut deflated = Vec::new();
    object.write_all(&mut deflated).expect("writes");
    assert!(!deflated.windows(PIXEL_DATA.len()).any(|window| window == PIXEL_DATA));
    let plain = radiograph_from_bytes(&whole).expect("decodes");
    assert!(radiograph_from_bytes(&deflated).expect("inflates") == plain);
}

#[test]
fn no_description_of_dicom_pixels_makes_the_decoder_panic() {
    // Samples per pixel, rows, columns, bits allocated, bits stored, high bit, representation.
    for element in [0x0002u16, 0x0010, 0x0011, 0x0100, 0x0101, 0x0102, 0x0103] {
        let [low, high] = element.to_le_bytes();
        let name = [0x28, 0x00, low, high, b'U', b'S'];
        for value in [0, 1, 8, 17, 32, 239, u16::MAX] {
            let described = with_short(dicom_file(), &name, value);
            if let Ok(scan) = radiograph_from_bytes(&described) {
                let pixels = u64::from(scan.width()) * u64::from(scan.height());
                assert_eq!(scan.samples().len() as u64, pixels, "{name:02x?} = {value}");
            }
        }
    }
}

#[test]
fn dicom_samples_of_unusable_depth_are_refused() {
    for depth in [0, 17, 32, 239] {
        let described = with_short(dicom_file(), BITS_STORED, depth);
        assert!(matches!(refusal(&described), DecodeError::Pixels(_)), "{depth} bits");
    }
}

#[test]
fn every_zoo_bundle_reproduces_its_golden_case() {
    let bundles = zoo();
    assert!(!bundles.is_empty(), "no model bundle in models/zoo");
    for dir in bundles {
        let scanner = Scanner::load(&dir).expect("the bundle loads");
        let name = &scanner.bundle().card.name;
        assert!(dir.ends_with(name), "{} calls itself {name}", dir.display());
        scanner.self_test().unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn pictures_without_content_are_referred() {
    let scanner = Scanner::load(&zoo()[0]).expect("the bundle loads");
    for luminance in [0, 30_000, u16::MAX] {
        let blank = Radiograph::new(300, 400, vec![luminance; 300 * 400]).expect("a picture");
        let judgement = scanner.scan(&blank).expect("a judgement");
        assert_eq!(judgement.verdict, Verdict::Refer, "luminance {luminance}");
        assert!(!judgement.reasons.is_empty(), "luminance {luminance}");
    }
}

#[test]
fn a_flipped_byte_in_any_file_of_a_bundle_is_refused_and_named() {
    let copy = tempfile::tempdir().expect("a temporary folder");
    let names = copy_tree(&zoo()[0], copy.path(), "");
    assert!(names.len() >= 6, "card, checksum, network, head and golden case: {names:?}");
    for name in &names {
        let path = copy.path().join(name);
        let whole = fs::read(&path).expect("the file is readable");
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        fs::write(&path, &flipped).expect("the file is writable");
        match Scanner::load(copy.path()) {
            Err(ScannerError::Bundle(BundleError::Damaged { file })) => {
                assert!(file.contains(name), "{name} is damaged, {file} is blamed");
            }
            other => panic!("{name} is damaged: {:?}", other.map(|_| "loads")),
        }
        fs::write(&path, &whole).expect("the file is writable");
    }
    assert!(Scanner::load(copy.path()).is_ok(), "undamaged, the copy loads");
}

/// Copies a folder; returns its files relative to it, with `/`.
fn copy_tree(from: &Path, to: &Path, prefix: &str) -> Vec<String> {
    fs::create_dir_all(to).expect("the folder is made");
    let mut names = Vec::new();
    for entry in fs::read_dir(from).expect("the folder is readable") {
        let entry = entry.expect("an entry");
        let leaf = entry.file_name().into_string().expect("a plain name");
        let (source, target) = (entry.path(), to.join(&leaf));
        if source.is_dir() {
            names.extend(copy_tree(&source, &target, &format!("{prefix}{leaf}/")));
        } else {
            fs::copy(&source, &target).expect("the file is copied");
            names.push(format!("{prefix}{leaf}"));
        }
    }
    names
}
