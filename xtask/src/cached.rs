//! Folders in the cache that are made once for each content they are made from.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::paths::Paths;
use crate::process;

/// Written last: a folder without it is incomplete.
const MARKER: &str = "complete";

/// The folder `NAME-DIGEST` of the cache, made by `make` unless it is complete and `is_usable`.
///
/// `content` is everything that the folder's content depends on; `make` gets the folder empty or
/// absent. `activity` tells other processes what they wait for.
///
/// # Errors
/// When the folder cannot be made.
pub fn folder(
    paths: &Paths,
    name: &str,
    content: &[&[u8]],
    activity: &str,
    is_usable: impl Fn(&Path) -> bool,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let folder = paths.cache.join(format!("{name}-{}", short_digest(content)));
    let _lock = process::lock(&folder.with_extension("lock"), activity)?;
    if folder.join(MARKER).is_file() && is_usable(&folder) {
        return Ok(folder);
    }
    let describe = || format!("cannot write in {}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(describe)?;
    }
    make(&folder)?;
    fs::write(folder.join(MARKER), "").with_context(describe)?;
    Ok(folder)
}

/// A program from crates.io, installed in the cache folder when it is missing.
///
/// # Errors
/// When it does not build.
pub fn tool(paths: &Paths, name: &str, version: &str) -> Result<PathBuf> {
    let program = |folder: &Path| folder.join("bin").join(name);
    let make = |folder: &Path| {
        let mut install = process::cargo(paths, &paths.cache.join("tools"));
        install.args(["install", name, "--locked", "--version", version, "--root"]);
        process::run(install.arg(folder))
    };
    let is_usable = |folder: &Path| program(folder).is_file();
    let activity = format!("installing {name}");
    let folder = folder(paths, name, &[version.as_bytes()], &activity, is_usable, make)?;
    Ok(program(&folder))
}

fn short_digest(content: &[&[u8]]) -> String {
    let mut whole = Sha256::new();
    content.iter().for_each(|part| whole.update(part));
    let mut digest = hex::encode(whole.finalize());
    digest.truncate(12);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    #[test]
    fn another_content_makes_another_folder() {
        assert_eq!(short_digest(&[b"abc"]), "ba7816bf8f01");
        assert_eq!(short_digest(&[b"a", b"bc"]), "ba7816bf8f01");
        assert_ne!(short_digest(&[b"numpy==1"]), short_digest(&[b"numpy==2"]));
    }

    #[test]
    fn a_folder_is_made_again_only_when_it_is_incomplete_or_unusable() {
        let home = tempfile::tempdir().unwrap();
        let cache = home.path().to_path_buf();
        let paths =
            Paths { root: cache.clone(), target: cache.clone(), own_target: cache.clone(), cache };
        let ask = |usable: bool, fails: bool| {
            let mut made = false;
            let make = |folder: &Path| {
                made = true;
                fs::create_dir(folder)?;
                if fails { bail!("broken") } else { Ok(()) }
            };
            let found = folder(&paths, "a", &[b"x"], "testing", |_| usable, make);
            (found.is_ok(), made)
        };
        assert_eq!(ask(true, true), (false, true));
        assert_eq!(ask(true, false), (true, true));
        assert_eq!(ask(true, false), (true, false));
        assert_eq!(ask(false, false), (true, true));
    }
}
