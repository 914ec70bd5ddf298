//! Result objects of all kinds of sources and judgements, made without the service.

use device::dicom::results::{Device, Heat, Judged, make};
use device::dicom::source::Source;
use device::overlay::{overlay_from_cam, picture_from_scan};
use device::record::{BundleRef, CamRecord, Latency, ScanRecord, Verdict};
use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;
use dicom_object::meta::FileMetaTableBuilder;
use image::{DynamicImage, ImageFormat, RgbImage};
use models::label::Class;
use models::preprocess::{Letterbox, SIDE};
use models::radiograph::Radiograph;

use super::readers::complaints_about;

/// Explicit VR big endian: retired, and still met.
const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

/// Covers: RES-1
#[test]
#[ignore = "cargo xtask test --with dicom-peers"]
fn independent_readers_accept_all_result_objects() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut complaints = Vec::new();
    let mut made = 0;
    for (name, bytes, size) in sources() {
        let source = Source::from_bytes(&bytes).expect("a source");
        for (verdict, class, with_heat) in judgements() {
            let judged = judged(size, verdict, class, with_heat);
            let objects = make(&source, &judged, &device()).expect("objects");
            for object in &objects {
                let heat = if with_heat { "heat" } else { "plain" };
                let stem = format!("{name}-{}-{class}-{heat}", verdict.name());
                let file = folder.path().join(format!("{stem}-{:?}.dcm", object.kind));
                std::fs::write(&file, &object.bytes).expect("written");
                complaints.extend(complaints_about(&file, object.sop_class));
                made += 1;
            }
        }
    }
    println!("{made} objects read");
    assert!(made > 100, "only {made} objects");
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

fn judgements() -> Vec<(Verdict, Class, bool)> {
    vec![
        (Verdict::Normal, Class::Normal, true),
        (Verdict::Abnormal, Class::Scoliosis, true),
        (Verdict::Abnormal, Class::Spondylolisthesis, false),
        (Verdict::Abnormal, Class::Normal, true),
        (Verdict::Refer, Class::Scoliosis, true),
        (Verdict::Refer, Class::Normal, false),
    ]
}

fn device() -> Device {
    Device {
        manufacturer: "Spinesight".into(),
        model: "Board".into(),
        serial: "SN-0001".into(),
        station: "XRAY-1".into(),
        software: "0.1.0".into(),
        ae_title: "SPINESIGHT".into(),
    }
}

fn judged([width, height]: [u32; 2], verdict: Verdict, class: Class, with_heat: bool) -> Judged {
    let samples = (0..width * height).map(|i| (i % width * 60_000 / width) as u16).collect();
    let scan = Radiograph::new(width, height, samples).expect("a radiograph");
    let frame = Letterbox::fit(width, height);
    let heat = with_heat.then(|| Heat { values: two_spots(), frame });
    let overlay = match &heat {
        Some(heat) => overlay_from_cam(&scan, &heat.values, frame),
        None => DynamicImage::from(picture_from_scan(&scan)).into_rgb8(),
    };
    Judged {
        record: record(verdict, class, heat.is_some().then_some([width / 2, height / 3])),
        overlay,
        heat,
        received: "2026-03-01T12:34:56.789+01:00".parse().expect("a time"),
    }
}

fn two_spots() -> Vec<f32> {
    let spot =
        |i: u32, x: f32, y: f32| 1.0 - ((i % SIDE) as f32 - x).hypot((i / SIDE) as f32 - y) / 40.0;
    let heat = |i| spot(i, 112.0, 80.0).max(0.8 * spot(i, 100.0, 160.0)).max(0.0);
    (0..SIDE * SIDE).map(heat).collect()
}

fn record(verdict: Verdict, class: Class, peak: Option<[u32; 2]>) -> ScanRecord {
    let mut probabilities = [0.0625; 3];
    probabilities[class.index()] = 0.875;
    let unusable = verdict == Verdict::Refer && peak.is_none();
    ScanRecord {
        file: String::new(),
        verdict,
        class,
        probabilities: if unusable { [f32::NAN; 3] } else { probabilities }.into(),
        logits: [0.0; 3],
        reasons: vec![
            "Findings together have 93.8 %, at or above the 50.0 % that flags.".into(),
            "The picture is unlike those the model was trained on (distance 9.1, limit 4.0)."
                .into(),
        ],
        cam: peak.map(|peak_xy| CamRecord {
            layer: "layer4".into(),
            peak_xy,
            method: "grad-cam".into(),
            digest: "ab".repeat(32),
        }),
        overlay: None,
        latency_ms: Latency { decode: 1.0, preprocess: 1.0, inference: 30.0, cam: 1.0 },
        bundle: BundleRef { name: "resnet50-finetuned-int8".into(), digest: "cd".repeat(32) },
    }
}

/// Names, bytes and sizes of files to judge: bare and rich, of several kinds.
fn sources() -> Vec<(&'static str, Vec<u8>, [u32; 2])> {
    let small = [300, 420];
    let cr = uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE;
    let dx = uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION;
    let raw = uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PROCESSING;
    let sc = uids::SECONDARY_CAPTURE_IMAGE_STORAGE;
    let mut inverse = image(dx, "DX", small);
    rich(&mut inverse, "ISO_IR 192", "Rönt^Gen".as_bytes());
    text(&mut inverse, tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME1");
    let mut detector = image(raw, "DX", [2000, 1500]);
    text(&mut detector, tags::IMAGER_PIXEL_SPACING, VR::DS, "0.143\\0.143");
    let mut latin = image(cr, "CR", small);
    rich(&mut latin, "ISO_IR 100", b"R\xf6nt^Gen ");
    let mut japanese = image(cr, "CR", [1200, 2400]);
    let yamada = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B";
    rich(&mut japanese, "\\ISO 2022 IR 87", yamada);
    let mut colour = image(sc, "OT", small);
    text(&mut colour, tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "RGB");
    let several = uids::MULTI_FRAME_GRAYSCALE_WORD_SECONDARY_CAPTURE_IMAGE_STORAGE;
    let mut frames = image(several, "OT", small);
    text(&mut frames, tags::NUMBER_OF_FRAMES, VR::IS, "2");
    vec![
        ("cr-bare", encoded(image(cr, "CR", small), uids::EXPLICIT_VR_LITTLE_ENDIAN), small),
        ("cr-latin", encoded(latin, uids::IMPLICIT_VR_LITTLE_ENDIAN), small),
        ("cr-japanese", encoded(japanese, uids::EXPLICIT_VR_LITTLE_ENDIAN), [1200, 2400]),
        ("dx-inverse", encoded(inverse, uids::EXPLICIT_VR_LITTLE_ENDIAN), small),
        ("dx-raw", encoded(detector, BIG_ENDIAN), [2000, 1500]),
        ("sc-bare", encoded(image(sc, "OT", small), uids::EXPLICIT_VR_LITTLE_ENDIAN), small),
        ("sc-colour", encoded(colour, uids::EXPLICIT_VR_LITTLE_ENDIAN), small),
        ("sc-frames", encoded(frames, uids::EXPLICIT_VR_LITTLE_ENDIAN), small),
        ("png", picture([64, 901], ImageFormat::Png), [64, 901]),
        ("jpeg", picture([901, 301], ImageFormat::Jpeg), [901, 301]),
    ]
}

fn picture([width, height]: [u32; 2], format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    RgbImage::new(width, height).write_to(&mut bytes, format).expect("encodes");
    bytes.into_inner()
}

/// An image with no more than what results need.
fn image(class: &str, modality: &str, [columns, rows]: [u32; 2]) -> InMemDicomObject {
    let mut object = InMemDicomObject::new_empty();
    text(&mut object, tags::SOP_CLASS_UID, VR::UI, class);
    text(&mut object, tags::SOP_INSTANCE_UID, VR::UI, "1.2.276.0.7230010.3.1.4.1");
    text(&mut object, tags::STUDY_INSTANCE_UID, VR::UI, "1.2.276.0.7230010.3.1.2.1");
    text(&mut object, tags::SERIES_INSTANCE_UID, VR::UI, "1.2.276.0.7230010.3.1.3.1");
    text(&mut object, tags::MODALITY, VR::CS, modality);
    text(&mut object, tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2");
    for (tag, value) in [(tags::ROWS, rows), (tags::COLUMNS, columns), (tags::BITS_ALLOCATED, 16)] {
        object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value as u16)));
    }
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(vec![0; 4].into())));
    object
}

/// Adds all that a source may have and results take over. `name` is in the character set.
fn rich(object: &mut InMemDicomObject, charset: &str, name: &[u8]) {
    bytes(object, tags::SPECIFIC_CHARACTER_SET, VR::CS, charset.as_bytes());
    bytes(object, tags::PATIENT_NAME, VR::PN, name);
    bytes(object, tags::REFERRING_PHYSICIAN_NAME, VR::PN, name);
    for (tag, vr, value) in [
        (tags::PATIENT_ID, VR::LO, "TEST-1"),
        (tags::ISSUER_OF_PATIENT_ID, VR::LO, "Tests"),
        (tags::PATIENT_BIRTH_DATE, VR::DA, "20000101"),
        (tags::PATIENT_SEX, VR::CS, "O"),
        (tags::PATIENT_AGE, VR::AS, "026Y"),
        (tags::PATIENT_SIZE, VR::DS, "1.75"),
        (tags::PATIENT_WEIGHT, VR::DS, "70"),
        (tags::STUDY_DATE, VR::DA, "20260301"),
        (tags::STUDY_TIME, VR::TM, "113000"),
        (tags::TIMEZONE_OFFSET_FROM_UTC, VR::SH, "+0900"),
        (tags::STUDY_ID, VR::SH, "7"),
        (tags::ACCESSION_NUMBER, VR::SH, "A-7"),
        (tags::STUDY_DESCRIPTION, VR::LO, "Spine"),
        (tags::INSTANCE_NUMBER, VR::IS, "12"),
        (tags::BODY_PART_EXAMINED, VR::CS, "SPINE"),
        (tags::PATIENT_ORIENTATION, VR::CS, "L\\F"),
        (tags::VIEW_POSITION, VR::CS, "AP"),
        (tags::PIXEL_SPACING, VR::DS, "0.1430000001\\0.1430000001"),
        (tags::PIXEL_SPACING_CALIBRATION_TYPE, VR::CS, "GEOMETRY"),
        (tags::PIXEL_SPACING_CALIBRATION_DESCRIPTION, VR::LO, "Table"),
        (tags::LOSSY_IMAGE_COMPRESSION, VR::CS, "01"),
        (tags::LOSSY_IMAGE_COMPRESSION_RATIO, VR::DS, "8.5"),
        (tags::LOSSY_IMAGE_COMPRESSION_METHOD, VR::CS, "ISO_15444_1"),
        (tags::RESCALE_INTERCEPT, VR::DS, "0"),
        (tags::RESCALE_SLOPE, VR::DS, "1"),
        (tags::RESCALE_TYPE, VR::LO, "US"),
        (tags::WINDOW_CENTER, VR::DS, "2048\\1024"),
        (tags::WINDOW_WIDTH, VR::DS, "4096\\2048"),
        (tags::WINDOW_CENTER_WIDTH_EXPLANATION, VR::LO, "NORMAL\\HARD"),
    ] {
        text(object, tag, vr, value);
    }
    let procedure = || coded("168537006", "SCT", "Plain radiography");
    items(object, tags::PROCEDURE_CODE_SEQUENCE, vec![procedure()]);
    items(object, tags::ANATOMIC_REGION_SEQUENCE, vec![coded("421060004", "SCT", "Spine")]);
    items(object, tags::VIEW_CODE_SEQUENCE, vec![coded("399348003", "SCT", "antero-posterior")]);
    let mut study = InMemDicomObject::new_empty();
    text(&mut study, tags::REFERENCED_SOP_CLASS_UID, VR::UI, "1.2.840.10008.3.1.2.3.1");
    text(&mut study, tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, "1.2.276.0.7230010.3.1.5.1");
    items(object, tags::REFERENCED_STUDY_SEQUENCE, vec![study]);
    let mut request = InMemDicomObject::new_empty();
    text(&mut request, tags::REQUESTED_PROCEDURE_ID, VR::SH, "RP-7");
    bytes(&mut request, tags::REQUESTED_PROCEDURE_DESCRIPTION, VR::LO, name);
    text(&mut request, tags::SCHEDULED_PROCEDURE_STEP_ID, VR::SH, "SPS-7");
    items(&mut request, tags::REQUESTED_PROCEDURE_CODE_SEQUENCE, vec![procedure()]);
    items(object, tags::REQUEST_ATTRIBUTES_SEQUENCE, vec![request]);
}

fn coded(value: &str, scheme: &str, meaning: &str) -> InMemDicomObject {
    let mut item = InMemDicomObject::new_empty();
    text(&mut item, tags::CODE_VALUE, VR::SH, value);
    text(&mut item, tags::CODING_SCHEME_DESIGNATOR, VR::SH, scheme);
    text(&mut item, tags::CODE_MEANING, VR::LO, meaning);
    item
}

fn text(object: &mut InMemDicomObject, tag: Tag, vr: VR, value: &str) {
    object.put(DataElement::new(tag, vr, PrimitiveValue::from(value)));
}

/// Puts bytes that the encoder must not re-encode.
fn bytes(object: &mut InMemDicomObject, tag: Tag, vr: VR, value: &[u8]) {
    let mut value = value.to_vec();
    if value.len() % 2 == 1 {
        value.push(b' ');
    }
    object.put(DataElement::new(tag, vr, PrimitiveValue::U8(value.into())));
}

fn items(object: &mut InMemDicomObject, tag: Tag, items: Vec<InMemDicomObject>) {
    object.put(DataElement::new(tag, VR::SQ, DataSetSequence::from(items)));
}

fn encoded(object: InMemDicomObject, syntax: &str) -> Vec<u8> {
    let meta = FileMetaTableBuilder::new().transfer_syntax(syntax);
    let mut bytes = Vec::new();
    object.with_meta(meta).expect("meta").write_all(&mut bytes).expect("encodes");
    bytes
}
