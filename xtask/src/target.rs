//! One build folder for several clones.
//!
//! Cargo names what it builds of a workspace by the path inside the workspace and judges its age by
//! file times, so a second clone could be given the first one's programs. Dependencies are shared
//! safely; what was built of the workspace's own packages is removed when another clone's turn
//! comes.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::paths::Paths;
use crate::process;

/// Says inside the build folder which clone built last.
const OWNER_FILE: &str = "built-for";

/// Makes the build folder this clone's.
///
/// # Errors
/// When another clone's programs cannot be removed.
pub fn claim(paths: &Paths) -> Result<()> {
    claim_folder(paths, &paths.target)
}

/// Makes a build folder this clone's.
///
/// # Errors
/// When another clone's programs cannot be removed.
pub fn claim_folder(paths: &Paths, folder: &Path) -> Result<()> {
    let owner = folder.join(OWNER_FILE);
    let root = paths.root.to_string_lossy();
    if fs::read_to_string(&owner).is_ok_and(|built_for| built_for == root) {
        return Ok(());
    }
    if folder.is_dir() {
        let mut command = process::cargo(paths, folder);
        let packages = ["models", "host", "device", "panel", "tests"];
        command.args(["clean", "--quiet"]);
        command.args(packages.iter().flat_map(|package| ["--package", package]));
        process::run(&mut command)?;
    }
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&owner, root.as_bytes()))
        .with_context(|| format!("cannot write {}", owner.display()))
}
