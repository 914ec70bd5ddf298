//! Unpacks an archive into a folder of its own: plain files and folders alone, durably.

use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use super::{InstallError, at};
use crate::durable::{folder_of, sync_dir};

/// Most entries of an archive.
const MOST_ENTRIES: usize = 64;
/// Deepest place of an entry.
const MOST_PARTS: usize = 4;
/// Longest part of an entry's name.
const MOST_PART: usize = 64;

/// Unpacks a tar archive whose content lies at its root. Sizes are bounded by the archive's own,
/// for only plain files are taken.
///
/// # Errors
/// When an entry is no plain file or folder or lies outside, or something cannot be written.
pub(super) fn unpack(archive: &[u8], to: &Path) -> Result<(), InstallError> {
    make_dir(to).map_err(at(to))?;
    let mut dirs = vec![to.to_owned()];
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().map_err(InstallError::Archive)?;
    for (place, entry) in entries.enumerate() {
        let mut entry = entry.map_err(InstallError::Archive)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let refused = |problem| Err(InstallError::Entry { name: shown(&name), problem });
        if place >= MOST_ENTRIES {
            return refused("is one entry too many");
        }
        let kind = entry.header().entry_type();
        if !kind.is_file() && !kind.is_dir() {
            return refused("is neither a plain file nor a folder");
        }
        let Some(inside) = relative(&name) else {
            return refused("has a name that leads elsewhere, or is too long");
        };
        let path = to.join(&inside);
        let dir = if kind.is_dir() { path.as_path() } else { folder_of(&path) };
        make_dirs(to, dir, &mut dirs)?;
        if kind.is_file() {
            let size = entry.size();
            let written = write(&mut entry, &path).map_err(at(&path))?;
            if written != size {
                return refused("is cut off");
            }
        }
    }
    // The innermost first: a folder's name is durable after what it holds.
    for dir in dirs.iter().rev() {
        sync_dir(dir).map_err(at(dir))?;
    }
    Ok(())
}

/// A path below the root; none for one that is absolute, leads up, or is strange.
fn relative(name: &str) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in Path::new(name).components() {
        match part {
            Component::CurDir => {}
            Component::Normal(part) => {
                let part = part.to_str()?;
                if part.len() > MOST_PART || part.chars().any(char::is_control) {
                    return None;
                }
                path.push(part);
            }
            _ => return None,
        }
    }
    // What is not UTF-8 has been replaced by this.
    let is_strange = name.contains(char::REPLACEMENT_CHARACTER);
    (path.components().count() <= MOST_PARTS && !is_strange).then_some(path)
}

/// A name for people, without what could change their terminal.
fn shown(name: &str) -> String {
    name.chars().take(MOST_PART).flat_map(char::escape_debug).collect()
}

fn make_dirs(root: &Path, dir: &Path, made: &mut Vec<PathBuf>) -> Result<(), InstallError> {
    let mut path = root.to_owned();
    for part in dir.strip_prefix(root).into_iter().flat_map(Path::components) {
        path.push(part);
        if !made.contains(&path) {
            make_dir(&path).map_err(at(&path))?;
            made.push(path.clone());
        }
    }
    Ok(())
}

/// Makes a folder that the service, another user, can read; one that is there is left as it is.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir)?;
    fs::set_permissions(dir, Permissions::from_mode(0o755))
}

fn write(entry: &mut impl Read, path: &Path) -> io::Result<u64> {
    let mut file = File::create_new(path)?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    let written = io::copy(entry, &mut file)?;
    file.sync_all()?;
    Ok(written)
}
