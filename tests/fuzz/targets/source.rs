//! Of any file that results refer to, they can be made, and are readable themselves.
#![no_main]

use device::dicom::results::{Device, Heat, Judged, Kind, make};
use device::dicom::source::Source;
use device::record::{BundleRef, CamRecord, Latency, ScanRecord, Verdict};
use image::RgbImage;
use libfuzzer_sys::fuzz_target;
use models::label::Class;
use models::preprocess::{Letterbox, SIDE};

fuzz_target!(|bytes: &[u8]| {
    let Ok(source) = Source::from_bytes(bytes) else { return };
    let objects = make(&source, &judged(&source), &device()).expect("results");
    for object in objects {
        assert_eq!(object.bytes.get(128..132), Some(&b"DICM"[..]));
        if object.kind == Kind::SecondaryCapture {
            let capture = Source::from_bytes(&object.bytes).expect("the capture is readable");
            assert_eq!(capture.study, source.study);
        }
    }
});

fn judged(source: &Source) -> Judged {
    let hot = |place: u32| if (100..104).contains(&(place % SIDE)) { 1.0 } else { 0.0 };
    let frame = Letterbox::fit(source.columns, source.rows);
    Judged {
        record: record(),
        overlay: RgbImage::new(16, 8),
        heat: Some(Heat { values: (0..SIDE * SIDE).map(hot).collect(), frame }),
        received: "2026-03-01T23:30:00.5+01:00".parse().expect("a time"),
    }
}

fn record() -> ScanRecord {
    ScanRecord {
        file: String::new(),
        verdict: Verdict::Abnormal,
        class: Class::Scoliosis,
        probabilities: [0.0625, 0.875, 0.0625].into(),
        logits: [0.0; 3],
        reasons: vec!["Because.".into()],
        cam: Some(CamRecord {
            layer: "layer4".into(),
            peak_xy: [0, 0],
            method: "grad-cam".into(),
            digest: "ef".into(),
        }),
        overlay: None,
        latency_ms: Latency { decode: 0.0, preprocess: 0.0, inference: 0.0, cam: 0.0 },
        bundle: BundleRef { name: "bundle".into(), digest: "0123456789abcdef".into() },
    }
}

fn device() -> Device {
    Device {
        manufacturer: "Maker".into(),
        model: "Board".into(),
        serial: "SN-1".into(),
        station: "A station".into(),
        software: "1.2.3".into(),
        ae_title: "BOARD".into(),
    }
}
