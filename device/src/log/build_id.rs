//! Which build is running: the GNU build id in the program's own ELF file.
//!
//! Format: ELF-64 and ELF-32 as in the System V ABI ("gABI", chapters 4 and 5), little endian; the
//! note is `NT_GNU_BUILD_ID` (3) of owner `GNU`.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::LogError;

const EXECUTABLE: u16 = 2;
const NOTES: u32 = 4;
const GNU_BUILD_ID: u32 = 3;
/// More than any linker writes; what is larger is not read.
const MAX_NOTES: u64 = 64 << 10;
const MAX_SEGMENTS: u16 = 256;

/// Build id of the running program in hexadecimal digits.
///
/// # Errors
/// [`LogError::NotLinkedForLog`] for a program whose log nobody could decode: one that is position
/// independent, as those of other packages and test programs are, or has no build id.
/// [`LogError::Program`] when its file cannot be read.
pub(super) fn of_this_program() -> Result<String, LogError> {
    let found = read(Path::new("/proc/self/exe")).map_err(LogError::Program)?;
    found.ok_or(LogError::NotLinkedForLog)
}

/// The build id; none where the file is no executable at fixed addresses with a build id.
fn read(path: &Path) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let mut header = [0; 64];
    file.read_exact(&mut header)?;
    let Some(layout) = Layout::of(&header) else { return Ok(None) };
    for segment in 0..layout.segments {
        let mut entry = vec![0; usize::from(layout.entry_size)];
        let place = u64::from(segment) * u64::from(layout.entry_size);
        file.seek(SeekFrom::Start(layout.table.saturating_add(place)))?;
        file.read_exact(&mut entry)?;
        let Some((start, length)) = layout.notes(&entry) else { continue };
        let mut notes = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        file.by_ref().take(length.min(MAX_NOTES)).read_to_end(&mut notes)?;
        if let Some(id) = build_id_in(&notes) {
            return Ok(Some(hex::encode(id)));
        }
    }
    Ok(None)
}

/// Where the program headers are, and how wide their fields.
struct Layout {
    is_64_bit: bool,
    table: u64,
    entry_size: u16,
    segments: u16,
}

impl Layout {
    fn of(header: &[u8; 64]) -> Option<Self> {
        let [magic, class, little_endian] = [&header[..4], &header[4..5], &header[5..6]];
        let is_64_bit = class == [2];
        if magic != b"\x7fELF" || little_endian != [1] || u16_at(header, 16)? != EXECUTABLE {
            return None;
        }
        let (table, entry_size, segments) = if is_64_bit {
            (u64_at(header, 32)?, u16_at(header, 54)?, u16_at(header, 56)?)
        } else {
            (u64::from(u32_at(header, 28)?), u16_at(header, 42)?, u16_at(header, 44)?)
        };
        let segments = segments.min(MAX_SEGMENTS);
        Some(Self { is_64_bit, table, entry_size, segments })
    }

    /// Offset and length of a segment in the file, where it holds notes.
    fn notes(&self, entry: &[u8]) -> Option<(u64, u64)> {
        if u32_at(entry, 0)? != NOTES {
            return None;
        }
        if self.is_64_bit {
            Some((u64_at(entry, 8)?, u64_at(entry, 32)?))
        } else {
            Some((u64::from(u32_at(entry, 4)?), u64::from(u32_at(entry, 16)?)))
        }
    }
}

/// Notes are name size, description size, type, name, description; both padded to four bytes.
fn build_id_in(mut notes: &[u8]) -> Option<&[u8]> {
    loop {
        let name_size = u32_at(notes, 0)? as usize;
        let size = u32_at(notes, 4)? as usize;
        let kind = u32_at(notes, 8)?;
        let name = notes.get(12..)?.get(..name_size)?;
        let rest = notes.get(12..)?.get(name_size.checked_next_multiple_of(4)?..)?;
        let description = rest.get(..size)?;
        if kind == GNU_BUILD_ID && name == b"GNU\0" && !description.is_empty() {
            return Some(description);
        }
        notes = rest.get(size.checked_next_multiple_of(4)?..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|chunk| u16::from_le_bytes(*chunk))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(kind: u32, name: &[u8], description: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [name.len() as u32, description.len() as u32, kind] {
            bytes.extend(number.to_le_bytes());
        }
        for part in [name, description] {
            bytes.extend(part);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    /// An ELF-64 file of one note segment behind its header.
    fn elf(kind: u16, notes: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[16..18].copy_from_slice(&kind.to_le_bytes());
        bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
        bytes[54..56].copy_from_slice(&56_u16.to_le_bytes());
        bytes[56..58].copy_from_slice(&1_u16.to_le_bytes());
        let mut segment = [0; 56];
        segment[..4].copy_from_slice(&NOTES.to_le_bytes());
        segment[8..16].copy_from_slice(&120_u64.to_le_bytes());
        segment[32..40].copy_from_slice(&(notes.len() as u64).to_le_bytes());
        bytes.extend(segment);
        bytes.extend(notes);
        bytes
    }

    fn check(bytes: &[u8], expected: Option<&str>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        assert_eq!(read(file.path()).unwrap().as_deref(), expected);
    }

    #[test]
    fn the_build_id_is_found_behind_other_notes() {
        let notes = [note(1, b"GNU\0", &[0; 16]), note(3, b"GNU\0", &[0xab, 0xcd, 0x01])].concat();
        check(&elf(EXECUTABLE, &notes), Some("abcd01"));
    }

    #[test]
    fn position_independent_programs_and_those_without_a_build_id_have_none() {
        let notes = note(3, b"GNU\0", &[1, 2]);
        check(&elf(3, &notes), None);
        check(&elf(EXECUTABLE, &note(3, b"XYZ\0", &[1, 2])), None);
        check(&elf(EXECUTABLE, &[]), None);
        check(&[0; 64], None);
    }

    #[test]
    fn sizes_that_leave_the_file_end_the_search() {
        let mut notes = note(3, b"GNU\0", &[1, 2, 3, 4]);
        notes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        check(&elf(EXECUTABLE, &notes), None);
        notes[0..4].copy_from_slice(&u32::MAX.to_le_bytes());
        check(&elf(EXECUTABLE, &notes), None);
    }
}
