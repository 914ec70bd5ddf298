//! Building a data set beside its target, and putting it there in one step.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::ImportError;
use crate::data::manifest::{self, Manifest};

/// A folder under construction; removed again unless committed.
pub(super) struct Staging {
    path: PathBuf,
    target: PathBuf,
}

/// What became of the output folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The folder was written.
    Written,
    /// The folder held this data set already.
    Unchanged {
        /// Files that were missing or damaged and are whole again.
        repaired: usize,
    },
}

impl Staging {
    /// Prepares to build what will be `target`, once it is clear that `target` may be written.
    pub(super) fn beside(target: &Path, source: &Path) -> Result<Self, ImportError> {
        let target = absolute(target)?;
        let source = fs::canonicalize(source).map_err(file_error(source))?;
        if target.starts_with(&source) {
            return Err(ImportError::OutputInsideSource);
        }
        if !is_vacant(&target)? && !target.join(manifest::FILE_NAME).is_file() {
            return Err(ImportError::OutputInUse(target));
        }
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let path = target.with_file_name(format!(".{name}.importing"));
        if path.exists() {
            fs::remove_dir_all(&path).map_err(file_error(&path))?;
        }
        fs::create_dir_all(&path).map_err(file_error(&path))?;
        Ok(Self { path, target })
    }

    /// The folder under construction.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file by its path inside the data set.
    pub(super) fn write(&self, file: &str, bytes: &[u8]) -> Result<(), ImportError> {
        let path = self.path.join(file);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(file_error(folder))?;
        }
        fs::write(&path, bytes).map_err(file_error(&path))
    }

    /// Moves the data set to its target, or mends the one that is there already.
    pub(super) fn commit(self, manifest: &Manifest) -> Result<Outcome, ImportError> {
        if is_vacant(&self.target)? {
            if self.target.exists() {
                fs::remove_dir(&self.target).map_err(file_error(&self.target))?;
            }
            fs::rename(&self.path, &self.target).map_err(file_error(&self.target))?;
            return Ok(Outcome::Written);
        }
        match Manifest::load(&self.target) {
            Ok(present) if present.digest() == manifest.digest() => self.mend(manifest),
            _ => Err(ImportError::DifferentDataSet(self.target.clone())),
        }
    }

    fn mend(&self, manifest: &Manifest) -> Result<Outcome, ImportError> {
        let mut repaired = 0;
        for file in manifest.records().iter().map(|r| r.file.as_str()) {
            let (new, old) = (self.path.join(file), self.target.join(file));
            let wanted = fs::read(&new).map_err(file_error(&new))?;
            if fs::read(&old).is_ok_and(|present| present == wanted) {
                continue;
            }
            if let Some(folder) = old.parent() {
                fs::create_dir_all(folder).map_err(file_error(folder))?;
            }
            fs::rename(&new, &old).map_err(file_error(&old))?;
            repaired += 1;
        }
        Ok(Outcome::Unchanged { repaired })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After a commit there is nothing to remove; after a failure, a folder that cannot be
        // removed is replaced by the next import.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Whether nothing, or an empty folder, is there.
fn is_vacant(path: &Path) -> Result<bool, ImportError> {
    match fs::read_dir(path) {
        Ok(mut items) => Ok(items.next().is_none()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(source) => Err(ImportError::File { path: path.to_path_buf(), source }),
    }
}

/// The target's absolute path; its parent folder is created.
fn absolute(target: &Path) -> Result<PathBuf, ImportError> {
    let target = std::path::absolute(target).map_err(file_error(target))?;
    let Some((parent, name)) = target.parent().zip(target.file_name()) else {
        return Err(ImportError::OutputInUse(target));
    };
    fs::create_dir_all(parent).map_err(file_error(parent))?;
    Ok(fs::canonicalize(parent).map_err(file_error(parent))?.join(name))
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> ImportError {
    let path = path.to_path_buf();
    move |source| ImportError::File { path, source }
}
