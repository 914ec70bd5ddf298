//! Python environments: of the reference programs (ONNX's checker, ONNX Runtime, scikit-learn,
//! Pillow) that the whole-system tests compare with, and of the benchmark's other runtimes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cached;
use crate::debian;
use crate::paths::Paths;
use crate::process;

/// Requirements of the whole-system tests, in the folder of all requirements files.
pub const TESTS: &str = "requirements.txt";

/// The Python interpreter of an environment that holds exactly the packages that a file of
/// `tests/peers` pins.
///
/// Environments lie in the cache folder, one for each content of a requirements file.
///
/// # Errors
/// When there is no Python that can make one, or the packages cannot be installed.
pub fn ensure(paths: &Paths, file: &str) -> Result<PathBuf> {
    let requirements = paths.root.join("tests/peers").join(file);
    let content = fs::read(&requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let python = |folder: &Path| folder.join("bin/python");
    let is_usable = |folder: &Path| works(&python(folder));
    let make = |folder: &Path| {
        let base = base_python()?;
        eprintln!("installing the reference programs of {file} into {}", folder.display());
        process::run(Command::new(base).args(["-m", "venv"]).arg(folder))?;
        install(&python(folder), &requirements).context(
            "the reference programs could not be installed; they are pinned for CPython 3.11 to \
             3.14 on Linux, and come from PyPI or the index in PIP_INDEX_URL",
        )
    };
    let activity = "installing the reference programs";
    Ok(python(&cached::folder(paths, "peers", &[&content], activity, is_usable, make)?))
}

/// An environment breaks when the Python it was made with is removed.
fn works(python: &Path) -> bool {
    process::output(Command::new(python).arg("--version")).is_some()
}

fn install(python: &Path, requirements: &Path) -> Result<()> {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]);
    // The files list all that is needed, and less than the packages themselves ask for.
    pip.args(["--require-hashes", "--no-deps", "--only-binary", ":all:", "--requirement"]);
    pip.arg(requirements);
    process::run(&mut pip)
}

/// A `python3` that can make virtual environments, installed when this process may do so.
fn base_python() -> Result<&'static str> {
    const PYTHON: &str = "python3";
    if makes_environments(PYTHON) {
        return Ok(PYTHON);
    }
    if debian::may_install() {
        eprintln!("python3 with venv is missing: installing python3 and python3-venv with apt-get");
        debian::install(&[PYTHON, "python3-venv"])?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interpreter_that_is_gone_does_not_work() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!works(&folder.path().join("bin/python")));
    }
}
