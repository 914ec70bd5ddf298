//! Independent readers: what they say against an object.

use std::ffi::OsStr;
use std::path::Path;

use dicom_dictionary_std::uids;

use super::tools::{Done, run};

/// What speaks against an object in a file: errors of `dciodvfy` (dicom3tools), and whatever
/// `dcmdump`, `dsrdump` and `dcmpschk` (DCMTK) cannot read or warn of.
pub fn complaints_about(file: &Path, sop_class: &str) -> Vec<String> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let mut complaints = Vec::new();
    let checked = read_with("dciodvfy", file);
    let errors = checked.said.lines().filter(|line| line.starts_with("Error"));
    complaints.extend(errors.map(|line| format!("{name}: dciodvfy: {line}")));
    for reader in readers(sop_class) {
        let Done { success, said } = read_with(reader, file);
        let bad = said.lines().filter(|line| is_complaint(line));
        complaints.extend(bad.map(|line| format!("{name}: {reader}: {line}")));
        if !success {
            complaints.push(format!("{name}: {reader} cannot read it"));
        }
    }
    complaints
}

fn readers(sop_class: &str) -> Vec<&'static str> {
    match sop_class {
        uids::COMPREHENSIVE_SR_STORAGE => vec!["dcmdump", "dsrdump"],
        uids::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE => vec!["dcmdump", "dcmpschk"],
        _ => vec!["dcmdump"],
    }
}

/// Names in other alphabets are copied, and the patient may have none; that a reader cannot check
/// the one and misses the other says nothing. The rest is the readers' own progress.
fn is_complaint(line: &str) -> bool {
    let harmless = ["Character Set", "CharacterSet", "patientName", ": Test"];
    let warned = line.starts_with("E:") || line.starts_with("W:");
    warned && !harmless.iter().any(|words| line.contains(words))
}

fn read_with(reader: &str, file: &Path) -> Done {
    run(reader, &[OsStr::new(file)])
}
