//! Lengths that are not true, and objects that are too large.

use device::dicom::scu::{self, SendError};
use dicom_dictionary_std::uids;
use tests::board::{Board, Plan, eventually, object_file};
use tests::scans;

use super::peer::{
    PIECE, Peer, command_unit, data_unit, false_unit, identity, request, store, unit,
};
use super::witness::endure;

/// 2 GiB, as peers announce them.
const HUGE: u32 = 0x8000_0000;
/// How often each false length is tried.
const TIMES: usize = 20;
/// Status of an object for which there is no room.
const OUT_OF_RESOURCES: u16 = 0xA700;
/// Status of an object that cannot be read.
const UNREADABLE: u16 = 0xC000;
const MEGABYTE: usize = 1_000_000;

/// Covers: RCV-6, RCV-10
#[test]
#[ignore = "cargo xtask test --with hostile"]
fn a_unit_or_command_of_2_gib_is_refused_unread() {
    endure("2 GiB in units and commands", &Plan::default(), |board| {
        let command = store("2.25.668.1");
        let mut element = command.clone();
        element[4..8].copy_from_slice(&HUGE.to_le_bytes());
        let value = [&HUGE.to_be_bytes()[..], &[1, 3], &command].concat();
        for _ in 0..TIMES {
            let mut outside = Peer::connect(board).expect("connects");
            let _ = outside.send(&false_unit(1, &request()[6..], HUGE));
            outside.expect_end();
            let attempts = [false_unit(4, &command, HUGE), unit(4, &value), command_unit(&element)];
            for attempt in attempts {
                let mut inside = Peer::associate(board).expect("is accepted");
                let _ = inside.send(&attempt);
                inside.expect_end();
            }
        }
    });
}

/// Covers: RCV-6, RCV-10, JDG-1
#[test]
#[ignore = "cargo xtask test --with hostile"]
fn an_element_of_2_gib_is_refused_or_makes_a_scan_that_cannot_be_judged() {
    endure("2 GiB in data sets", &Plan::default(), |board| {
        for number in 0..TIMES {
            let instance = format!("2.25.669.{number}");
            let before = [element(0x08, 0x05, HUGE), identity(&instance)].concat();
            assert_eq!(send_object(board, &instance, &before), UNREADABLE);
            let after = [identity(&instance), element(0x10, 0x10, HUGE)].concat();
            assert_eq!(send_object(board, &instance, &after), 0, "is stored");
        }
        eventually("they are told as unjudged", || {
            (board.audit_text().matches("\"unjudged\"").count() == TIMES).then_some(())
        });
    });
}

/// Covers: RCV-6
#[test]
#[ignore = "cargo xtask test --with hostile"]
fn an_object_that_is_too_large_is_refused_and_leaves_nothing_behind() {
    endure("objects above the maximum", &Plan::default(), |board| {
        let instance = "2.25.670.1";
        let mut peer = Peer::announce(board, instance).expect("is accepted");
        peer.send_data(&identity(instance), false).expect("sends");
        let piece = data_unit(&[0; PIECE], false);
        // Three times the 100 MB that are taken.
        peer.send_data(&element(0x11, 0x10, 300 * MEGABYTE as u32), false).expect("sends");
        for _ in 0..300 * MEGABYTE / PIECE {
            peer.send(&piece).expect("is received to the end");
        }
        peer.send_data(&[0; 2], true).expect("sends");
        assert_eq!(peer.receive_status().expect("is answered"), OUT_OF_RESOURCES);
        assert!(!board.audit_text().contains("2.25.670"), "nothing names it");
    });
}

/// Covers: RCV-4
#[test]
#[ignore = "cargo xtask test --with hostile"]
fn deflated_objects_are_refused_in_negotiation() {
    let (board, folder) = Board::new(&Plan::default());
    let path = folder.path().join("scan.dcm");
    std::fs::write(&path, scans(1).remove(0)).expect("writes");
    let mut deflated = object_file(&path);
    deflated.transfer_syntax = uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN.into();
    let answer = scu::store(&board.destination(), &[deflated]);
    assert!(matches!(answer, Err(SendError::Unsupported)), "{answer:?}");
}

/// Sends a whole object; the status of the answer.
fn send_object(board: &Board, instance: &str, data: &[u8]) -> u16 {
    let mut peer = Peer::announce(board, instance).expect("is accepted");
    for piece in data.chunks(PIECE) {
        peer.send_data(piece, false).expect("sends");
    }
    peer.send_data(&[], true).expect("sends");
    peer.receive_status().expect("is answered")
}

/// The head of an element of unknown content, explicit little endian, with a long length.
fn element(group: u16, number: u16, length: u32) -> Vec<u8> {
    let mut bytes = group.to_le_bytes().to_vec();
    bytes.extend(number.to_le_bytes());
    bytes.extend(b"UN\0\0");
    bytes.extend(length.to_le_bytes());
    bytes
}
