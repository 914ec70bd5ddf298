//! The program that wrote a log: its format strings, and where in the source they are.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use defmt_decoder::{Locations, Table};
use object::Object;

/// What a program's ELF file says about its log.
pub struct Program {
    path: PathBuf,
    /// In hexadecimal digits.
    build_id: String,
    pub table: Table,
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
        let file = object::File::parse(&*bytes).with_context(|| format!("{name} is no program"))?;
        let build_id = file.build_id().ok().flatten().map(hex::encode);
        let build_id = build_id.with_context(|| format!("{name} has no build id"))?;
        Ok(Program { path: path.into(), build_id, table, locations })
    }

    /// Whether this program wrote a log file, by the file's name; a file with another kind of name,
    /// such as a recording of a serial port, is taken on trust.
    ///
    /// # Errors
    /// When another build wrote it.
    pub fn check_wrote(&self, log: &Path) -> Result<()> {
        match build_id_in_name(log) {
            Some(build_id) if build_id != self.build_id => bail!(
                "{} was written by build {build_id}, but {} is build {}: name the other one with --elf",
                log.display(),
                self.path.display(),
                self.build_id
            ),
            Some(_) => {}
            None => eprintln!("{}: no build id in the name, so none is checked", log.display()),
        }
        Ok(())
    }
}

/// `NUMBER-BUILDID.defmt`.
fn build_id_in_name(log: &Path) -> Option<&str> {
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
