//! Log files of bounded size and number, a set for each build.
//!
//! A file is called `NUMBER-BUILDID.defmt`: eight decimal digits that grow, then the build id of the
//! program that wrote it and can decode it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::outlet::Sink;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// A file that has reached so many bytes is followed by a new one.
    pub(super) file_bytes: u64,
    /// Number of files, of all builds together; the oldest are removed.
    pub(super) files: usize,
}

/// The newest log file, open to append.
#[derive(Debug)]
pub(super) struct LogFiles {
    folder: PathBuf,
    build_id: String,
    limits: Limits,
    file: File,
    number: u32,
    length: u64,
}

impl LogFiles {
    /// Continues this build's newest file where no other build has written since and it has space;
    /// else begins a new one. Makes the folder where it is missing.
    pub(super) fn open(folder: &Path, build_id: &str, limits: Limits) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let newest = list(folder)?.pop();
        let last = newest.as_ref().map_or(0, |(number, _)| *number);
        let own = newest.filter(|(_, path)| path.ends_with(file_name(last, build_id)));
        let folder = folder.to_path_buf();
        if let Some((number, path)) = own {
            let file = OpenOptions::new().append(true).open(path)?;
            let length = file.metadata()?.len();
            return Ok(Self { folder, build_id: build_id.into(), limits, file, number, length });
        }
        let number = last.checked_add(1).ok_or(io::ErrorKind::QuotaExceeded)?;
        let file = create(&folder, number, build_id, limits)?;
        Ok(Self { folder, build_id: build_id.into(), limits, file, number, length: 0 })
    }

    fn rotate(&mut self) -> io::Result<()> {
        let number = self.number.checked_add(1).ok_or(io::ErrorKind::QuotaExceeded)?;
        self.file = create(&self.folder, number, &self.build_id, self.limits)?;
        (self.number, self.length) = (number, 0);
        Ok(())
    }
}

impl Sink for LogFiles {
    fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        if self.length > 0 && self.length + frame.len() as u64 > self.limits.file_bytes {
            self.rotate()?;
        }
        self.file.write_all(frame)?;
        self.length += frame.len() as u64;
        Ok(())
    }
}

/// A new file, after those it would be one too many with are gone.
fn create(folder: &Path, number: u32, build_id: &str, limits: Limits) -> io::Result<File> {
    let old = list(folder)?;
    let excess = (old.len() + 1).saturating_sub(limits.files.max(1));
    for (_, path) in &old[..excess] {
        fs::remove_file(path)?;
    }
    let path = folder.join(file_name(number, build_id));
    OpenOptions::new().append(true).create_new(true).open(path)
}

fn file_name(number: u32, build_id: &str) -> String {
    format!("{number:08}-{build_id}.defmt")
}

/// Log files in a folder with their numbers, oldest first; other files are none of ours.
fn list(folder: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        found.extend(number_of(&path).map(|number| (number, path)));
    }
    found.sort();
    Ok(found)
}

fn number_of(path: &Path) -> Option<u32> {
    let (number, build_id) = path.file_name()?.to_str()?.strip_suffix(".defmt")?.split_once('-')?;
    let is_ours = !build_id.is_empty()
        && build_id.bytes().all(|byte| byte.is_ascii_hexdigit())
        && number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse().ok().filter(|_| is_ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { file_bytes: 10, files: 3 };

    fn names(folder: &Path) -> Vec<String> {
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        list(folder).unwrap().iter().map(|(_, path)| name(path)).collect()
    }

    #[test]
    fn files_are_bounded_in_size_and_number() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("notes.txt"), "kept").unwrap();
        let mut files = LogFiles::open(folder.path(), "ab", LIMITS).unwrap();
        for byte in 0..9 {
            files.write(&[byte; 4]).unwrap();
        }
        let expected = ["00000003-ab.defmt", "00000004-ab.defmt", "00000005-ab.defmt"];
        assert_eq!(names(folder.path()), expected);
        let content = fs::read(folder.path().join(expected[1])).unwrap();
        assert_eq!(content, [6, 6, 6, 6, 7, 7, 7, 7]);
        assert!(folder.path().join("notes.txt").is_file());
    }

    #[test]
    fn a_frame_longer_than_a_file_is_still_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = LogFiles::open(folder.path(), "ab", LIMITS).unwrap();
        files.write(&[1; 20]).unwrap();
        files.write(&[2; 20]).unwrap();
        assert_eq!(names(folder.path()).len(), 2);
    }

    #[test]
    fn a_restart_continues_the_file_and_another_build_begins_its_own() {
        let folder = tempfile::tempdir().unwrap().path().join("new");
        let open = |build_id| LogFiles::open(&folder, build_id, LIMITS).unwrap();
        open("ab").write(&[1; 4]).unwrap();
        open("ab").write(&[2; 4]).unwrap();
        open("cd").write(&[3; 4]).unwrap();
        open("ab").write(&[4; 4]).unwrap();
        assert_eq!(names(&folder), ["00000001-ab.defmt", "00000002-cd.defmt", "00000003-ab.defmt"]);
        assert_eq!(fs::read(folder.join("00000001-ab.defmt")).unwrap().len(), 8);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn only_names_of_this_form_are_log_files() {
        let is_ours = |name: &str| number_of(Path::new(name)).is_some();
        assert!(is_ours("00000042-0aff.defmt"));
        let others = [
            "42.defmt",
            "-ab.defmt",
            "+1-ab.defmt",
            "1-.defmt",
            "1-xy.defmt",
            "1-ab.txt",
            "99999999999-ab.defmt",
        ];
        for name in others {
            assert!(!is_ours(name), "{name}");
        }
    }
}
