//! A folder for what is needed while something is made.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Removed when dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes the folder, empty.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(folder: &Path) -> Result<Scratch> {
        let describe = || format!("cannot make the folder {}", folder.display());
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(describe)?;
        }
        fs::create_dir_all(folder).with_context(describe)?;
        Ok(Scratch(fs::canonicalize(folder).with_context(describe)?))
    }

    /// A place in it that is not made yet.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A folder in it, made.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.path(name);
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        Ok(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left over is removed by the next run.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_empty_and_leaves_nothing() {
        let home = tempfile::tempdir().unwrap();
        let place = home.path().join("work");
        fs::create_dir(&place).unwrap();
        fs::write(place.join("old"), "").unwrap();
        let scratch = Scratch::new(&place).unwrap();
        assert!(!scratch.path("old").exists());
        fs::write(scratch.folder("a/b").unwrap().join("new"), "").unwrap();
        drop(scratch);
        assert!(!place.exists());
    }
}
