//! What damaged files cost. The only test of its process, whose memory it measures.
#![cfg(target_os = "linux")]

use std::fs;

use device::decode::radiograph_from_bytes;
use tests::dicom_file;

/// Most that the peak may grow, in KiB.
const ALLOWED: u64 = 256 * 1024;

#[test]
fn no_flipped_byte_of_a_dicom_file_costs_much_memory() {
    let whole = dicom_file();
    let pixels = whole.windows(4).position(|tag| tag == b"\xE0\x7F\x10\x00").expect("has pixels");
    assert!(radiograph_from_bytes(&whole).is_ok());
    let before = peak();
    // Preamble and pixels declare nothing.
    for at in 128..pixels + 12 {
        for flip in [0x11, 0xFF] {
            let mut flipped = whole.clone();
            flipped[at] ^= flip;
            let _ = radiograph_from_bytes(&flipped);
            let grown = peak() - before;
            assert!(grown < ALLOWED, "{grown} KiB after byte {at} was flipped by {flip:#04x}");
        }
    }
}

/// The most memory this process ever had resident, in KiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("the process is described");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
