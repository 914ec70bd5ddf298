//! One build folder for several clones.
//!
//! Cargo names what it builds of a workspace by the path inside the workspace and judges its age by
//! file times, so a second clone could be given the first one's programs. Dependencies are shared
//! safely; what was built of the workspace's own packages is removed when another clone's turn
//! comes.

use std::fs;

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
    let owner = paths.target.join(OWNER_FILE);
    let root = paths.root.to_string_lossy();
    if fs::read_to_string(&owner).is_ok_and(|built_for| built_for == root) {
        return Ok(());
    }
    if paths.target.is_dir() {
        let mut command = process::cargo(paths, &paths.target);
        let packages = ["models", "host", "device", "panel", "tests"];
        command.args(["clean", "--quiet"]);
        command.args(packages.iter().flat_map(|package| ["--package", package]));
        process::run(&mut command)?;
    }
    fs::create_dir_all(&paths.target)
        .and_then(|()| fs::write(&owner, root.as_bytes()))
        .with_context(|| format!("cannot write {}", owner.display()))
}
