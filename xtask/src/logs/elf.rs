//! The program that wrote a log: its format strings, and where in the source they are.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use defmt_decoder::{Locations, Table};
use object::{Object, ReadCache};

/// What a program's ELF file says about its log.
pub struct Program {
    /// In hexadecimal digits.
    pub build_id: String,
    /// Format strings by index.
    pub table: Table,
    /// Places in the source by index.
    pub locations: Locations,
}

impl Program {
    /// Reads an ELF file.
    ///
    /// # Errors
    /// When there is none, or it has no log or no build id.
    pub fn read(path: &Path) -> Result<Program> {
        let name = path.display();
        let bytes = fs::read(path).with_context(|| {
            format!("cannot read {name}: build it with `cargo device`, or name the one with --elf")
        })?;
        let table =
            Table::parse(&bytes).with_context(|| format!("{name} has a damaged log table"))?;
        let table = table.with_context(|| format!("{name} does not log"))?;
        let locations = table.get_locations(&bytes);
        let locations = locations.with_context(|| format!("{name} has damaged debug data"))?;
        let build_id = build_id(path).with_context(|| format!("{name} has no build id"))?;
        Ok(Program { build_id, table, locations })
    }
}

/// The build id of a program in hexadecimal digits, without reading all of it.
pub fn build_id(path: &Path) -> Option<String> {
    let cache = ReadCache::new(File::open(path).ok()?);
    let file = object::File::parse(&cache).ok()?;
    file.build_id().ok().flatten().map(hex::encode)
}

/// The build that wrote a log file, by the file's name, `NUMBER-BUILDID.defmt`. Another kind of
/// name, such as that of a recording of a serial port, does not tell.
pub fn build_id_in_name(log: &Path) -> Option<&str> {
    let (_, build_id) = log.file_name()?.to_str()?.strip_suffix(".defmt")?.split_once('-')?;
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    Some(build_id).filter(|text| !text.is_empty() && is_hex(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_build() {
        let build_id = |name: &'static str| build_id_in_name(Path::new(name));
        assert_eq!(build_id("logs/00000001-0aff.defmt"), Some("0aff"));
        assert_eq!(build_id("serial-recording.defmt"), None);
        assert_eq!(build_id("00000001-.defmt"), None);
        assert_eq!(build_id("00000001-0aff.txt"), None);
    }

    #[test]
    fn what_is_no_program_is_refused_in_plain_words() {
        let error = Program::read(Path::new("no/such/program")).err().unwrap();
        assert!(error.to_string().contains("--elf"), "{error}");
        let own = std::env::current_exe().unwrap();
        let error = Program::read(&own).err().unwrap();
        assert!(error.to_string().ends_with("does not log"), "{error}");
    }
}
