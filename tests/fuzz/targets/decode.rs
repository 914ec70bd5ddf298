//! Any bytes are a radiograph or a typed refusal.
#![no_main]

use device::decode::radiograph_from_bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(scan) = radiograph_from_bytes(bytes) {
        assert_eq!(scan.samples().len(), scan.width() as usize * scan.height() as usize);
    }
});
