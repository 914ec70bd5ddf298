//! pynetdicom, and requests that it would never make.

use std::ffi::OsStr;
use std::path::PathBuf;

use tests::board::{BOARD, Board, CALLER, Plan};

use super::tools::run;

/// What `tests/peers/hostile_peer.py` tries.
const CASES: &str = "72 cases, 0 failures";

/// Covers: RCV-10
#[test]
#[ignore = "cargo xtask test --with dicom-peers"]
fn after_every_malformed_negotiation_and_message_the_board_answers() {
    let (board, _folder) = Board::new(&Plan::default());
    let python = std::env::var("SPINESIGHT_PEERS")
        .expect("SPINESIGHT_PEERS names the Python with pynetdicom, as `cargo xtask test` sets it");
    let script = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/peers/hostile_peer.py"));
    let (host, port) = (board.dicom.ip().to_string(), board.dicom.port().to_string());
    let arguments = [script.as_os_str()];
    let more = [&host, &port, BOARD, CALLER].map(OsStr::new);
    let done = run(&python, &[&arguments[..], &more].concat());
    println!("{}", done.said);
    assert!(done.success && done.said.contains(CASES), "{}", done.said);
    assert!(board.stop().success(), "the service ends in good order");
}
