//! A database that is damaged and a clock that is wrong.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use tests::archive::Archive;
use tests::board::{Board, Plan, eventually};
use tests::{scans, uid};

use crate::{IMPATIENT, OK, all_delivered, health, library, trail_counts};

/// Covers: SPL-3
///
/// Database, journal or all of it is overwritten while the service runs. It may find out at once, and then
/// ends so that its supervisor starts it anew, or at its next start.
#[test]
#[ignore = "cargo xtask test --with faults"]
fn a_database_damaged_under_way_is_rebuilt_without_loss() {
    let [database, journal, index] = ["", "-wal", "-shm"].map(|end| format!("spool.sqlite{end}"));
    for files in [vec![&database], vec![&journal], vec![&database, &journal, &index]] {
        let (archive, folder) = (Archive::start(), tempfile::tempdir().expect("a folder"));
        let plan = Plan::with(format!("{IMPATIENT}{}", archive.section("pacs", "")));
        let mut board = plan.start(folder.path());
        board.send(&scans(5)).expect("takes scans");
        let before = names(&archive, 5);
        for file in &files {
            overwrite(&folder.path().join("data/spool").join(file));
        }
        let mut ended = false;
        let all = scans(10);
        let mut waiting: Vec<_> = all[5..].to_vec();
        eventually("everything is taken", || {
            if let Some(status) = board.ended() {
                assert_eq!(status.code(), Some(1), "ends in order");
                ended = true;
                board = plan.start(folder.path());
            }
            waiting.retain(|scan| board.send(std::slice::from_ref(scan)).is_err());
            waiting.is_empty().then_some(())
        });
        println!("{files:?}: {}", if ended { "found under way" } else { "not found under way" });
        eventually("everything taken is judged", || {
            if board.ended().is_some() {
                board = plan.start(folder.path());
            }
            (trail_counts(folder.path()).all("judged") >= 10).then_some(())
        });
        // What was not found under way is found by the next start.
        if board.ended().is_none() {
            board.signal(rustix::process::Signal::TERM);
            board.wait().expect("ends");
        }
        let board = plan.start(folder.path());
        let after = names(&archive, 10);
        assert!(before.is_subset(&after) && after.len() == 30, "the same objects, not new ones");
        for number in 0..10 {
            let counts = trail_counts(folder.path());
            assert!(counts.of(&uid(number), "judged") >= 1, "scan {number}");
        }
        eventually("all is well again", || (health(&board) == OK).then_some(()));
    }
}

/// Overwrites a file in place, as a bad card does.
fn overwrite(path: &Path) {
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new().write(true).open(path).expect("is there");
    let length = file.metadata().expect("has a size").len() as usize;
    file.write_all_at(&vec![0x5A; length], 0).expect("overwrites");
}

/// The UIDs of so many scans' results.
fn names(archive: &Archive, scans: usize) -> BTreeSet<String> {
    all_delivered(archive, scans);
    archive.objects().into_iter().map(|object| object.sop_instance).collect()
}

/// Covers: SPL-5, AUD-1
///
/// The wall clock goes back a year and then ten years ahead while scans come. Nothing waits for it
/// and nothing expires by it; the retention counts running time.
#[test]
#[ignore = "cargo xtask test --with faults"]
fn steps_of_the_clock_expire_and_hold_back_nothing() {
    const YEAR: i64 = 365 * 86_400;
    let (archive, folder) = (Archive::start(), tempfile::tempdir().expect("a folder"));
    let offset = folder.path().join("offset");
    let set = |seconds: i64| {
        fs::write(folder.path().join("next"), seconds.to_string()).expect("writes");
        fs::rename(folder.path().join("next"), &offset).expect("sets the clock");
    };
    let shim = library(folder.path(), "clock", include_str!("clock.c"));
    let text = |path: &Path| path.to_str().expect("plain").to_owned();
    let plan = |retention: &str| Plan {
        environment: vec![
            ("LD_PRELOAD".into(), text(&shim)),
            ("CLOCK_OFFSET".into(), text(&offset)),
        ],
        storage: format!("keep_free_mb = 1\nretention = \"{retention}\""),
        ..Plan::with(format!("{IMPATIENT}{}", archive.section("pacs", "")))
    };
    set(0);
    let board = plan("1h").start(folder.path());
    let mut sent = 0;
    for step in [0, -YEAR, 10 * YEAR] {
        set(step);
        board.send(&scans(sent + 2)[sent..]).expect("takes scans");
        sent += 2;
        all_delivered(&archive, sent);
        // The keeper looks every five seconds.
        std::thread::sleep(Duration::from_secs(6));
        assert_eq!(trail_counts(folder.path()).all("expired"), 0, "nothing expires by the clock");
        assert_eq!(health(&board), OK);
    }
    let years = years(&board);
    assert_eq!(years.len(), 3, "the clock was set: {years:?}");
    assert!(board.stop().success());
    set(-YEAR);
    let board = plan("1s").start(folder.path());
    eventually("everything expires by running time", || {
        (trail_counts(folder.path()).all("expired") == sent).then_some(())
    });
    assert!(board.stop().success());
}

/// The years that the audit trail's entries were written in.
fn years(board: &Board) -> BTreeSet<String> {
    let text = board.audit_text();
    text.lines()
        .filter_map(|line| Some(line.split_once("\"time\":\"")?.1[..4].to_owned()))
        .collect()
}
