//! `cargo xtask setup`: libtorch 2.11, from what the machine has or from PyPI's wheels.
//!
//! PyPI's x86-64 PyTorch is the CUDA build, 3 GB with its dependencies. The CPU half needs three
//! of these wheels (530 MB) and of their content two NVIDIA libraries that `libtorch_cpu.so`
//! names, the headers, and itself: [`wheel`] pins them, [`index`] finds them, [`download`] gets
//! them, and this module assembles the folder that `torch-sys` builds against.

mod download;
mod index;
mod wheel;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::paths::Paths;
use crate::process;
use wheel::Wheel;

/// The PyTorch release series that `tch` 0.24 is made for.
const SERIES: &str = "2.11.";
/// Name of the assembled folder in the cache.
const FOLDER: &str = "libtorch-2.11.0";
/// Written last: a folder without it may be half a copy.
const MARKER: &str = "complete";
/// Stands in for PyTorch's own `libtorch.so`, an empty library that pulls in the CUDA half.
const LINKER_SCRIPT: &str = "INPUT(libtorch_cpu.so)\n";
/// The header that `torch-sys` includes; a PyTorch without headers cannot be built against.
const HEADER: &str = "include/torch/csrc/api/include/torch/torch.h";

#[cfg(target_os = "macos")]
const LIBRARY_PATH: &str = "DYLD_LIBRARY_PATH";
#[cfg(not(target_os = "macos"))]
const LIBRARY_PATH: &str = "LD_LIBRARY_PATH";

/// A libtorch to build and run against.
#[derive(Debug)]
pub struct Libtorch {
    /// Folder with `include` and `lib`.
    root: PathBuf,
    origin: Origin,
}

/// Where a libtorch comes from, for the user to know.
#[derive(Debug)]
enum Origin {
    Variable,
    Python { version: String },
    Cache,
    Adopted,
    Download,
}

impl Libtorch {
    /// Points a command, and what it starts, to this libtorch.
    pub fn apply(&self, command: &mut Command) {
        command.env("LIBTORCH", &self.root).env(LIBRARY_PATH, self.library_path());
        // Either would make `torch-sys` look elsewhere.
        command.env_remove("LIBTORCH_USE_PYTORCH").env_remove("LIBTORCH_LIB");
        command.env_remove("LIBTORCH_INCLUDE");
    }

    fn library_path(&self) -> OsString {
        let mut path = OsString::from(self.root.join("lib"));
        if let Some(others) = env::var_os(LIBRARY_PATH).filter(|value| !value.is_empty()) {
            path.push(":");
            path.push(others);
        }
        path
    }

    fn describe(&self) -> String {
        let origin = match &self.origin {
            Origin::Variable => "the folder in $LIBTORCH".to_owned(),
            Origin::Python { version } => format!("PyTorch {version} of the active Python"),
            Origin::Cache => "in the cache already".to_owned(),
            Origin::Adopted => "a folder found in the cache, checked and kept".to_owned(),
            Origin::Download => "downloaded from the Python package index".to_owned(),
        };
        format!("libtorch: {} ({origin})", self.root.display())
    }
}

/// Provides libtorch and says what to set in order to call cargo directly.
pub fn run(paths: &Paths) -> Result<()> {
    let libtorch = ensure(paths)?;
    let root = libtorch.root.display();
    println!(
        "{}\n\
         `cargo xtask` and `cargo host` use it by themselves; for plain cargo:\n  \
         export LIBTORCH='{root}'\n  \
         export {LIBRARY_PATH}=\"$LIBTORCH/lib${{{LIBRARY_PATH}:+:${LIBRARY_PATH}}}\"\n  \
         export CARGO_TARGET_DIR='{}'",
        libtorch.describe(),
        paths.target.display()
    );
    Ok(())
}

/// The libtorch to use, downloaded when the machine has none.
pub fn ensure(paths: &Paths) -> Result<Libtorch> {
    if let Some(folder) = env::var_os("LIBTORCH").filter(|value| !value.is_empty()) {
        return from_variable(folder.into());
    }
    if let Some(libtorch) = from_python(paths) {
        return Ok(libtorch);
    }
    let root = paths.cache.join(FOLDER);
    if is_complete(&root) {
        return Ok(Libtorch { root, origin: Origin::Cache });
    }
    check_platform()?;
    let _lock = process::lock(&paths.cache.join("setup.lock"), "setting up libtorch")?;
    if is_complete(&root) {
        return Ok(Libtorch { root, origin: Origin::Cache });
    }
    if is_functional(&root) {
        write_marker(&root)?;
        return Ok(Libtorch { root, origin: Origin::Adopted });
    }
    assemble(paths, &root).context(
        "libtorch could not be set up; run `cargo xtask setup` again to continue, or install \
         PyTorch 2.11 for Python, or set LIBTORCH to a folder that holds it",
    )?;
    Ok(Libtorch { root, origin: Origin::Download })
}

fn from_variable(root: PathBuf) -> Result<Libtorch> {
    let root = std::path::absolute(root)?;
    if !root.join(HEADER).is_file() {
        bail!("LIBTORCH is {}, which lacks {HEADER}: correct or unset it", root.display());
    }
    Ok(Libtorch { root, origin: Origin::Variable })
}

/// PyTorch of the active Python, where its version fits and its headers are there.
fn from_python(paths: &Paths) -> Option<Libtorch> {
    // Finds the package without importing it, which would take seconds.
    const LOCATE: &str = "import importlib.metadata as m, importlib.util as u\n\
        spec = u.find_spec('torch')\n\
        print(m.version('torch'), list(spec.submodule_search_locations)[0], sep='\\n')";
    let mut python = Command::new("python3");
    let found = process::output(python.args(["-c", LOCATE]).current_dir(&paths.root))?;
    let (version, folder) = found.split_once('\n')?;
    let root = PathBuf::from(folder);
    let fits = version.starts_with(SERIES) && root.join(HEADER).is_file();
    fits.then(|| Libtorch { root, origin: Origin::Python { version: version.to_owned() } })
}

fn check_platform() -> Result<()> {
    if cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")) {
        return Ok(());
    }
    bail!(
        "libtorch is downloaded for x86-64 Linux with glibc alone, and this is {} {}: install \
         PyTorch 2.11 (`python3 -m pip install torch==2.11.0`), or set LIBTORCH to a folder that \
         holds its `include` and `lib`",
        env::consts::ARCH,
        env::consts::OS
    )
}

fn is_complete(root: &Path) -> bool {
    root.join(MARKER).is_file() && is_functional(root)
}

/// Every file is there that a build or a run opens by name.
fn is_functional(root: &Path) -> bool {
    let libraries = wheel::libraries().map(|name| Path::new("lib").join(name));
    let others = [HEADER, "lib/libtorch.so"].map(PathBuf::from);
    libraries.chain(others).all(|file| root.join(file).is_file())
}

/// Downloads the wheels, takes from them what is needed, and moves the result into place whole.
fn assemble(paths: &Paths, root: &Path) -> Result<()> {
    check_compiler()?;
    let downloads = paths.cache.join("downloads");
    fs::create_dir_all(&downloads)
        .with_context(|| format!("cannot create {}", downloads.display()))?;
    let agent = download::agent();
    let base = index::base_from_env();
    let mut files = Vec::new();
    for wheel in &wheel::WHEELS {
        files.push(fetch(&agent, &base, wheel, &downloads)?);
    }
    let partial = paths.cache.join(format!("{FOLDER}.partial"));
    remove_folder(&partial)?;
    for (wheel, file) in wheel::WHEELS.iter().zip(&files) {
        wheel::extract(wheel, file, &partial)?;
    }
    let script = partial.join("lib/libtorch.so");
    fs::write(&script, LINKER_SCRIPT)
        .with_context(|| format!("cannot write {}", script.display()))?;
    ensure!(is_functional(&partial), "the wheels lack a file that the build needs");
    write_marker(&partial)?;
    remove_folder(root)?;
    fs::rename(&partial, root).with_context(|| format!("cannot create {}", root.display()))?;
    for file in files {
        fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
    }
    Ok(())
}

/// One wheel, verified, in the folder of downloads.
fn fetch(agent: &ureq::Agent, base: &str, wheel: &Wheel, downloads: &Path) -> Result<PathBuf> {
    let file = downloads.join(wheel.file);
    if file.is_file() {
        if download::digest(&file)? == wheel.sha256 {
            return Ok(file);
        }
        fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
    }
    let source = index::locate(agent, base, wheel)?;
    let part = downloads.join(format!("{}.part", wheel.file));
    download::fetch(agent, &source, wheel, &part)?;
    fs::rename(&part, &file).with_context(|| format!("cannot create {}", file.display()))?;
    Ok(file)
}

/// `torch-sys` compiles C++; better to say so before 530 MB than after.
fn check_compiler() -> Result<()> {
    let compiler = env::var_os("CXX").unwrap_or_else(|| "c++".into());
    if process::output(Command::new(&compiler).arg("--version")).is_none() {
        bail!(
            "no C++ compiler ({}): install one (Debian, Ubuntu: `apt-get install build-essential`)",
            compiler.to_string_lossy()
        );
    }
    Ok(())
}

/// Records what the folder was made of and the digests of its libraries.
fn write_marker(root: &Path) -> Result<()> {
    let mut text =
        String::from("# Written when the folder was whole: its sources and libraries.\n");
    for wheel in &wheel::WHEELS {
        text += &format!("{}  {}\n", wheel.sha256, wheel.file);
    }
    for name in wheel::libraries() {
        let file = Path::new("lib").join(name);
        text += &format!("{}  {}\n", download::digest(&root.join(&file))?, file.display());
    }
    let marker = root.join(MARKER);
    fs::write(&marker, text).with_context(|| format!("cannot write {}", marker.display()))
}

fn remove_folder(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn functional_folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let header = folder.path().join(HEADER);
        fs::create_dir_all(header.parent().unwrap()).unwrap();
        fs::write(header, "").unwrap();
        fs::create_dir(folder.path().join("lib")).unwrap();
        for name in wheel::libraries().chain(["libtorch.so"]) {
            fs::write(folder.path().join("lib").join(name), name).unwrap();
        }
        folder
    }

    #[test]
    fn a_folder_counts_once_its_marker_is_written() {
        let folder = functional_folder();
        assert!(is_functional(folder.path()));
        assert!(!is_complete(folder.path()));
        write_marker(folder.path()).unwrap();
        assert!(is_complete(folder.path()));
        let marker = fs::read_to_string(folder.path().join(MARKER)).unwrap();
        assert!(marker.contains("lib/libtorch_cpu.so"));
    }

    #[test]
    fn a_folder_that_lost_a_library_does_not_count() {
        for name in wheel::libraries() {
            let folder = functional_folder();
            write_marker(folder.path()).unwrap();
            fs::remove_file(folder.path().join("lib").join(name)).unwrap();
            assert!(!is_complete(folder.path()), "{name}");
        }
    }

    #[test]
    fn a_wrong_variable_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let error = from_variable(folder.path().into()).unwrap_err().to_string();
        assert!(error.contains("LIBTORCH") && error.contains("torch.h"), "{error}");
        assert!(from_variable(functional_folder().path().into()).is_ok());
    }

    #[test]
    fn a_command_sees_the_libraries_first() {
        let libtorch = Libtorch { root: "/torch".into(), origin: Origin::Variable };
        let mut command = Command::new("true");
        libtorch.apply(&mut command);
        let value = |name: &str| {
            let found = command.get_envs().find(|(key, _)| *key == name);
            found.and_then(|(_, value)| value).map(|v| v.to_string_lossy().into_owned())
        };
        assert_eq!(value("LIBTORCH").as_deref(), Some("/torch"));
        assert!(value(LIBRARY_PATH).unwrap().starts_with("/torch/lib"));
    }
}
