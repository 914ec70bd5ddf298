//! Which log files there are, and which follows which.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::paths;

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
pub fn successor(file: &Path) -> Option<PathBuf> {
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
