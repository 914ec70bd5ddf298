//! Logs in files: which there are, which follows which, and what is in them.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::decode::{Printer, Style};
use super::elf::build_id_in_name;
use super::programs::Programs;
use crate::paths;

/// How often a followed file is looked at.
const PAUSE: Duration = Duration::from_millis(250);

/// Prints files, each by itself. With `follow` the last file and its successors are printed as they
/// grow, without end.
///
/// # Errors
/// When a file cannot be read or its program is not here, or the output does not take a line.
pub fn print(
    programs: &Programs,
    logs: &[PathBuf],
    style: Style,
    follow: bool,
    out: &mut impl Write,
) -> Result<()> {
    // First of all: whether every program is here.
    let readers = logs.iter().map(|log| Reader::open(programs, log, style));
    let mut readers = readers.collect::<Result<Vec<_>>>()?;
    for reader in &mut readers {
        reader.read(out)?;
    }
    match (readers.pop(), logs.last()) {
        (Some(last), Some(log)) if follow => {
            drop(readers);
            self::follow(programs, last, log, style, out)
        }
        _ => Ok(()),
    }
}

/// Ends with an error alone: a reader's, or that of an output that takes no more.
fn follow<'p>(
    programs: &'p Programs,
    mut reader: Reader<'p>,
    last: &Path,
    style: Style,
    out: &mut impl Write,
) -> Result<()> {
    let mut log = last.to_path_buf();
    loop {
        // Looked up first: what the older file has was written before.
        let next = successor(&log);
        reader.read(out)?;
        match next {
            Some(next) => {
                reader = Reader::open(programs, &next, style)?;
                log = next;
            }
            None => thread::sleep(PAUSE),
        }
    }
}

/// One log file, read so far.
struct Reader<'p> {
    name: String,
    file: File,
    printer: Printer<'p>,
}

impl<'p> Reader<'p> {
    fn open(programs: &'p Programs, log: &Path, style: Style) -> Result<Reader<'p>> {
        let name = log.display().to_string();
        let file = File::open(log).with_context(|| format!("cannot read {name}"))?;
        let printer = Printer::new(programs, name.clone(), build_id_in_name(log), style)?;
        Ok(Reader { name, file, printer })
    }

    /// Prints what the file has beyond what was read before.
    fn read(&mut self, out: &mut impl Write) -> Result<()> {
        let mut part = [0; 4096];
        loop {
            let length = self.file.read(&mut part);
            let length = length.with_context(|| format!("cannot read {}", self.name))?;
            if length == 0 {
                return Ok(());
            }
            self.printer.take(&part[..length], out)?;
        }
    }
}

/// The files, and those in the folders, each folder's oldest first.
///
/// # Errors
/// When a folder cannot be listed, or there is no file.
pub fn all(named: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in named {
        if path.is_dir() {
            files.extend(paths::entries(path)?.into_iter().filter(|file| is_log(file)));
        } else {
            files.push(path.clone());
        }
    }
    ensure!(!files.is_empty(), "there is no log file (their names end with `.defmt`)");
    Ok(files)
}

/// The log file that continues another one, where there is one: the next of the same build.
fn successor(file: &Path) -> Option<PathBuf> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let siblings = paths::entries(folder.unwrap_or(Path::new("."))).ok()?;
    let (_, build) = parts(file)?;
    let is_later = |other: &PathBuf| {
        is_log(other)
            && other.file_name() > file.file_name()
            && parts(other).is_some_and(|(_, its)| its == build)
    };
    siblings.into_iter().find(is_later)
}

fn parts(file: &Path) -> Option<(&str, &str)> {
    file.file_name()?.to_str()?.split_once('-')
}

fn is_log(file: &Path) -> bool {
    file.extension().is_some_and(|ending| ending == "defmt")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_folder_stands_for_its_logs_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["00000002-ab.defmt", "00000001-ab.defmt", "notes.txt"] {
            fs::write(path(name), "").unwrap();
        }
        let expected = [path("00000001-ab.defmt"), path("00000002-ab.defmt"), "x".into()];
        assert_eq!(all(&[folder.path().into(), "x".into()]).unwrap(), expected);
        fs::remove_file(path("00000001-ab.defmt")).unwrap();
        fs::remove_file(path("00000002-ab.defmt")).unwrap();
        assert!(all(&[folder.path().into()]).is_err());
    }

    #[test]
    fn a_file_is_followed_by_the_next_one_of_its_build() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["00000001-ab.defmt", "00000002-cd.defmt", "00000003-ab.defmt"] {
            fs::write(path(name), "").unwrap();
        }
        assert_eq!(successor(&path("00000001-ab.defmt")), Some(path("00000003-ab.defmt")));
        assert_eq!(successor(&path("00000003-ab.defmt")), None);
        assert_eq!(successor(&path("recording")), None);
    }
}
