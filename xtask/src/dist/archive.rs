//! A folder becomes one file, the same for the same content: fixed order, owners, times and
//! permissions, and the digest of every file inside.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::paths::entries;
use crate::process;

/// The file inside that lists the digests of all others, for `sha256sum --check`.
pub const DIGESTS: &str = "SHA256SUMS";

/// Writes the digests of all files of a folder into it.
///
/// # Errors
/// When a file cannot be read or written.
pub fn seal(folder: &Path) -> Result<()> {
    let mut files = Vec::new();
    collect(folder, &mut files)?;
    let mut text = String::new();
    for file in files {
        let name = file.strip_prefix(folder)?.to_str().context("a file's name is no Unicode")?;
        if name != DIGESTS {
            let _ = writeln!(text, "{}  {name}", digest(&file)?);
        }
    }
    let path = folder.join(DIGESTS);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Files of a folder and of those in it, sorted.
///
/// # Errors
/// When a folder cannot be listed.
pub fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in entries(folder)? {
        if entry.is_dir() {
            collect(&entry, found)?;
        } else {
            found.push(entry);
        }
    }
    Ok(())
}

/// SHA-256 of a file in hexadecimal digits.
///
/// # Errors
/// When it cannot be read.
pub fn digest(file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(hex::encode(Sha256::digest(bytes)))
}

/// Packs the folder, under its own name, into a `.tar.gz` file; `time` (seconds since 1970) becomes
/// every file's.
///
/// # Errors
/// When tar or gzip fails.
pub fn pack(folder: &Path, time: u64, archive: &Path) -> Result<()> {
    let place = folder.parent().context("a folder without a place")?;
    let name = folder.file_name().context("a folder without a name")?;
    let plain = archive.with_extension("");
    let mut tar = Command::new("tar");
    tar.args(["--create", "--sort=name", "--format=gnu", "--owner=0", "--group=0"]);
    tar.args(["--numeric-owner", "--mode=u=rwX,go=rX", &format!("--mtime=@{time}")]);
    tar.arg("--file").arg(&plain).arg("--directory").arg(place).arg(name);
    process::run(tar.env("LC_ALL", "C"))?;
    // Without `--no-name`, the time of packing would stand in the file.
    process::run(Command::new("gzip").args(["--force", "--no-name", "-9"]).arg(&plain))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A folder `name` in `place` with two files, written in the given order.
    fn folder(place: &Path, order: [&str; 2], mode: u32) -> PathBuf {
        let folder = place.join("spinesight");
        for name in order {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, name).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        folder
    }

    #[test]
    fn what_holds_the_same_is_packed_the_same() {
        let place = tempfile::tempdir().unwrap();
        let make = |name: &str, order, mode| {
            let place = place.path().join(name);
            let folder = folder(&place, order, mode);
            seal(&folder).unwrap();
            let archive = place.join("a.tar.gz");
            pack(&folder, 1_000_000_000, &archive).unwrap();
            fs::read(archive).unwrap()
        };
        let one = make("one", ["bin/x", "y"], 0o644);
        assert_eq!(one, make("another", ["y", "bin/x"], 0o600));
        assert_ne!(one, make("third", ["y", "bin/z"], 0o644));
    }

    #[test]
    fn digests_are_those_that_sha256sum_checks() {
        let place = tempfile::tempdir().unwrap();
        let folder = folder(place.path(), ["bin/x", "y"], 0o644);
        seal(&folder).unwrap();
        seal(&folder).unwrap();
        let text = fs::read_to_string(folder.join(DIGESTS)).unwrap();
        let names: Vec<_> = text.lines().map(|line| line.split_once("  ").unwrap().1).collect();
        assert_eq!(names, ["bin/x", "y"]);
        let check = || {
            let mut command = Command::new("sha256sum");
            command.args(["--check", "--strict", DIGESTS]).current_dir(&folder);
            process::output(&mut command)
        };
        assert!(check().is_some());
        fs::write(folder.join("y"), "changed").unwrap();
        assert!(check().is_none());
    }
}
