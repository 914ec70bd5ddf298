//! The sources that a board's program is built from: a copy of the tracked files, and of no others.
//!
//! The copy stands in the cache folder, so that all clones share what is compiled of other
//! packages; a file is written only when its content differs, so that cargo compiles no more than
//! what has changed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::paths::entries;
use crate::tidy::tree;

/// Makes `copy` hold the repository's files as they are in `root`, and nothing else.
///
/// # Errors
/// When a file cannot be read or written.
pub fn copy(root: &Path, copy: &Path) -> Result<()> {
    let paths = tree::paths(root)?;
    for path in &paths {
        let (from, to) = (root.join(path), copy.join(path));
        let bytes = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
        if fs::read(&to).is_ok_and(|present| present == bytes) {
            continue;
        }
        let write = || {
            fs::create_dir_all(to.parent().unwrap_or(copy))?;
            fs::write(&to, bytes)
        };
        write().with_context(|| format!("cannot write {}", to.display()))?;
    }
    let wanted: BTreeSet<_> = paths.iter().map(|path| copy.join(path)).collect();
    remove_others(copy, &wanted)
}

fn remove_others(folder: &Path, wanted: &BTreeSet<std::path::PathBuf>) -> Result<()> {
    for entry in entries(folder)? {
        if entry.is_dir() {
            remove_others(&entry, wanted)?;
        } else if !wanted.contains(&entry) {
            fs::remove_file(&entry)
                .with_context(|| format!("cannot remove {}", entry.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_follows_its_source_and_touches_only_what_differs() {
        let folder = tempfile::tempdir().unwrap();
        let (root, to) = (folder.path().join("clone"), folder.path().join("copy"));
        fs::create_dir_all(root.join("device/src")).unwrap();
        fs::write(root.join("device/src/a.rs"), "a").unwrap();
        fs::write(root.join("b"), "b").unwrap();
        copy(&root, &to).unwrap();
        let time = fs::metadata(to.join("b")).unwrap().modified().unwrap();
        fs::write(root.join("device/src/a.rs"), "changed").unwrap();
        fs::write(root.join("c"), "c").unwrap();
        copy(&root, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("device/src/a.rs")).unwrap(), "changed");
        assert_eq!(fs::metadata(to.join("b")).unwrap().modified().unwrap(), time);
        fs::remove_file(root.join("c")).unwrap();
        copy(&root, &to).unwrap();
        assert!(!to.join("c").exists());
    }
}
