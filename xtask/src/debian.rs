//! Programs from Debian's packages.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::process;

/// A program that something needs.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its name on the path, or its absolute path.
    pub name: &'static str,
    /// Debian's package that has it.
    pub package: &'static str,
}

/// Provides programs: installs their packages where this process may, else says what to install.
///
/// # Errors
/// When a program is still missing.
pub fn ensure(programs: &[Program], purpose: &str) -> Result<()> {
    let missing = missing(programs);
    if missing.is_empty() {
        return Ok(());
    }
    if may_install() {
        eprintln!("installing for {purpose}: {}", missing.join(" "));
        install(&missing)?;
    }
    let missing = self::missing(programs);
    if !missing.is_empty() {
        bail!("{purpose} needs: apt-get install {}", missing.join(" "));
    }
    Ok(())
}

/// Installs packages without their recommendations.
///
/// # Errors
/// When apt-get fails.
pub fn install(packages: &[&str]) -> Result<()> {
    apt_get(&["update", "--quiet=2"])?;
    let options = ["install", "--quiet=2", "--yes", "--no-install-recommends"];
    apt_get(&[&options, packages].concat())
}

/// Whether this process is root on a Debian system.
pub fn may_install() -> bool {
    let root = process::output(Command::new("id").arg("-u")).as_deref() == Some("0");
    root && process::output(Command::new("apt-get").arg("--version")).is_some()
}

fn missing(programs: &[Program]) -> Vec<&'static str> {
    let mut packages: Vec<_> = programs
        .iter()
        .filter(|program| !is_installed(program.name))
        .map(|program| program.package)
        .collect();
    packages.dedup();
    packages
}

fn is_installed(name: &str) -> bool {
    if name.starts_with('/') {
        return Path::new(name).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    process::run(command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_by_package_once() {
        let program = |name, package| Program { name, package };
        let programs = [
            program("sh", "dash"),
            program("no-such-program-1", "some-package"),
            program("no-such-program-2", "some-package"),
            program("/no/such/file", "other-package"),
        ];
        assert_eq!(missing(&programs), ["some-package", "other-package"]);
    }
}
