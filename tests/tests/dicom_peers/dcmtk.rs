//! DCMTK: `echoscu`, `storescu`, `findscu`, and `storescp` as a destination.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use dicom_dictionary_std::uids;
use tempfile::TempDir;
use tests::board::{Board, Plan, eventually, object_file};
use tests::scans;

use super::readers::complaints_about;
use super::tools::{Done, run, send, send_as};

/// Scans stored in the great test.
const SCANS: usize = 200;
/// Senders at the same time.
const SENDERS: usize = 8;
/// Objects made of a scan.
const OBJECTS: usize = 3;

/// Covers: RCV-3
#[test]
#[ignore = "cargo xtask test --with dicom-peers"]
fn echoscu_is_answered_and_a_stranger_rejected() {
    let (board, _folder) = Board::new(&Plan::default());
    let known = send("echoscu", &board, &[], &[]).expect_success("echoscu");
    assert_eq!(known.lines_with("Received Echo Response (Success)"), 1, "{}", known.said);
    let stranger = send_as("STRANGER", "echoscu", &board, &[], &[]);
    assert!(!stranger.success);
    assert_eq!(stranger.lines_with("Calling AE Title Not Recognized"), 1, "{}", stranger.said);
}

/// Covers: RCV-4
#[test]
#[ignore = "cargo xtask test --with dicom-peers"]
fn findscu_is_told_that_there_is_nothing_to_find() {
    let (board, _folder) = Board::new(&Plan::default());
    let options = ["-P", "-k", "QueryRetrieveLevel=PATIENT", "-k", "PatientName"];
    let found = send("findscu", &board, &options, &[]);
    assert!(!found.success);
    assert_eq!(found.lines_with("No Acceptable Presentation Contexts"), 1, "{}", found.said);
    send("echoscu", &board, &[], &[]).expect_success("echoscu afterwards");
}

/// Covers: RCV-1, RCV-4, JDG-1, DLV-1, RES-1
#[test]
#[ignore = "cargo xtask test --with dicom-peers"]
fn storescu_stores_200_scans_over_8_associations_and_storescp_gets_all_results() {
    let archive = StoreScp::start();
    let (board, _folder) = Board::new(&Plan::with(archive.section("pacs")));
    let senders = folders_of(SCANS, SENDERS);
    let sent: Vec<Done> = thread::scope(|scope| {
        let board = &board;
        let start = |folder: &Path| {
            let folder = folder.to_owned();
            scope.spawn(move || send("storescu", board, &["+sd"], &[&folder]))
        };
        let running: Vec<_> = senders.iter().map(|folder| start(folder.path())).collect();
        running.into_iter().map(|sender| sender.join().expect("a sender")).collect()
    });
    for done in &sent {
        let answers = done.lines_with("Received Store Response (Success)");
        assert!(done.success && answers == SCANS / SENDERS, "{}", done.said);
    }
    println!("{SCANS} scans stored by {SENDERS} senders at once");
    archive.wait_for(SCANS * OBJECTS);
    eventually("every delivery is noted", || {
        (board.audit_text().matches("\"delivered\"").count() == SCANS).then_some(())
    });
    let text = board.audit_text();
    assert_eq!(text.matches("\"received\"").count(), SCANS);
    assert_eq!(text.matches("\"judged\"").count(), SCANS);
    assert!(board.stop().success());
    let complaints = archive.complaints();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    println!("{} objects delivered and read", archive.files().len());
}

/// Covers: RCV-4, JDG-1
#[test]
#[ignore = "cargo xtask test --with dicom-peers"]
fn scans_that_dcmtk_compressed_are_judged_if_they_can_be_decoded_and_refused_if_not() {
    let archive = StoreScp::start();
    let (board, _folder) = Board::new(&Plan::with(archive.section("pacs")));
    let folder = tempfile::tempdir().expect("a folder");
    let taken = [
        ("dcmcjpeg", "+e1", "-xs", uids::JPEG_LOSSLESS_SV1),
        ("dcmcrle", "+ot", "-xr", uids::RLE_LOSSLESS),
        ("dcmconv", "+ti", "-xi", uids::IMPLICIT_VR_LITTLE_ENDIAN),
        ("dcmconv", "+tb", "-xb", "1.2.840.10008.1.2.2"),
    ];
    for (number, (tool, option, proposal, syntax)) in taken.into_iter().enumerate() {
        let file = converted(folder.path(), number, tool, option);
        assert_eq!(object_file(&file).transfer_syntax, syntax, "{tool} {option}");
        send("storescu", &board, &[proposal], &[&file]).expect_success(syntax);
    }
    archive.wait_for(taken.len() * OBJECTS);
    let refused = converted(folder.path(), taken.len(), "dcmcjpls", "+el");
    assert_eq!(object_file(&refused).transfer_syntax, uids::JPEGLS_LOSSLESS);
    let answer = send("storescu", &board, &["-xt"], &[&refused]);
    assert!(!answer.success, "{}", answer.said);
    let text = board.audit_text();
    assert_eq!(text.matches("\"judged\"").count(), taken.len(), "{text}");
    assert_eq!(text.matches("\"received\"").count(), taken.len(), "{text}");
}

/// Scans in folders, one for each sender.
fn folders_of(scans_in_all: usize, senders: usize) -> Vec<TempDir> {
    let all = scans(scans_in_all);
    let filled = all.chunks(scans_in_all / senders).map(|part| {
        let folder = tempfile::tempdir().expect("a folder");
        for (number, bytes) in part.iter().enumerate() {
            fs::write(folder.path().join(format!("{number}.dcm")), bytes).expect("writes");
        }
        folder
    });
    filled.collect()
}

/// A scan as one of DCMTK's converters writes it.
fn converted(folder: &Path, number: usize, tool: &str, option: &str) -> PathBuf {
    let plain = folder.join(format!("{number}-plain.dcm"));
    let file = folder.join(format!("{number}.dcm"));
    fs::write(&plain, scans(number + 1).swap_remove(number)).expect("writes");
    run(tool, &[option.as_ref(), plain.as_os_str(), file.as_os_str()]).expect_success(tool);
    file
}

/// DCMTK's `storescp`, one process for each association: it would listen on all addresses, so
/// this one listens on loopback and hands the connections over as `inetd` does.
struct StoreScp {
    folder: TempDir,
    address: std::net::SocketAddr,
}

impl StoreScp {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let address = listener.local_addr().expect("an address");
        let output = folder.path().to_owned();
        // Ends with the process of the tests.
        thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.expect("a connection").into(), &output);
            }
        });
        Self { folder, address }
    }

    fn section(&self, name: &str) -> String {
        let address = self.address;
        format!(
            "[[destination]]\nname = \"{name}\"\naddress = \"{address}\"\nae_title = \"STORESCP\"\n"
        )
    }

    /// Waits until it has so many objects; it may take as long as they keep coming.
    fn wait_for(&self, count: usize) {
        for some in (0..count).step_by(30).chain([count]) {
            eventually("objects at storescp", || (self.files().len() >= some).then_some(()));
        }
        assert_eq!(self.files().len(), count);
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path()).expect("lists");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }

    fn complaints(&self) -> Vec<String> {
        let about = |file: &PathBuf| complaints_about(file, &object_file(file).sop_class);
        self.files().iter().flat_map(about).collect()
    }
}

fn serve(connection: OwnedFd, folder: &Path) {
    let served = Command::new("storescp")
        .args(["--inetd", "--output-directory"])
        .arg(folder)
        .stdin(Stdio::from(connection))
        .stdout(Stdio::null())
        .status();
    assert!(served.expect("storescp runs").success());
}
