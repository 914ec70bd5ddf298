//! `device serve` as a whole: from an X-ray unit to an archive, in one process beside this one.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use device::dicom::scp::Refusal;
use device::dicom::scu::{self, SendError};
use dicom_core::VR;
use dicom_core::header::Header;
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;
use rustix::process::Signal;
use tests::archive::{Archive, Received};
use tests::board::{Board, Plan, eventually};
use tests::{scans, zoo};

/// Short pauses between attempts.
const IMPATIENT: &str = "[retry]\nfirst = \"50ms\"\nmost = \"200ms\"\nattempts = 1000\n";

/// Waits until an archive has so many objects.
fn received(archive: &Archive, count: usize) -> Vec<Received> {
    eventually("objects in the archive", || {
        let objects = archive.objects();
        (objects.len() >= count).then_some(objects)
    })
}

fn kinds(objects: &[Received]) -> BTreeSet<&str> {
    objects.iter().map(|object| object.sop_class.as_str()).collect()
}

/// Covers: RES-2, DLV-1, RCV-2
#[test]
fn a_scan_becomes_three_objects_that_refer_to_it_and_a_second_sending_none() {
    let archive = Archive::start();
    let (board, _folder) = Board::new(&Plan::with(archive.section("pacs", "")));
    let scan = scans(1);
    board.send(&scan).expect("takes the scan");
    let objects = received(&archive, 3);
    let expected = BTreeSet::from([
        uids::SECONDARY_CAPTURE_IMAGE_STORAGE,
        uids::COMPREHENSIVE_SR_STORAGE,
        uids::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE,
    ]);
    assert_eq!(kinds(&objects), expected);
    for object in &objects {
        let text = String::from_utf8_lossy(&object.bytes);
        assert!(text.contains("2.25.4711.0"), "refers to the scan");
    }
    board.send(&scan).expect("takes the scan again");
    board.send(&scans(2)[1..]).expect("takes another scan");
    let all = received(&archive, 6);
    let instances: BTreeSet<_> = all.iter().map(|object| &object.sop_instance).collect();
    assert_eq!((all.len(), instances.len()), (6, 6), "the first scan was delivered once");
    assert!(board.stop().success());
}

/// Covers: RCV-2
#[test]
fn another_picture_under_the_same_name_is_refused() {
    let (board, _folder) = Board::new(&Plan::default());
    let scan = scans(1).remove(0);
    let mut other = scan.clone();
    let last = other.len() - 1;
    other[last] ^= 1;
    board.send(&[scan]).expect("takes the first");
    assert!(matches!(board.send(&[other]), Err(SendError::Status(0x0111)) | Ok(())));
    let text = board.audit_text();
    assert_eq!(text.matches("\"received\"").count(), 1, "{text}");
}

/// Covers: DLV-1, DLV-2
#[test]
fn a_destination_that_is_down_gets_everything_when_it_is_back_and_holds_up_nobody() {
    let up = Archive::start();
    let down = Archive::start();
    let section = down.section("down", "timeout = \"1s\"");
    let address = down.address;
    drop(down);
    let config = format!("{IMPATIENT}{}{section}", up.section("up", ""));
    let (board, _folder) = Board::new(&Plan::with(config));
    board.send(&scans(3)).expect("takes the scans");
    assert_eq!(received(&up, 9).len(), 9);
    let back = Archive::start_at(address);
    assert_eq!(received(&back, 9).len(), 9);
}

/// Covers: DLV-3, DLV-1
#[test]
fn a_failure_that_may_pass_is_tried_again_and_one_that_cannot_is_given_up_with_its_reason() {
    let archive = Archive::start();
    archive.refuse(Some(Refusal::OutOfResources));
    let config = format!("{IMPATIENT}{}", archive.section("pacs", ""));
    let (board, _folder) = Board::new(&Plan::with(config));
    board.send(&scans(1)).expect("takes the scan");
    std::thread::sleep(Duration::from_millis(500));
    assert!(archive.objects().is_empty());
    archive.refuse(None);
    received(&archive, 3);
    archive.refuse(Some(Refusal::Mismatch));
    board.send(&scans(2)[1..]).expect("takes another scan");
    eventually("the delivery is given up", || {
        board.audit_text().contains("\"given-up\"").then_some(())
    });
}

/// Covers: RCV-9
#[test]
fn complete_files_of_the_inbox_are_taken_and_files_of_a_stick_stay() {
    let archive = Archive::start();
    let folder = tempfile::tempdir().expect("a folder");
    let (inbox, stick) = (folder.path().join("inbox"), folder.path().join("stick"));
    fs::create_dir_all(inbox.join("sub")).expect("makes");
    fs::create_dir_all(&stick).expect("makes");
    let all = scans(3);
    fs::write(inbox.join("sub/a.dcm"), &all[0]).expect("writes");
    fs::write(stick.join("b.dcm"), &all[1]).expect("writes");
    fs::write(inbox.join("c.dcm.part"), &all[2]).expect("writes");
    let config = format!(
        "[folder]\ninbox = {inbox:?}\nusb = {stick:?}\ninterval = \"100ms\"\n{}",
        archive.section("pacs", "")
    );
    let board = Plan::with(config).start(folder.path());
    assert_eq!(received(&archive, 6).len(), 6);
    eventually("the inbox is emptied", || (!inbox.join("sub/a.dcm").exists()).then_some(()));
    assert!(stick.join("b.dcm").exists(), "the stick's file stays");
    assert!(inbox.join("c.dcm.part").exists(), "an unfinished file is left alone");
    fs::rename(inbox.join("c.dcm.part"), inbox.join("c.dcm")).expect("is finished");
    assert_eq!(received(&archive, 9).len(), 9);
    drop(board);
}

/// Covers: JDG-1, JDG-4
#[test]
fn a_scan_that_cannot_be_judged_is_told_and_does_not_stop_the_next() {
    let archive = Archive::start();
    let folder = tempfile::tempdir().expect("a folder");
    let inbox = folder.path().join("inbox");
    fs::create_dir_all(&inbox).expect("makes");
    fs::write(inbox.join("a.png"), b"\x89PNG\r\n\x1a\nno picture").expect("writes");
    fs::write(inbox.join("b.dcm"), &scans(1)[0]).expect("writes");
    let config = format!(
        "[folder]\ninbox = {inbox:?}\ninterval = \"100ms\"\n{}",
        archive.section("pacs", "")
    );
    let board = Plan::with(config).start(folder.path());
    received(&archive, 3);
    let text = eventually("both are told", || {
        let text = board.audit_text();
        (text.contains("\"unjudged\"") && text.contains("\"judged\"")).then_some(text)
    });
    assert_eq!(text.matches("\"received\"").count(), 2);
}

/// Covers: LIF-1, RCV-8
#[test]
fn a_stopped_board_goes_on_where_it_was() {
    let archive = Archive::start();
    let folder = tempfile::tempdir().expect("a folder");
    let plan = Plan::with(archive.section("pacs", ""));
    let board = plan.start(folder.path());
    board.send(&scans(30)).expect("takes all without waiting for their verdicts");
    assert!(board.stop().success());
    let board = plan.start(folder.path());
    let objects = received(&archive, 90);
    let instances: BTreeSet<_> = objects.iter().map(|object| &object.sop_instance).collect();
    assert_eq!(instances.len(), 90);
    assert!(board.stop().success());
}

/// Covers: SPL-3
#[test]
fn a_corrupt_database_is_kept_aside_and_rebuilt() {
    let archive = Archive::start();
    let folder = tempfile::tempdir().expect("a folder");
    let plan = Plan::with(archive.section("pacs", ""));
    let board = plan.start(folder.path());
    board.send(&scans(2)).expect("takes the scans");
    let before: BTreeSet<_> =
        received(&archive, 6).into_iter().map(|object| object.sop_instance).collect();
    assert!(board.stop().success());
    archive.clear();
    let database = folder.path().join("data/spool/spool.sqlite");
    assert!(database.exists(), "the database has another name");
    fs::write(&database, vec![0x5A; 20_000]).expect("damages it");
    let board = plan.start(folder.path());
    let again: BTreeSet<_> =
        received(&archive, 6).into_iter().map(|object| object.sop_instance).collect();
    assert_eq!(again, before, "the same objects, not new ones");
    drop(board);
}

/// Covers: JDG-2, RES-4
#[test]
fn two_boards_make_the_same_objects_of_the_same_scan_up_to_times() {
    let objects = |bundle| {
        let archive = Archive::start();
        let plan = Plan { bundle: Some(bundle), ..Plan::with(archive.section("pacs", "")) };
        let (board, _folder) = Board::new(&plan);
        board.send(&scans(1)).expect("takes the scan");
        let mut objects = received(&archive, 3);
        objects.sort_by(|a, b| a.sop_class.cmp(&b.sop_class));
        objects
    };
    let bundle = zoo().swap_remove(0);
    let (first, second) = (objects(bundle.clone()), objects(bundle));
    for (a, b) in first.iter().zip(&second) {
        assert_eq!(a.sop_instance, b.sop_instance);
        let same = without_times(&a.bytes) == without_times(&b.bytes);
        assert!(same, "two objects of class {} differ", a.sop_class);
    }
}

/// An object's text without dates and times; the caption of the picture holds the time, so pixels
/// are left out.
fn without_times(bytes: &[u8]) -> String {
    let mut object = dicom_object::from_reader(bytes).expect("reads").into_inner();
    object.remove_element(tags::PIXEL_DATA);
    let mut text = String::new();
    describe(&object, &mut text);
    text
}

fn describe(object: &InMemDicomObject, text: &mut String) {
    for element in object {
        *text += &format!("{} {} ", element.tag(), element.vr());
        match element.items() {
            Some(items) => items.iter().for_each(|item| describe(item, text)),
            None if matches!(element.vr(), VR::DA | VR::TM | VR::DT) => {}
            None => *text += &format!("{:?}", element.value()),
        }
    }
}

/// Covers: JDG-3
#[test]
fn another_bundle_judges_when_it_has_passed_its_self_test_and_a_damaged_one_never() {
    let archive = Archive::start();
    let folder = tempfile::tempdir().expect("a folder");
    let link = folder.path().join("bundle");
    let zoo = zoo();
    let point_to = |bundle: &Path| {
        let new = folder.path().join("new-bundle");
        std::os::unix::fs::symlink(bundle, &new).expect("links");
        fs::rename(&new, &link).expect("switches");
    };
    point_to(&zoo[0]);
    let plan = Plan { bundle: Some(link.clone()), ..Plan::with(archive.section("pacs", "")) };
    let board = plan.start(folder.path());
    let damaged = folder.path().join("damaged");
    copy(&zoo[1], &damaged);
    let model = damaged.join("model.onnx");
    let mut bytes = fs::read(&model).expect("reads");
    bytes[1000] ^= 1;
    fs::write(&model, bytes).expect("writes");
    point_to(&damaged);
    std::thread::sleep(Duration::from_secs(8));
    board.send(&scans(1)).expect("takes a scan");
    received(&archive, 3);
    assert!(!board.audit_text().contains("bundle-changed"), "the damaged one is refused");
    drop(board);

    point_to(&zoo[0]);
    let board = plan.start(folder.path());
    point_to(&zoo[1]);
    eventually("the other bundle judges", || {
        board.audit_text().contains("bundle-changed").then_some(())
    });
    board.send(&scans(2)[1..]).expect("takes a scan");
    received(&archive, 6);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("makes");
    for entry in fs::read_dir(from).expect("lists") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() { copy(&path, &target) } else { drop(fs::copy(&path, target)) }
    }
}

/// Covers: LOG-1, PAG-5, AUD-1
#[test]
fn nothing_that_the_service_writes_beside_the_scans_names_a_patient() {
    let archive = Archive::start();
    let folder = tempfile::tempdir().expect("a folder");
    let inbox = folder.path().join("inbox");
    fs::create_dir_all(&inbox).expect("makes");
    fs::write(inbox.join("DOE_JANE_1970.png"), b"no picture").expect("writes");
    let config = format!(
        "[folder]\ninbox = {inbox:?}\ninterval = \"100ms\"\n{IMPATIENT}{}",
        archive.section("pacs", "")
    );
    let mut board = Plan::with(config).start(folder.path());
    board.send(&scans(3)).expect("takes the scans");
    received(&archive, 9);
    archive.refuse(Some(Refusal::Mismatch));
    board.send(&scans(5)[3..]).expect("takes more");
    eventually("everything has happened", || {
        let text = board.audit_text();
        (text.contains("\"given-up\"") && text.contains("\"unjudged\"")).then_some(())
    });
    let page = |path: &str| {
        // A board with a delivery given up says 503, and why.
        let request = ureq::get(format!("{}{path}", board.page)).config();
        let mut answer = request.http_status_as_error(false).build().call().expect("answers");
        answer.body_mut().read_to_string().expect("text")
    };
    let mut written = vec![page("/metrics"), page("/healthz")];
    board.signal(Signal::TERM);
    board.wait().expect("ends");
    written.push(board.rest_of_output());
    let outside_scans = |path: &Path| !path.starts_with(folder.path().join("data/spool/scans"));
    for path in files(folder.path()).iter().filter(|path| outside_scans(path)) {
        let is_ours = path.starts_with(folder.path().join("data")) || path.ends_with("stderr");
        if is_ours {
            written.push(String::from_utf8_lossy(&fs::read(path).expect("reads")).into_owned());
        }
    }
    assert!(written.len() > 5, "log, database and audit trail are looked at");
    for text in &written {
        for mark in ["PHANTOM", "DOE_JANE", "Synthetic spine"] {
            assert!(!text.contains(mark), "{mark} stands in {:.200}", text);
        }
    }
    for path in files(&folder.path().join("data/spool/scans")) {
        let name = path.file_name().expect("a name").to_string_lossy();
        let is_content = name.ends_with(".dcm") || name.ends_with(".png") || name == "source";
        let bytes = fs::read(&path).expect("reads");
        let text = String::from_utf8_lossy(&bytes);
        assert!(is_content || !text.contains("PHANTOM"), "{name} names a patient");
    }
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("lists") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// Covers: RCV-3
#[test]
fn strangers_are_turned_away() {
    let (board, _folder) = Board::new(&Plan::default());
    let mut stranger = board.destination();
    stranger.calling = "STRANGER".into();
    assert!(scu::echo(&stranger).is_err());
    let mut lost = board.destination();
    lost.called = "OTHER".into();
    assert!(scu::echo(&lost).is_err());
    scu::echo(&board.destination()).expect("answers its own");
}

/// Covers: CFG-1
#[test]
fn a_wrong_configuration_keeps_the_service_from_starting() {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = Plan::with("[retry]\nfirst = 5\n[nonsense]\n");
    assert!(plan.try_start(folder.path()).is_none());
    let text = fs::read_to_string(folder.path().join("stderr")).expect("reads");
    assert!(text.contains("retry.first") && text.contains("nonsense"), "{text}");
}
