//! The Python environment of the reference programs (ONNX's checker, ONNX Runtime, scikit-learn,
//! Pillow) that the whole-system tests compare with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::paths::Paths;
use crate::process;

/// Written last: an environment without it is incomplete.
const MARKER: &str = "complete";

/// The Python interpreter of an environment that holds exactly the pinned packages.
///
/// Environments lie in the cache folder, one for each content of the requirements file.
///
/// # Errors
/// When there is no Python that can make one, or the packages cannot be installed.
pub fn ensure(paths: &Paths) -> Result<PathBuf> {
    let requirements = paths.root.join("tests/peers/requirements.txt");
    let content = fs::read(&requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let folder = paths.cache.join(format!("peers-{}", short_digest(&content)));
    let _lock = process::lock(&folder.with_extension("lock"), "installing the reference programs")?;
    let python = folder.join("bin/python");
    if folder.join(MARKER).is_file() && works(&python) {
        return Ok(python);
    }
    let base = base_python()?;
    eprintln!("installing the reference programs of the tests into {}", folder.display());
    process::run(Command::new(base).args(["-m", "venv", "--clear"]).arg(&folder))?;
    install(&python, &requirements).context(
        "the reference programs could not be installed; they are pinned for CPython 3.11 to 3.14 \
         on Linux, and come from PyPI or the index in PIP_INDEX_URL",
    )?;
    fs::write(folder.join(MARKER), "")
        .with_context(|| format!("cannot write in {}", folder.display()))?;
    Ok(python)
}

fn short_digest(content: &[u8]) -> String {
    let mut digest = hex::encode(Sha256::digest(content));
    digest.truncate(12);
    digest
}

/// An environment breaks when the Python it was made with is removed.
fn works(python: &Path) -> bool {
    process::output(Command::new(python).arg("--version")).is_some()
}

fn install(python: &Path, requirements: &Path) -> Result<()> {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]);
    pip.args(["--require-hashes", "--only-binary", ":all:", "--requirement"]).arg(requirements);
    process::run(&mut pip)
}

/// A `python3` that can make virtual environments, installed when this process may do so.
fn base_python() -> Result<&'static str> {
    const PYTHON: &str = "python3";
    if makes_environments(PYTHON) {
        return Ok(PYTHON);
    }
    if may_install() {
        eprintln!("python3 with venv is missing: installing python3 and python3-venv with apt-get");
        apt_get(&["update", "--quiet=2"])?;
        apt_get(&[
            "install",
            "--quiet=2",
            "--yes",
            "--no-install-recommends",
            PYTHON,
            "python3-venv",
        ])?;
    }
    if !makes_environments(PYTHON) {
        bail!(
            "the tests need python3 (3.11 or later) with its venv module: install both (Debian, \
             Ubuntu: `apt-get install python3 python3-venv`)"
        );
    }
    Ok(PYTHON)
}

/// Debian ships `venv` without `ensurepip`, which it needs; both are asked for.
fn makes_environments(python: &str) -> bool {
    process::output(Command::new(python).args(["-c", "import ensurepip, venv"])).is_some()
}

fn may_install() -> bool {
    let root = process::output(Command::new("id").arg("-u")).as_deref() == Some("0");
    root && process::output(Command::new("apt-get").arg("--version")).is_some()
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    process::run(command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_content_makes_another_environment() {
        assert_eq!(short_digest(b"abc"), "ba7816bf8f01");
        assert_ne!(short_digest(b"numpy==1"), short_digest(b"numpy==2"));
    }

    #[test]
    fn an_interpreter_that_is_gone_does_not_work() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!works(&folder.path().join("bin/python")));
    }
}
