//! Pictures that are larger than they look, or not what they say.

use std::fs;

use device::event::ScanId;
use dicom_core::value::PixelFragmentSequence;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::meta::FileMetaTableBuilder;
use dicom_object::{DefaultDicomObject, InMemDicomObject};
use image::{GrayImage, ImageBuffer, ImageFormat, Luma, RgbImage, Rgba};
use tests::board::{Board, Plan, eventually};
use tests::{dicom_file, encoded};

use super::witness::{endure, peak_memory};

/// Sides of the largest square pictures that are judged, multiples of 32: grey, in colours of 8
/// bits, in colours of 16 bits.
const SIDE: u16 = 6_912;
const COLOUR_SIDE: u16 = 5_632;
const DEEP_SIDE: u16 = 3_968;
/// Bytes of pixels in the largest object that is taken, of 100 MB.
const LARGEST: usize = 99_000_000;
/// Pixels in a run: longer ones look suspicious to decoders.
const RUN: usize = 32;
/// Most runs in a plane: those of the largest picture that is judged, and the object stays small
/// enough to be taken where its picture is larger still.
const MOST_RUNS: usize = 1 << 21;
/// What becomes of a scan.
const JUDGED: &str = "judged";
const UNJUDGED: &str = "unjudged";

/// Covers: RCV-6, JDG-1, JDG-4
#[test]
#[ignore = "cargo xtask test --with hostile"]
fn small_files_of_large_pictures_are_judged_or_told_as_unjudged() {
    endure("decompression bombs", &Plan::default(), |board| {
        // Some texture: decoders take a file that is too small for its picture for an attack.
        let texture = |x, y| Luma([((x * 7 + y * 13) % 64) as u8]);
        let grey = GrayImage::from_fn(SIDE.into(), SIDE.into(), texture);
        let grey = encoded(grey, ImageFormat::Jpeg);
        let jpeg = |side, bytes| compressed([side, 1, 8], uids::JPEG_BASELINE8_BIT, bytes);
        try_object(board, "JPEG, 48 million pixels", jpeg(SIDE, grey.clone()), JUDGED);
        try_object(board, "JPEG, said to be small", jpeg(100, grey.clone()), UNJUDGED);
        try_object(board, "JPEG, said to be huge by itself", jpeg(100, huge(grey)), UNJUDGED);
        for (format, fate) in [
            ([SIDE, 1, 8], JUDGED),
            ([SIDE, 1, 16], JUDGED),
            ([COLOUR_SIDE, 3, 8], JUDGED),
            ([DEEP_SIDE, 3, 16], JUDGED),
            ([SIDE, 3, 8], UNJUDGED),
            ([SIDE, 3, 16], UNJUDGED),
            ([SIDE, u16::MAX, 16], UNJUDGED),
            ([SIDE, 1, u16::MAX], UNJUDGED),
            ([u16::MAX, 1, 8], UNJUDGED),
        ] {
            let what = format!("RLE, {}", words(format));
            let object = compressed(format, uids::RLE_LOSSLESS, run_length(format));
            try_object(board, &what, object, fate);
            let what = format!("without its data, {}", words(format));
            try_object(board, &what, plain(format, 16), UNJUDGED);
        }
    });
}

/// Covers: RCV-6, JDG-1
#[test]
#[ignore = "cargo xtask test --with hostile"]
fn the_largest_objects_that_are_taken_are_judged() {
    endure("largest objects", &Plan::default(), |board| {
        let pixels = |side: u16| usize::from(side) * usize::from(side);
        for (format, bytes) in [
            ([SIDE, 1, 16], 2 * pixels(SIDE)),
            ([COLOUR_SIDE, 3, 8], 3 * pixels(COLOUR_SIDE)),
            ([DEEP_SIDE, 3, 16], 6 * pixels(DEEP_SIDE)),
            ([SIDE, 1, 16], LARGEST),
        ] {
            let what = format!("{bytes} bytes of pixels, {}", words(format));
            try_object(board, &what, plain(format, bytes), JUDGED);
        }
    });
}

/// Covers: RCV-9, JDG-1, JDG-4
#[test]
#[ignore = "cargo xtask test --with hostile"]
fn small_picture_files_of_large_pictures_are_judged_or_told_as_unjudged() {
    let inbox = tempfile::tempdir().expect("a folder");
    let config = format!("[folder]\ninbox = {:?}\ninterval = \"100ms\"\n", inbox.path());
    endure("picture bombs in the inbox", &Plan::with(config), |board| {
        let side = u32::from(SIDE);
        let (grey, colour) = (GrayImage::new(side, side), RgbImage::new(side, side));
        let deep = ImageBuffer::<Rgba<u16>, _>::new(side, side);
        let jpeg = encoded(colour.clone(), ImageFormat::Jpeg);
        for (name, bytes, fate) in [
            ("grey.png", encoded(grey, ImageFormat::Png), JUDGED),
            ("colour.png", encoded(colour, ImageFormat::Png), JUDGED),
            ("deep.png", encoded(deep, ImageFormat::Png), UNJUDGED),
            ("colour.jpg", jpeg.clone(), JUDGED),
            ("huge.jpg", huge(jpeg), UNJUDGED),
        ] {
            let path = inbox.path().join(name);
            fs::write(path.with_extension("part"), &bytes).expect("writes");
            fs::rename(path.with_extension("part"), &path).expect("is finished");
            tell(board, name, bytes.len(), ScanId::of(&bytes), fate);
        }
    });
}

/// Sends an object and waits until it is decided.
fn try_object(board: &Board, what: &str, mut object: DefaultDicomObject, fate: &str) {
    let instance = format!("2.25.671.{}", ScanId::of(what.as_bytes()).number());
    object.put_str(tags::SOP_INSTANCE_UID, VR::UI, instance.as_str());
    object.update_meta(|meta| meta.media_storage_sop_instance_uid.clone_from(&instance));
    let mut bytes = Vec::new();
    object.write_all(&mut bytes).expect("encodes");
    let length = bytes.len();
    board.send(&[bytes]).expect("is taken");
    tell(board, what, length, ScanId::of(instance.as_bytes()), fate);
}

/// Waits until a scan is decided as it should be, and prints with what memory.
fn tell(board: &Board, what: &str, bytes: usize, scan: ScanId, fate: &str) {
    let scan = scan.to_string();
    let decided = eventually(what, || {
        let text = board.audit_text();
        let mut lines = text.lines().filter(|line| line.contains(&scan));
        lines.find_map(|line| [UNJUDGED, JUDGED].into_iter().find(|word| line.contains(word)))
    });
    let peak = peak_memory(board) / 1024;
    println!("  {what}: {bytes} bytes, {decided}, peak memory is now {peak} MiB");
    assert_eq!(decided, fate, "{what}");
}

/// Side in pixels, samples a pixel, bits a sample.
type Format = [u16; 3];

fn words([side, samples, bits]: Format) -> String {
    format!("{side} x {side} pixels of {samples} x {bits} bits")
}

/// A scan that says it has pixels of this format, without any.
fn empty([side, samples, bits]: Format) -> InMemDicomObject {
    let mut object = dicom_object::from_reader(&dicom_file()[..]).expect("reads").into_inner();
    let mut short = |tag: Tag, value: u16| {
        object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
    };
    short(tags::ROWS, side);
    short(tags::COLUMNS, side);
    short(tags::SAMPLES_PER_PIXEL, samples);
    short(tags::BITS_ALLOCATED, bits);
    short(tags::BITS_STORED, bits.min(16));
    short(tags::HIGH_BIT, bits.min(16) - 1);
    if samples > 1 {
        short(tags::PLANAR_CONFIGURATION, 0);
        object.put_str(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "RGB");
    }
    object
}

/// A scan with so many bytes of pixels as they are.
fn plain(format: Format, bytes: usize) -> DefaultDicomObject {
    let mut object = empty(format);
    let pixels = PrimitiveValue::U8(vec![0; bytes].into());
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OW, pixels));
    whole(object, uids::EXPLICIT_VR_LITTLE_ENDIAN)
}

/// A scan with compressed pixels in one fragment.
fn compressed(format: Format, syntax: &str, mut bytes: Vec<u8>) -> DefaultDicomObject {
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    let mut object = empty(format);
    let fragments = PixelFragmentSequence::new(vec![], vec![bytes]);
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, fragments));
    whole(object, syntax)
}

fn whole(object: InMemDicomObject, syntax: &str) -> DefaultDicomObject {
    let meta = FileMetaTableBuilder::new().transfer_syntax(syntax);
    object.with_meta(meta).expect("a file")
}

/// Black pixels run-length encoded (PS3.5 annex G), at most 15 planes.
fn run_length([side, samples, bits]: Format) -> Vec<u8> {
    let planes = (u32::from(samples) * u32::from(bits / 8)).min(15);
    let runs = (usize::from(side) * usize::from(side)).div_ceil(RUN).min(MOST_RUNS);
    let plane = [(257 - RUN) as u8, 0].repeat(runs);
    let mut bytes = planes.to_le_bytes().to_vec();
    for place in 0..15 {
        let offset = if place < planes { 64 + place * plane.len() as u32 } else { 0 };
        bytes.extend(offset.to_le_bytes());
    }
    bytes.extend(plane.repeat(planes as usize));
    bytes
}

/// A JPEG picture whose own head says that it is as large as one can be.
fn huge(mut jpeg: Vec<u8>) -> Vec<u8> {
    let frame = jpeg.windows(2).position(|mark| mark == [0xFF, 0xC0]).expect("a frame");
    // Behind the marker: its length, the bits a sample, rows and columns.
    jpeg[frame + 5..frame + 9].fill(0xFF);
    jpeg
}
