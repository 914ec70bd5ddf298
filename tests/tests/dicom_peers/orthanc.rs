//! Orthanc as the archive: it gets results by C-STORE and by STOW-RS, gives them back over REST,
//! and promises to keep them.

use std::fs;
use std::time::Duration;

use dicom_core::Tag;
use dicom_dictionary_std::{tags, uids};
use serde_json::Value;
use tests::board::{Board, Plan, eventually};
use tests::orthanc::{ORTHANC, Orthanc};
use tests::scans;

use super::readers::complaints_about;

/// Longer than the service lets pass between two looks at what may be removed.
const SEVERAL_ROUNDS: Duration = Duration::from_secs(12);

/// Covers: RES-1, RES-2
#[test]
#[ignore = "cargo xtask test --with dicom-peers"]
fn results_stored_in_orthanc_refer_to_their_scan() {
    let orthanc = Orthanc::start();
    let (board, _folder) = Board::new(&Plan::with(orthanc.dicom_section("")));
    receive_and_check(&board, &orthanc);
}

/// Covers: RES-1, RES-2
#[test]
#[ignore = "cargo xtask test --with dicom-peers"]
fn results_sent_to_orthanc_over_the_web_refer_to_their_scan() {
    let orthanc = Orthanc::start();
    let (board, _folder) = Board::new(&Plan::with(orthanc.stow_section()));
    receive_and_check(&board, &orthanc);
}

/// Covers: SPL-4
#[test]
#[ignore = "cargo xtask test --with dicom-peers"]
fn a_scan_stays_until_orthanc_has_promised_to_keep_its_results() {
    let orthanc = Orthanc::start();
    let plan = Plan {
        callers: vec![ORTHANC.into()],
        storage: "keep_free_mb = 1\nretention = \"1s\"".into(),
        config: format!(
            "[retry]\nfirst = \"100ms\"\nmost = \"1s\"\nattempts = 10000\n{}",
            orthanc.dicom_section("commitment = true")
        ),
        ..Plan::default()
    };
    let (board, _folder) = Board::new(&plan);
    orthanc.introduce(&board, false);
    board.send(&scans(1)).expect("takes the scan");
    wait_for(&board, "delivered");
    std::thread::sleep(SEVERAL_ROUNDS);
    let text = board.audit_text();
    assert!(!text.contains("\"committed\"") && !text.contains("\"expired\""), "{text}");
    assert_eq!(scans_kept(&board), 1, "not promised, so kept");
    orthanc.introduce(&board, true);
    wait_for(&board, "committed");
    wait_for(&board, "expired");
    eventually("the scan is removed", || (scans_kept(&board) == 0).then_some(()));
    assert!(orthanc.log().contains("torage commitment"), "Orthanc knows of it");
}

fn wait_for(board: &Board, event: &str) {
    let word = format!("\"{event}\"");
    eventually(event, || board.audit_text().contains(&word).then_some(()));
}

fn scans_kept(board: &Board) -> usize {
    fs::read_dir(board.folder.join("data/spool/scans")).expect("lists").count()
}

/// Sends a scan and reads its results back from Orthanc.
fn receive_and_check(board: &Board, orthanc: &Orthanc) {
    let scan = scans(1).remove(0);
    let source = Source::of(&scan);
    board.send(&[scan]).expect("takes the scan");
    let names = eventually("results in Orthanc", || {
        let names = orthanc.find(&source.study);
        (names.len() >= 3).then_some(names)
    });
    assert_eq!(names.len(), 3);
    let bundle = bundle(board);
    let mut classes = Vec::new();
    for name in &names {
        let object = orthanc.tags(name);
        let class = text(&object, tags::SOP_CLASS_UID);
        source.check_patient(&object);
        source.check_references(&class, &object);
        assert!(strings(&object).any(|text| text == bundle), "{class} names the bundle");
        read_back(orthanc, name, &class);
        classes.push(class);
    }
    classes.sort();
    let mut expected = [
        uids::SECONDARY_CAPTURE_IMAGE_STORAGE,
        uids::COMPREHENSIVE_SR_STORAGE,
        uids::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE,
    ];
    expected.sort_unstable();
    assert_eq!(classes, expected);
}

/// The digest of the bundle that judged, as the audit trail has it.
fn bundle(board: &Board) -> String {
    let text = board.audit_text();
    let mut lines = text.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    let judged = lines.rfind(|line: &Value| line["event"] == "judged");
    judged.expect("the scan was judged")["bundle"].as_str().expect("a digest").to_owned()
}

fn read_back(orthanc: &Orthanc, name: &str, class: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join(name);
    fs::write(&file, orthanc.file(name)).expect("writes");
    let complaints = complaints_about(&file, class);
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// What results must say about their scan.
struct Source {
    study: String,
    series: String,
    class: String,
    instance: String,
    patient_name: String,
    patient_id: String,
}

impl Source {
    fn of(file: &[u8]) -> Self {
        let object = dicom_object::from_reader(file).expect("reads");
        let text = |tag| {
            let text = object.element(tag).expect("is there").to_str().expect("text");
            text.trim_end_matches(['\0', ' ']).to_owned()
        };
        Self {
            study: text(tags::STUDY_INSTANCE_UID),
            series: text(tags::SERIES_INSTANCE_UID),
            class: text(tags::SOP_CLASS_UID),
            instance: text(tags::SOP_INSTANCE_UID),
            patient_name: text(tags::PATIENT_NAME),
            patient_id: text(tags::PATIENT_ID),
        }
    }

    fn check_patient(&self, object: &Value) {
        assert_eq!(text(object, tags::STUDY_INSTANCE_UID), self.study);
        assert_eq!(text(object, tags::PATIENT_NAME), self.patient_name);
        assert_eq!(text(object, tags::PATIENT_ID), self.patient_id);
        assert_ne!(text(object, tags::SERIES_INSTANCE_UID), self.series);
        assert_ne!(text(object, tags::SOP_INSTANCE_UID), self.instance);
    }

    fn check_references(&self, class: &str, object: &Value) {
        match class {
            uids::SECONDARY_CAPTURE_IMAGE_STORAGE => {
                self.is(first(object, tags::SOURCE_IMAGE_SEQUENCE));
            }
            uids::COMPREHENSIVE_SR_STORAGE => self.check_report(object),
            _ => {
                let series = first(object, tags::REFERENCED_SERIES_SEQUENCE);
                assert_eq!(text(series, tags::SERIES_INSTANCE_UID), self.series);
                self.is(first(series, tags::REFERENCED_IMAGE_SEQUENCE));
            }
        }
    }

    fn check_report(&self, object: &Value) {
        let study = first(object, tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE);
        assert_eq!(text(study, tags::STUDY_INSTANCE_UID), self.study);
        let series = first(study, tags::REFERENCED_SERIES_SEQUENCE);
        assert_eq!(text(series, tags::SERIES_INSTANCE_UID), self.series);
        self.is(first(series, tags::REFERENCED_SOP_SEQUENCE));
        let images: Vec<_> = content(object)
            .into_iter()
            .filter(|item| text(item, tags::VALUE_TYPE) == "IMAGE")
            .collect();
        assert!(!images.is_empty(), "the report shows its image");
        images.iter().for_each(|item| self.is(first(item, tags::REFERENCED_SOP_SEQUENCE)));
    }

    /// Whether an item refers to the scan.
    fn is(&self, item: &Value) {
        assert_eq!(text(item, tags::REFERENCED_SOP_CLASS_UID), self.class);
        assert_eq!(text(item, tags::REFERENCED_SOP_INSTANCE_UID), self.instance);
    }
}

/// All content items of a report, at any depth.
fn content(object: &Value) -> Vec<&Value> {
    let items = object[key(tags::CONTENT_SEQUENCE)].as_array();
    let below = |item| [vec![item], content(item)].concat();
    items.into_iter().flatten().flat_map(below).collect()
}

/// The first item of a sequence.
fn first(object: &Value, sequence: Tag) -> &Value {
    object[key(sequence)].get(0).unwrap_or_else(|| panic!("no item in {}", key(sequence)))
}

fn text(object: &Value, tag: Tag) -> String {
    object[key(tag)].as_str().unwrap_or_default().trim_end().to_owned()
}

/// How Orthanc names an element.
fn key(Tag(group, element): Tag) -> String {
    format!("{group:04x},{element:04x}")
}

/// All texts in a value, at any depth; those of several values one by one, words one by one.
fn strings(value: &Value) -> Box<dyn Iterator<Item = &str> + '_> {
    match value {
        Value::String(text) => Box::new(text.split(['\\', ' '])),
        Value::Array(items) => Box::new(items.iter().flat_map(strings)),
        Value::Object(fields) => Box::new(fields.values().flat_map(strings)),
        _ => Box::new(std::iter::empty()),
    }
}
