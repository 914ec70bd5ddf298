//! Full, read-only and failing disks.

use std::fs;
use std::path::Path;

use device::dicom::scu::SendError;
use tests::archive::Archive;
use tests::board::{Board, Plan, eventually};
use tests::{scans, uid};

use crate::{DEGRADED, IMPATIENT, OK, all_delivered, health, library, trail_counts};

/// No space left, read-only file system, input/output error, quota exceeded (errno).
const ERRORS: [i32; 4] = [28, 30, 5, 122];
/// How many changes succeed before the disk fails.
const ALLOWED: [u32; 5] = [0, 2, 7, 15, 40];

/// Out of resources (PS3.4 table B.2-1): the sender may try again.
const OUT_OF_RESOURCES: u16 = 0xA700;
/// Processing failure (PS3.7 annex C): likewise.
const PROCESSING_FAILURE: u16 = 0x0110;

/// Covers: RCV-7
#[test]
#[ignore = "cargo xtask test --with faults"]
fn a_nearly_full_disk_refuses_scans_until_there_is_space() {
    let (archive, folder) = (Archive::start(), tempfile::tempdir().expect("a folder"));
    let roomy = Plan::with(archive.section("pacs", ""));
    let full = Plan { storage: "keep_free_mb = 1000000".into(), ..roomy.clone() };
    let board = full.start(folder.path());
    let refused = board.send(&scans(1));
    assert!(matches!(refused, Err(SendError::Status(OUT_OF_RESOURCES))), "{refused:?}");
    assert_eq!(health(&board), DEGRADED);
    assert!(!board.audit_text().contains("\"received\""));
    assert!(board.stop().success());
    let board = roomy.start(folder.path());
    board.send(&scans(1)).expect("takes the scan now");
    all_delivered(&archive, 1);
    assert_eq!(health(&board), OK);
}

/// Covers: SPL-6, RCV-1, RCV-7
///
/// The spool's disk fails at different moments of taking, judging, rendering and delivering.
#[test]
#[ignore = "cargo xtask test --with faults"]
fn a_disk_that_fails_in_the_middle_costs_no_scan() {
    let (archive, folder) = (Archive::start(), tempfile::tempdir().expect("a folder"));
    let board = on_failing_disk(&archive, folder.path(), "/spool").start(folder.path());
    let mut sent = 0;
    for error in ERRORS {
        for allowed in ALLOWED {
            sent += 1;
            board.send(&scans(sent)[sent - 1..]).expect("takes a scan while the disk is well");
            fail(folder.path(), allowed, error);
            let next = &scans(sent + 3)[sent..];
            let refused: Vec<_> = next.iter().filter(|scan| is_refused(&board, scan)).collect();
            let is_early = allowed < 5;
            assert!(!is_early || !refused.is_empty(), "error {error} after {allowed} changes");
            eventually("the trouble is told", || (health(&board) == DEGRADED).then_some(()));
            mend(folder.path());
            for scan in refused {
                board.send(std::slice::from_ref(scan)).expect("takes it on the second try");
            }
            sent += 3;
        }
    }
    all_delivered(&archive, sent);
    eventually("all is well a minute later", || (health(&board) == OK).then_some(()));
    assert!(board.stop().success());
    let counts = trail_counts(folder.path());
    for number in 0..sent {
        assert_eq!(counts.of(&uid(number), "judged"), 1, "scan {number}");
        assert_eq!(counts.of(&uid(number), "delivered"), 1, "scan {number}");
    }
}

/// Covers: SPL-6, LOG-2, AUD-1
///
/// Spool, log and audit trail cannot be written. What the trail misses meanwhile it is told at the
/// next start.
#[test]
#[ignore = "cargo xtask test --with faults"]
fn a_read_only_disk_stops_work_until_it_is_mended() {
    let (archive, folder) = (Archive::start(), tempfile::tempdir().expect("a folder"));
    let plan = on_failing_disk(&archive, folder.path(), "/data");
    let board = plan.start(folder.path());
    board.send(&scans(2)).expect("takes two scans");
    fail(folder.path(), 0, 30);
    for scan in &scans(4)[2..] {
        assert!(is_refused(&board, scan), "a read-only disk takes nothing");
    }
    assert_eq!(health(&board), DEGRADED);
    mend(folder.path());
    board.send(&scans(4)[2..]).expect("takes them now");
    all_delivered(&archive, 4);
    assert!(board.stop().success());
    fail(folder.path(), 0, 30);
    assert!(plan.try_start(folder.path()).is_none(), "does not start on a read-only disk");
    mend(folder.path());
    let board = plan.start(folder.path());
    assert_eq!(health(&board), OK);
    let counts = trail_counts(folder.path());
    for number in 0..4 {
        for event in ["received", "judged", "delivered"] {
            assert_eq!(counts.of(&uid(number), event), 1, "scan {number} {event}");
        }
    }
}

/// A board whose disk fails below a folder when [`fail`] says so.
fn on_failing_disk(archive: &Archive, folder: &Path, part: &str) -> Plan {
    let source = include_str!("../../../device/src/durable/forgetful.c");
    let text = |path: &Path| path.to_str().expect("plain").to_owned();
    let environment = [
        ("LD_PRELOAD", text(&library(folder, "forgetful", source))),
        ("DISK_ROOT", text(&folder.join("data"))),
        ("DISK_PART", part.into()),
        ("DISK_FAULT", text(&folder.join("fault"))),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value)).to_vec();
    Plan { environment, ..Plan::with(format!("{IMPATIENT}{}", archive.section("pacs", ""))) }
}

/// From now on all but the next `allowed` changes fail.
fn fail(folder: &Path, allowed: u32, error: i32) {
    fs::write(folder.join("fault-next"), format!("{allowed} {error}")).expect("writes");
    fs::rename(folder.join("fault-next"), folder.join("fault")).expect("renames");
}

fn mend(folder: &Path) {
    fs::remove_file(folder.join("fault")).expect("removes");
}

/// Whether the board does not take a scan, saying that it may be sent again.
fn is_refused(board: &Board, scan: &[u8]) -> bool {
    match board.send(&[scan.to_vec()]) {
        Ok(()) => false,
        Err(SendError::Status(OUT_OF_RESOURCES | PROCESSING_FAILURE)) => true,
        Err(other) => panic!("{other}"),
    }
}
