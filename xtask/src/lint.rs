//! `cargo xtask lint`: formatting and clippy.

use anyhow::{Result, bail};

use crate::paths::Paths;
use crate::process;
use crate::setup;

/// Both checks over the whole workspace, all targets.
pub fn run(paths: &Paths) -> Result<()> {
    format(paths)?;
    require(paths, "clippy", "clippy")?;
    let libtorch = setup::ensure(paths)?;
    let mut command = process::cargo(paths, &paths.target);
    command.args(["clippy", "--workspace", "--all-targets", "--features", "xtask/logs"]);
    command.args(["--", "-D", "warnings"]);
    libtorch.apply(&mut command);
    process::run(&mut command)
}

/// `cargo fmt --check`; nothing is rewritten.
pub fn format(paths: &Paths) -> Result<()> {
    require(paths, "fmt", "rustfmt")?;
    process::run(process::cargo(paths, &paths.target).args(["fmt", "--all", "--check"]))
}

/// Whether the toolchain has a cargo command.
pub fn is_installed(paths: &Paths, command: &str) -> bool {
    let mut version = process::cargo(paths, &paths.target);
    process::output(version.args([command, "--version"])).is_some()
}

fn require(paths: &Paths, command: &str, component: &str) -> Result<()> {
    if !is_installed(paths, command) {
        bail!("`cargo {command}` is not installed: run `rustup component add {component}`");
    }
    Ok(())
}
