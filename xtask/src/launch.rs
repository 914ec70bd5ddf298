//! `cargo xtask host` and `cargo xtask device`: build a program and become it.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;

use crate::paths::Paths;
use crate::process;
use crate::setup;

/// Builds the training workstation and runs it with libtorch in reach; returns only on failure.
pub fn host(paths: &Paths, arguments: &[OsString]) -> Result<()> {
    let libtorch = setup::ensure(paths)?;
    let program = process::build_binary(paths, "host", Some(&libtorch))?;
    let mut command = Command::new(program);
    libtorch.apply(&mut command);
    process::replace(command.args(arguments))
}

/// Builds the board's program and runs it; returns only on failure.
pub fn device(paths: &Paths, arguments: &[OsString]) -> Result<()> {
    let program = process::build_binary(paths, "device", None)?;
    process::replace(Command::new(program).args(arguments))
}
