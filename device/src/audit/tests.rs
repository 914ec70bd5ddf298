//! What the trail survives and what it shows.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::chain::{file_path, files};
use super::{Audit, AuditError, Entry, Fault, Head, verify};
use crate::durable::forgetful::{fast_dir, library, on_disk, restore};
use crate::event::{Event, ScanId};
use crate::failpoint;

/// Names the folder of the child's trail.
const CHILD: &str = "SPINESIGHT_AUDIT_CHILD";
/// Small enough for several files.
const ROTATE_AT: u64 = 1000;

fn entry(n: u64) -> Entry {
    Entry::Received { scan: ScanId::of(&n.to_be_bytes()), from: "XRAY".into() }
}

/// A trail of this many entries in several files.
fn trail(entries: u64) -> TempDir {
    trail_of(0..entries)
}

fn trail_of(entries: std::ops::Range<u64>) -> TempDir {
    let dir = fast_dir();
    let audit = Audit::open_with(dir.path(), ROTATE_AT).expect("opens");
    entries.for_each(|n| audit.record(&entry(n)).expect("records"));
    dir
}

/// Changes the lines of the second file.
fn tamper(dir: &Path, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let path = file_path(dir, 2);
    let bytes = fs::read(&path).expect("reads");
    let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|b| *b == b'\n').map(Into::into).collect();
    change(&mut lines);
    fs::write(&path, lines.concat()).expect("writes");
}

fn fault(dir: &Path) -> (String, u64, Fault) {
    match verify(dir, &[]) {
        Err(AuditError::Broken { file, line, reason }) => (file, line, reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_last_run_begins_where_the_service_started_last() {
    let dir = fast_dir();
    let audit = Audit::open(dir.path()).expect("opens");
    let started =
        Entry::Started { version: "1".into(), configuration: "c".into(), bundle: "b".into() };
    for entry in [&entry(1), &started, &entry(2), &started, &entry(3), &entry(4)] {
        audit.record(entry).expect("records");
    }
    assert_eq!(audit.of_last_run().expect("reads"), [started, entry(3), entry(4)]);
}

#[test]
fn an_untouched_trail_is_intact_across_files_and_starts() {
    let dir = trail(20);
    let audit = Audit::open_with(dir.path(), ROTATE_AT).expect("opens again");
    audit.record(&Entry::Stopped).expect("records");
    let report = verify(dir.path(), &[]).expect("is intact");
    assert_eq!((report.first, report.head.seq), (1, 21));
    assert_eq!((report.repairs, report.is_torn), (0, false));
    assert!(report.files > 2);
    assert_eq!(report.head, audit.head());
}

/// Covers: AUD-1
#[test]
fn every_flipped_byte_shows() {
    let dir = trail(9);
    let path = file_path(dir.path(), 1);
    let whole = fs::read(&path).expect("reads");
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        fs::write(&path, &flipped).expect("writes");
        let line = 1 + whole[..at].iter().filter(|b| **b == b'\n').count() as u64;
        let (file, named, _) = match verify(dir.path(), &[]) {
            Err(AuditError::Broken { file, line, reason }) => (file, line, reason),
            other => panic!("byte {at}: {other:?}"),
        };
        // The last line of a file is convicted by the first of the next.
        let is_named = file == "00000001.jsonl" && (named == line || named == line + 1);
        assert!(is_named || (file == "00000002.jsonl" && named == 1), "byte {at}: {file} {named}");
    }
}

#[test]
fn removed_swapped_repeated_and_foreign_lines_show() {
    let second = "00000002.jsonl".to_string();
    type Change = fn(&mut Vec<Vec<u8>>);
    let changes: [(Change, u64, Fault); 4] = [
        (|lines| drop(lines.remove(1)), 2, Fault::OutOfOrder),
        (|lines| lines.swap(0, 1), 1, Fault::OutOfOrder),
        (|lines| lines.insert(2, lines[1].clone()), 3, Fault::OutOfOrder),
        (|lines| lines[1] = b"{}\n".to_vec(), 2, Fault::Unreadable),
    ];
    for (change, line, fault_there) in changes {
        let dir = trail(20);
        tamper(dir.path(), change);
        assert_eq!(fault(dir.path()), (second.clone(), line, fault_there));
    }
}

#[test]
fn a_removed_file_shows() {
    let dir = trail(20);
    fs::remove_file(file_path(dir.path(), 2)).expect("removes");
    assert_eq!(fault(dir.path()), ("00000003.jsonl".into(), 1, Fault::OutOfOrder));
    let dir = trail(20);
    fs::remove_file(file_path(dir.path(), 1)).expect("removes");
    assert!(verify(dir.path(), &[]).expect("the rest hangs together").first > 1);
}

/// Removes the last complete line.
fn shorten(dir: &Path) {
    let path = file_path(dir, *files(dir).expect("lists").last().expect("has files"));
    let bytes = fs::read(&path).expect("reads");
    let end = bytes[..bytes.len() - 1].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    fs::write(&path, &bytes[..end]).expect("writes");
}

#[test]
fn a_shortened_trail_shows_also_after_the_next_start() {
    let dir = trail(7);
    shorten(dir.path());
    let error = verify(dir.path(), &[]).expect_err("is short");
    assert!(matches!(error, AuditError::Shortened { last: 6, head: 7 }), "{error}");
    for _ in 0..2 {
        let audit = Audit::open_with(dir.path(), ROTATE_AT).expect("goes on");
        audit.record(&Entry::Stopped).expect("records");
    }
    assert!(verify(dir.path(), &[]).is_err());
}

#[test]
fn a_missing_head_shows_also_after_the_next_start() {
    let dir = trail(7);
    fs::remove_file(dir.path().join("head.json")).expect("removes");
    assert!(matches!(verify(dir.path(), &[]), Err(AuditError::Headless)));
    drop(Audit::open_with(dir.path(), ROTATE_AT).expect("goes on"));
    assert_eq!(fault(dir.path()).2, Fault::Cut);
}

#[test]
fn a_rewritten_trail_shows_by_a_copy_of_its_head() {
    let dir = trail(5);
    let copy = verify(dir.path(), &[]).expect("is intact").head;
    let text = copy.to_string();
    assert_eq!(text.parse(), Ok(copy.clone()));
    let longer = Audit::open_with(dir.path(), ROTATE_AT).expect("opens");
    longer.record(&Entry::Stopped).expect("records");
    verify(dir.path(), std::slice::from_ref(&copy)).expect("contains the copy");
    // Other entries: the same ones within a millisecond would be the same trail.
    let other = trail_of(100..106);
    verify(other.path(), &[]).expect("is intact by itself");
    let error = verify(other.path(), std::slice::from_ref(&copy)).expect_err("another trail");
    assert!(matches!(error, AuditError::Rewritten(5)), "{error}");
    let error = verify(trail(2).path(), &[copy]).expect_err("a shorter trail");
    assert!(matches!(error, AuditError::Shortened { last: 2, head: 5 }), "{error}");
}

#[test]
fn a_torn_line_is_cut_off_and_told() {
    for torn in ["{\"seq\":8,\"prev", "\0\0\0\0", "{}\n"] {
        let dir = trail(7);
        let last = *files(dir.path()).expect("lists").last().expect("has files");
        let file = OpenOptions::new().append(true).open(file_path(dir.path(), last));
        file.expect("opens").write_all(torn.as_bytes()).expect("writes");
        let audit = Audit::open_with(dir.path(), ROTATE_AT).expect("opens");
        assert_eq!(audit.head().seq, 8, "an entry tells");
        let report = verify(dir.path(), &[]).expect("is intact");
        assert_eq!((report.repairs, report.head.seq), (1, 8), "{torn:?}");
    }
}

#[test]
fn more_than_a_torn_line_is_kept_as_evidence() {
    let dir = trail(30);
    let last = *files(dir.path()).expect("lists").last().expect("has files");
    let path = file_path(dir.path(), last);
    let forged = [fs::read(&path).expect("reads"), b"{}\n".repeat(2000)].concat();
    fs::write(&path, &forged).expect("writes");
    drop(Audit::open_with(dir.path(), ROTATE_AT).expect("goes on"));
    assert_eq!(fs::read(&path).expect("reads"), forged);
    assert!(verify(dir.path(), &[]).is_err());
}

#[test]
fn no_trail_is_an_error() {
    let dir = fast_dir();
    assert!(matches!(verify(dir.path(), &[]), Err(AuditError::Missing)));
    assert!(matches!(verify(&dir.path().join("none"), &[]), Err(AuditError::Missing)));
}

#[test]
fn over_long_entries_are_refused() {
    let dir = fast_dir();
    let audit = Audit::open(dir.path()).expect("opens");
    let long = Entry::SignedIn { user: "x".repeat(5000) };
    assert!(matches!(audit.record(&long), Err(AuditError::TooLong)));
    audit.record(&Entry::Stopped).expect("goes on");
    assert_eq!(verify(dir.path(), &[]).expect("is intact").head.seq, 1);
}

#[test]
fn one_process_writes_a_trail() {
    let dir = fast_dir();
    let _audit = Audit::open(dir.path()).expect("opens");
    assert!(matches!(Audit::open(dir.path()), Err(AuditError::InUse)));
}

#[test]
fn events_become_entries() {
    let scan = ScanId::of(b"1");
    let event = Event::Received { scan, from: "XRAY".into() };
    let entry = Entry::of(&event).expect("is told");
    let text = serde_json::to_string(&entry).expect("serialises");
    assert_eq!(text, format!(r#"{{"event":"received","scan":"{scan}","from":"XRAY"}}"#));
    assert_eq!(Entry::of(&Event::DiskFull(true)), None);
}

#[test]
fn words_that_are_no_head() {
    for text in
        ["", "1", "1:ab", "x:0000000000000000000000000000000000000000000000000000000000000000"]
    {
        assert!(text.parse::<Head>().is_err(), "{text}");
    }
}

#[test]
#[ignore = "the child's part: does something only where its parent says so"]
fn writes() {
    let Some(dir) = env::var_os(CHILD) else { return };
    let dir = Path::new(&dir);
    let audit = Audit::open_with(&dir.join("trail"), ROTATE_AT).expect("opens");
    for n in 0..12_u64 {
        audit.record(&entry(n)).expect("records");
        fs::write(dir.join("promised"), (n + 1).to_string()).expect("writes");
    }
}

/// Every fail point of the trail, each at the first times it is reached.
fn points() -> Vec<String> {
    let ours = |point: &&&str| point.starts_with("audit.") || point.starts_with("disk.");
    let times = |point: &str| if point == "audit.rotated" { 1 } else { 12 };
    let each = |point: &&str| (1..=times(point)).map(|n| format!("{point}:{n}")).collect();
    failpoint::ALL.iter().filter(ours).map(each).collect::<Vec<Vec<_>>>().concat()
}

/// A child that writes a trail below `dir` and dies at a point.
fn child(dir: &Path, point: &str) -> Command {
    let mut child = Command::new(env::current_exe().expect("has a name"));
    child.args(["--exact", "audit::tests::writes", "--ignored", "-q"]).stdout(Stdio::null());
    child.env(CHILD, dir).env(failpoint::VARIABLE, point);
    child
}

/// The trail goes on, is intact and contains what was promised.
fn check(trail: &Path, promised: &Path, point: &str) {
    let promised = fs::read_to_string(promised).unwrap_or_default().parse().unwrap_or(0);
    let audit = Audit::open_with(trail, ROTATE_AT).expect("opens");
    audit.record(&Entry::Stopped).expect("goes on");
    let report = verify(trail, &[]).expect("is intact");
    assert!(report.head.seq > promised, "{point}");
}

#[test]
fn a_kill_at_any_step_leaves_an_intact_trail_with_all_it_promised() {
    for point in points() {
        let dir = fast_dir();
        let status = child(dir.path(), &point).status().expect("runs");
        assert_eq!(status.signal(), Some(9), "{point}");
        check(&dir.path().join("trail"), &dir.path().join("promised"), &point);
    }
}

#[test]
fn a_power_cut_at_any_step_leaves_an_intact_trail_with_all_it_promised() {
    let home = fast_dir();
    let library = library(home.path());
    for point in points() {
        let dir = fast_dir();
        let (trail, store) = (dir.path().join("trail"), dir.path().join("store"));
        fs::create_dir_all(&store).expect("makes");
        fs::create_dir_all(&trail).expect("makes");
        let mut child = on_disk(child(dir.path(), &point), &library, &trail);
        let status = child.env("DISK_STORE", &store).status().expect("runs");
        assert_eq!(status.signal(), Some(9), "{point}");
        let after = dir.path().join("after");
        restore(&store, &trail, &after);
        check(&after, &dir.path().join("promised"), &point);
    }
}
