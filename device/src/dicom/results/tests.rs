//! What result objects say, read back.

use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::{DefaultDicomObject, InMemDicomObject};
use image::{Rgb, RgbImage};
use models::label::Class;

use super::*;
use crate::dicom::source::testing::{JAPANESE, LATIN, UNICODE, file, png};
use crate::record::{BundleRef, CamRecord, Latency, Verdict};

fn device() -> Device {
    Device {
        manufacturer: "Maker".into(),
        model: "Board".into(),
        serial: "SN-1".into(),
        station: "A station of more than 16 characters".into(),
        software: "1.2.3".into(),
        ae_title: "BOARD".into(),
    }
}

fn judged(verdict: Verdict, class: Class) -> Judged {
    let mut probabilities = [0.0625; 3];
    probabilities[class.index()] = 0.875;
    let frame = Letterbox::fit(200, 100);
    let hot = |i: u32| if (100..120).contains(&(i % SIDE)) { 1.0 } else { 0.0 };
    Judged {
        record: ScanRecord {
            file: "unspoken.dcm".into(),
            verdict,
            class,
            probabilities: probabilities.into(),
            logits: [0.0; 3],
            reasons: vec!["Because.".into()],
            cam: Some(CamRecord {
                layer: "layer4".into(),
                peak_xy: [20, 30],
                method: "grad-cam".into(),
                digest: "ef".into(),
            }),
            overlay: None,
            latency_ms: Latency { decode: 0.0, preprocess: 0.0, inference: 0.0, cam: 0.0 },
            bundle: BundleRef { name: "bundle".into(), digest: "0123456789abcdef".into() },
        },
        overlay: RgbImage::from_pixel(100, 50, Rgb([1, 2, 3])),
        heat: Some(Heat { values: (0..SIDE * SIDE).map(hot).collect(), frame }),
        received: "2026-03-01T23:30:00.5+01:00".parse().expect("a time"),
    }
}

fn made(bytes: &[u8], judged: &Judged) -> Vec<Object> {
    let source = Source::from_bytes(bytes).expect("a source");
    make(&source, judged, &device()).expect("objects")
}

fn dicom() -> Vec<u8> {
    file(LATIN, |_| {})
}

fn read(object: &Object) -> DefaultDicomObject {
    dicom_object::from_reader(object.bytes.as_slice()).expect("readable")
}

fn text(object: &InMemDicomObject, tag: Tag) -> String {
    let value = object.element(tag).expect("present").to_str().expect("text").into_owned();
    value.trim_end_matches([' ', '\0']).to_string()
}

fn items(object: &InMemDicomObject, tag: Tag) -> &[InMemDicomObject] {
    object.element(tag).expect("present").items().expect("a sequence")
}

/// Every content item of a report as `concept = value`.
fn statements(object: &InMemDicomObject) -> Vec<String> {
    let mut found = Vec::new();
    for item in object.get(tags::CONTENT_SEQUENCE).and_then(|e| e.items()).unwrap_or_default() {
        let meaning =
            |tag| item.get(tag).map(|e| text(&e.items().expect("items")[0], tags::CODE_MEANING));
        let value = match text(item, tags::VALUE_TYPE).as_str() {
            "CODE" => meaning(tags::CONCEPT_CODE_SEQUENCE).expect("a code"),
            "TEXT" => text(item, tags::TEXT_VALUE),
            "NUM" => text(&items(item, tags::MEASURED_VALUE_SEQUENCE)[0], tags::NUMERIC_VALUE),
            "SCOORD" => text(item, tags::GRAPHIC_DATA),
            "IMAGE" => {
                let image = &items(item, tags::REFERENCED_SOP_SEQUENCE)[0];
                text(image, tags::REFERENCED_SOP_INSTANCE_UID)
            }
            _ => String::new(),
        };
        let name = meaning(tags::CONCEPT_NAME_CODE_SEQUENCE).unwrap_or_default();
        found.push(format!("{name} = {value}"));
        found.extend(statements(item));
    }
    found
}

fn says(statements: &[String], statement: &str) -> bool {
    statements.iter().any(|s| s == statement)
}

/// Covers: RES-4
#[test]
fn the_same_scan_gives_the_same_objects_bit_for_bit() {
    let judged = judged(Verdict::Abnormal, Class::Scoliosis);
    let first = made(&dicom(), &judged);
    assert_eq!(first, made(&dicom(), &judged));
    let kinds: Vec<Kind> = first.iter().map(|o| o.kind).collect();
    assert_eq!(kinds, [Kind::SecondaryCapture, Kind::Report, Kind::PresentationState]);
    for object in &first {
        let back = read(object);
        assert_eq!(text(&back, tags::SOP_INSTANCE_UID), object.sop_instance);
        assert_eq!(text(&back, tags::SOP_CLASS_UID), object.sop_class);
        assert!(uid::is_valid(&text(&back, tags::SERIES_INSTANCE_UID)));
    }
}

#[test]
fn another_bundle_source_or_board_gives_other_uids() {
    let base = judged(Verdict::Normal, Class::Normal);
    let mut other_bundle = base.clone();
    other_bundle.record.bundle.digest = "ff".into();
    let source = |bytes: &[u8]| Source::from_bytes(bytes).expect("a source");
    let other_source = file(LATIN, |o| {
        o.put(DataElement::new(tags::SOP_INSTANCE_UID, VR::UI, PrimitiveValue::from("1.2.9")));
    });
    let other_device = Device { serial: "SN-2".into(), ..device() };
    let mut uids: Vec<String> = [
        make(&source(&dicom()), &base, &device()),
        make(&source(&dicom()), &other_bundle, &device()),
        make(&source(&other_source), &base, &device()),
        make(&source(&dicom()), &base, &other_device),
    ]
    .into_iter()
    .flat_map(|made| made.expect("objects"))
    .map(|object| object.sop_instance)
    .collect();
    assert_eq!(uids.len(), 12);
    uids.sort();
    uids.dedup();
    assert_eq!(uids.len(), 12);
}

#[test]
fn patient_and_study_are_those_of_the_source_byte_for_byte() {
    for (charset, name) in [LATIN, UNICODE, JAPANESE] {
        let bytes = file((charset, name), |_| {});
        for object in made(&bytes, &judged(Verdict::Refer, Class::Normal)) {
            let mut stored = charset.as_bytes().to_vec();
            if stored.len() % 2 == 1 {
                stored.push(b' ');
            }
            let found = |wanted: &[u8]| object.bytes.windows(wanted.len()).any(|w| w == wanted);
            assert!(found(
                &[b"\x08\x00\x05\x00CS".as_slice(), &[stored.len() as u8, 0], &stored].concat()
            ));
            let header = [b"\x10\x00\x10\x00PN".as_slice(), &[name.len() as u8, 0], name].concat();
            assert!(found(&header), "{charset}");
            assert_eq!(text(&read(&object), tags::STUDY_INSTANCE_UID), "1.2.3");
        }
    }
}

/// Covers: RES-2
#[test]
fn every_object_refers_to_the_source() {
    let objects = made(&dicom(), &judged(Verdict::Abnormal, Class::Scoliosis));
    let capture = read(&objects[0]);
    let image = &items(&capture, tags::SOURCE_IMAGE_SEQUENCE)[0];
    assert_eq!(text(image, tags::REFERENCED_SOP_INSTANCE_UID), "1.2.5");
    let purpose = &items(image, tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE)[0];
    assert_eq!(text(purpose, tags::CODE_VALUE), "121322");
    let report = read(&objects[1]);
    let study = &items(&report, tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE)[0];
    let series = &items(study, tags::REFERENCED_SERIES_SEQUENCE)[0];
    assert_eq!(text(series, tags::SERIES_INSTANCE_UID), "1.2.4");
    let state = read(&objects[2]);
    let series = &items(&state, tags::REFERENCED_SERIES_SEQUENCE)[0];
    let image = &items(series, tags::REFERENCED_IMAGE_SEQUENCE)[0];
    assert_eq!(text(image, tags::REFERENCED_SOP_INSTANCE_UID), "1.2.5");
}

#[test]
fn the_capture_is_flagged_and_keeps_the_overlay() {
    let objects = made(&dicom(), &judged(Verdict::Abnormal, Class::Scoliosis));
    let capture = read(&objects[0]);
    assert_eq!(text(&capture, tags::BURNED_IN_ANNOTATION), "YES");
    assert_eq!(text(&capture, tags::IMAGE_TYPE), "DERIVED\\SECONDARY");
    assert_eq!(text(&capture, tags::LOSSY_IMAGE_COMPRESSION), "01");
    assert_eq!(text(&capture, tags::LOSSY_IMAGE_COMPRESSION_RATIO), "8.5");
    // The source has 200 columns of 0.2 mm, the overlay 100.
    assert_eq!(text(&capture, tags::PIXEL_SPACING), "0.4\\0.4");
    let side = |tag| capture.element(tag).expect("present").to_int::<u32>().expect("a number");
    let (columns, rows) = (side(tags::COLUMNS), side(tags::ROWS));
    let samples = capture.element(tags::PIXEL_DATA).expect("pixels").to_bytes().expect("bytes");
    let picture =
        RgbImage::from_raw(columns, rows, samples[..(columns * rows * 3) as usize].into());
    let picture = picture.expect("a picture");
    let overlay = picture.pixels().filter(|p| p.0 == [1, 2, 3]).count();
    assert_eq!(overlay, 100 * 50);
    assert!(rows > 50 && picture.rows().skip(50).flatten().any(|p| p.0 == [255, 164, 156]));
}

#[test]
fn the_report_states_finding_numbers_reasons_and_model() {
    let objects = made(&dicom(), &judged(Verdict::Abnormal, Class::Spondylolisthesis));
    let report = read(&objects[1]);
    assert_eq!(text(&report, tags::VERIFICATION_FLAG), "UNVERIFIED");
    assert_eq!(text(&report, tags::COMPLETION_FLAG), "COMPLETE");
    let said = statements(&report);
    for statement in [
        "Finding = Spondylolisthesis",
        "Probability of spondylolisthesis = 0.875",
        "Verdict = Abnormal: flagged for prompt reading",
        "Reason = Because.",
        "Algorithm Name = bundle",
        "Algorithm Parameters = bundle manifest SHA-256 0123456789abcdef",
        "Image Region = 20.5\\30.5",
        "Device Observer Serial Number = SN-1",
        "Notice = Decision support, not a diagnosis.",
        " = 1.2.5",
    ] {
        assert!(says(&said, statement), "{statement} not in {said:#?}");
    }
    let request = &items(&report, tags::REFERENCED_REQUEST_SEQUENCE)[0];
    assert_eq!(text(request, tags::REQUESTED_PROCEDURE_ID), "RP-7");
    assert_eq!(text(request, tags::ACCESSION_NUMBER), "A-7");
}

#[test]
fn a_referred_scan_has_no_finding() {
    let mut judged = judged(Verdict::Refer, Class::Scoliosis);
    judged.record.probabilities = [f32::NAN; 3].into();
    let report = read(&made(&dicom(), &judged)[1]);
    assert_eq!(text(&report, tags::COMPLETION_FLAG), "PARTIAL");
    let said = statements(&report);
    assert!(!said.iter().any(|s| s.starts_with("Finding =")), "{said:#?}");
    assert!(says(&said, "Verdict = Referred: a human must decide"));
    assert!(!said.iter().any(|s| s.starts_with("Probability")), "{said:#?}");
}

#[test]
fn the_contour_lies_on_the_source() {
    let objects = made(&dicom(), &judged(Verdict::Abnormal, Class::Scoliosis));
    let state = read(&objects[2]);
    let annotation = &items(&state, tags::GRAPHIC_ANNOTATION_SEQUENCE)[0];
    let graphics = items(annotation, tags::GRAPHIC_OBJECT_SEQUENCE);
    assert_eq!(graphics.len(), 1);
    let data = graphics[0].element(tags::GRAPHIC_DATA).expect("present");
    let points = data.to_multi_float32().expect("numbers");
    let columns: Vec<f32> = points.iter().copied().step_by(2).collect();
    // Columns 100 to 119 of 224 are hot; the source has 200.
    let bounds = columns.iter().fold((f32::MAX, 0f32), |b, &x| (b.0.min(x), b.1.max(x)));
    let expected = (100.0 * 200.0 / 224.0, 120.0 * 200.0 / 224.0);
    assert!((bounds.0 - expected.0).abs() < 0.01 && (bounds.1 - expected.1).abs() < 0.01);
    let window = &items(&state, tags::SOFTCOPY_VOILUT_SEQUENCE)[0];
    assert_eq!(text(window, tags::WINDOW_CENTER), "2048");
    assert_eq!(text(&state, tags::PRESENTATION_LUT_SHAPE), "IDENTITY");
}

#[test]
fn times_follow_the_zone_of_the_source() {
    let judged = judged(Verdict::Normal, Class::Normal);
    let source = |zone: &'static str| {
        file(LATIN, move |o| {
            let zone = PrimitiveValue::from(zone);
            o.put(DataElement::new(tags::TIMEZONE_OFFSET_FROM_UTC, VR::SH, zone));
        })
    };
    for (bytes, date, time, zone) in [
        (dicom(), "20260301", "233000.500", "+0100"),
        (source("+0530"), "20260302", "040000.500", "+0530"),
        (source("noon"), "20260301", "233000.500", "+0100"),
    ] {
        let report = read(&made(&bytes, &judged)[1]);
        assert_eq!(text(&report, tags::CONTENT_DATE), date);
        assert_eq!(text(&report, tags::CONTENT_TIME), time);
        assert_eq!(text(&report, tags::TIMEZONE_OFFSET_FROM_UTC), zone);
    }
}

#[test]
fn a_picture_has_a_report_about_its_capture_and_no_patient() {
    let objects = made(&png(200, 100), &judged(Verdict::Abnormal, Class::Scoliosis));
    let kinds: Vec<Kind> = objects.iter().map(|o| o.kind).collect();
    assert_eq!(kinds, [Kind::SecondaryCapture, Kind::Report]);
    let report = read(&objects[1]);
    assert_eq!(text(&report, tags::PATIENT_NAME), "");
    let said = statements(&report);
    assert!(says(&said, &format!(" = {}", objects[0].sop_instance)), "{said:#?}");
    // The capture has half the picture's size.
    assert!(says(&said, "Image Region = 10.25\\15.25"), "{said:#?}");
}

#[test]
fn objects_do_without_a_map_and_refuse_impossible_sizes() {
    let mut judged = judged(Verdict::Normal, Class::Normal);
    judged.heat = None;
    judged.record.cam = None;
    assert_eq!(made(&dicom(), &judged).len(), 2);
    let source = Source::from_bytes(&dicom()).expect("a source");
    judged.overlay = RgbImage::new(0, 0);
    let refused = make(&source, &judged, &device());
    assert!(matches!(refused, Err(ResultError::OverlaySize(0, 0))));
    judged.overlay = RgbImage::new(10, 65_535);
    let refused = make(&source, &judged, &device());
    assert!(matches!(refused, Err(ResultError::OverlaySize(10, 65_535))));
    judged.overlay = RgbImage::new(10, 10);
    judged.heat = Some(Heat { values: vec![0.0; 9], frame: Letterbox::fit(1, 1) });
    let refused = make(&source, &judged, &device());
    assert!(matches!(refused, Err(ResultError::HeatSize(9))));
}

#[test]
fn words_from_outside_become_ascii_and_short() {
    let mut judged = judged(Verdict::Refer, Class::Normal);
    judged.record.reasons = vec!["\u{6f22}\u{5b57}\\\n".repeat(5_000); 100];
    judged.record.bundle.name = "\u{e4}".repeat(10_000);
    for object in made(&dicom(), &judged) {
        assert!(object.bytes.len() < 1_000_000);
        let back = read(&object);
        assert_eq!(text(&back, tags::STATION_NAME), "A station of mor");
    }
}

#[test]
fn nothing_names_the_file() {
    for object in made(&dicom(), &judged(Verdict::Abnormal, Class::Scoliosis)) {
        assert!(!object.bytes.windows(8).any(|w| w == b"unspoken"));
    }
}

#[test]
fn a_sequence_without_items_is_not_repeated() {
    let bytes = file(LATIN, |o| {
        let nothing = DataSetSequence::<InMemDicomObject>::from(Vec::new());
        o.put(DataElement::new(tags::PROCEDURE_CODE_SEQUENCE, VR::SQ, nothing));
    });
    let report = read(&made(&bytes, &judged(Verdict::Normal, Class::Normal))[1]);
    assert!(report.get(tags::PROCEDURE_CODE_SEQUENCE).is_none());
    assert!(says(&statements(&report), "Procedure reported = Plain radiography"));
}
