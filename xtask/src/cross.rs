//! What compiles for AArch64 Linux and runs the result here.
//!
//! A Rust compiler is taken from rustup, where `rustup target add` has provided the target, else
//! from Debian. Debian's standard library for the target is unpacked into the cache folder, so
//! that neither root nor a second architecture in the package manager is needed; the two must be
//! of exactly the same version.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cached;
use crate::paths::{self, Paths};
use crate::process;

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";
const EMULATORS: [&str; 2] = ["qemu-aarch64-static", "qemu-aarch64"];
/// The C library that cross-compiled programs are linked with, and run with under the emulator.
pub const C_LIBRARY: &str = "/usr/aarch64-linux-gnu";
/// The compiler of Debian's package `rustc-web`.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// Debian's standard library for that compiler.
const DEBIAN_LIBRARY: &str = "libstd-rust-web-dev";

/// Tools for AArch64.
#[derive(Debug)]
pub struct Cross {
    compiler: Compiler,
    emulator: &'static str,
}

#[derive(Debug)]
enum Compiler {
    /// The one that cargo takes by itself.
    Active,
    /// Debian's, with a folder that has its standard library for the target.
    Debian { sysroot: PathBuf },
}

impl Cross {
    /// Finds all tools.
    ///
    /// # Errors
    /// Says what to install when something is missing.
    pub fn find(paths: &Paths) -> Result<Cross> {
        let emulator = EMULATORS.into_iter().find(|name| is_on_path(name));
        let libc = Path::new(C_LIBRARY).join("lib/libc.so.6");
        let Some(emulator) = emulator.filter(|_| is_on_path(LINKER) && libc.exists()) else {
            bail!(
                "a linker, a C library or an emulator for AArch64 is missing; on Debian: `apt-get \
                 install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static`"
            );
        };
        let active = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let compiler = if has_target(&active, &paths.root) {
            Compiler::Active
        } else if let Some(version) = debian_version() {
            Compiler::Debian { sysroot: debian_sysroot(paths, &version)? }
        } else {
            bail!(
                "no Rust compiler here builds for AArch64: run `rustup target add {TARGET}`, or on \
                 Debian `apt-get install rustc-web`"
            );
        };
        Ok(Cross { compiler, emulator })
    }

    /// `cargo` in a package that is no part of the workspace; programs run as on `processor`.
    ///
    /// Each compiler has a build folder of its own beside the package's sources.
    ///
    /// # Errors
    /// When the folder's name cannot be handed to the compiler.
    pub fn cargo(&self, package: &Path, processor: &str, arguments: &[&str]) -> Result<Command> {
        let mut command = process::cargo_in(package);
        command.args(arguments).args(["--target", TARGET]);
        command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER);
        let runner = format!("{} -cpu {processor} -L {C_LIBRARY}", self.emulator);
        command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", runner);
        match &self.compiler {
            Compiler::Active => {
                command.env("CARGO_TARGET_DIR", package.join("target"));
            }
            Compiler::Debian { sysroot } => {
                let sysroot = sysroot.to_str().context("the cache folder's name is no Unicode")?;
                command.env("CARGO_TARGET_DIR", package.join("target-debian"));
                command.env("RUSTC", DEBIAN_RUSTC);
                // The encoded form allows spaces in the path.
                command.env("CARGO_ENCODED_RUSTFLAGS", format!("--sysroot\x1f{sysroot}"));
            }
        }
        Ok(command)
    }
}

fn is_on_path(program: &str) -> bool {
    let folders = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

/// Whether a compiler has the target's standard library.
fn has_target(rustc: &OsStr, folder: &Path) -> bool {
    let mut command = Command::new(rustc);
    command.current_dir(folder).args(["--print", "target-libdir", "--target", TARGET]);
    process::output(&mut command).is_some_and(|folder| Path::new(&folder).is_dir())
}

/// The version of Debian's package of the compiler, where it is installed.
fn debian_version() -> Option<String> {
    let mut query = Command::new("dpkg-query");
    process::output(query.args(["--show", "--showformat=${Version}", "rustc-web"]))
        .filter(|version| !version.is_empty())
}

/// A folder with the standard library of the target, made once per version.
fn debian_sysroot(paths: &Paths, version: &str) -> Result<PathBuf> {
    let content = [DEBIAN_LIBRARY.as_bytes(), version.as_bytes()];
    let make = |folder: &Path| unpack_library(folder, version);
    let activity = "unpacking Rust's library for AArch64";
    cached::folder(paths, "rust-aarch64", &content, activity, |_| true, make)
}

fn unpack_library(folder: &Path, version: &str) -> Result<()> {
    eprintln!("downloading Rust's standard library for AArch64 from Debian: 35 MB");
    let libraries = folder.join("lib/rustlib");
    fs::create_dir_all(&libraries)?;
    let index = folder.join("apt");
    let package = download(&index, &format!("{DEBIAN_LIBRARY}={version}"))?;
    process::run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(folder))?;
    fs::remove_dir_all(&index)?;
    symlink(Path::new("../../usr/lib/rustlib").join(TARGET), libraries.join(TARGET))?;
    Ok(())
}

/// Gets one arm64 package with a package index of its own in `folder`: as any user, and without
/// changing what the system's package manager knows.
fn download(folder: &Path, package: &str) -> Result<PathBuf> {
    fs::create_dir_all(folder.join("lists/partial"))?;
    fs::create_dir_all(folder.join("cache/archives/partial"))?;
    fs::write(folder.join("status"), "")?;
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.current_dir(folder).arg("--quiet=2");
        for (option, path) in [
            ("Dir::State", ""),
            ("Dir::State::Lists", "lists"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", "cache"),
        ] {
            command.arg("--option").arg(joined(option, &folder.join(path)));
        }
        for option in ["APT::Architecture=arm64", "APT::Architectures=arm64", "APT::Sandbox::User="]
        {
            command.args(["--option", option]);
        }
        process::run(command.args(arguments))
    };
    apt(&["update"])?;
    apt(&["download", package])?;
    let files = paths::entries(folder)?;
    let is_package = |path: &PathBuf| path.extension().is_some_and(|e| e == "deb");
    files.into_iter().find(is_package).with_context(|| format!("apt-get left no {package}"))
}

fn joined(option: &str, path: &Path) -> OsString {
    let mut joined = OsString::from(format!("{option}="));
    joined.push(path);
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_for_on_the_path() {
        assert!(is_on_path("sh"));
        assert!(!is_on_path("no-such-program-anywhere"));
    }

    #[test]
    fn a_compiler_that_does_not_run_has_no_target() {
        assert!(!has_target("no-such-program-anywhere".as_ref(), Path::new("/")));
    }

    #[test]
    fn programs_run_under_the_emulator_as_on_the_processor() {
        let sysroot = PathBuf::from("/the cache");
        let cross = Cross { compiler: Compiler::Debian { sysroot }, emulator: EMULATORS[0] };
        let command = cross.cargo(Path::new("/p"), "cortex-a72", &["test"]).unwrap();
        let variable = |name: &str| {
            let found = command.get_envs().find(|(key, _)| *key == name)?.1?;
            Some(found.to_string_lossy().into_owned())
        };
        let runner = variable("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER").unwrap();
        assert!(runner.starts_with("qemu-aarch64-static -cpu cortex-a72 "));
        assert_eq!(variable("CARGO_ENCODED_RUSTFLAGS").unwrap(), "--sysroot\u{1f}/the cache");
        assert_eq!(variable("CARGO_TARGET_DIR").unwrap(), "/p/target-debian");
    }
}
