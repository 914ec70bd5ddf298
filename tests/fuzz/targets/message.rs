//! Any bytes are a command, a small data set and a commitment report, or typed refusals.
#![no_main]

use device::dicom::association::command::Command;
use device::dicom::association::data_set;
use device::dicom::commitment::Report;
use device::dicom::syntaxes::PLAIN;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (which, bytes) = input;
    if let Ok(command) = Command::decode(bytes) {
        assert_eq!(Command::decode(&command.encode()).as_ref(), Ok(&command));
    }
    let syntax = PLAIN[usize::from(which & 1)];
    if let Ok(object) = data_set::read(bytes, syntax) {
        let _ = data_set::write(&object, syntax);
    }
    let event_type = u16::from(which >> 1 & 3);
    if let Ok(report) = Report::read(event_type, bytes, syntax) {
        assert!(!report.committed.is_empty() || !report.failed.is_empty());
    }
});
