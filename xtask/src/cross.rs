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
use crate::debian::{self, Program};
use crate::paths::{self, Paths};
use crate::process;

/// The platform of all boards.
pub const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";
const EMULATORS: [&str; 2] = ["qemu-aarch64-static", "qemu-aarch64"];
/// The C library that cross-compiled programs are linked with, and run with under the emulator.
const C_LIBRARY: &str = "/usr/aarch64-linux-gnu";
/// What is needed beside a Rust compiler.
const TOOLS: [Program; 2] = [
    Program { name: LINKER, package: "gcc-aarch64-linux-gnu" },
    Program { name: "/usr/aarch64-linux-gnu/lib/libc.so.6", package: "libc6-dev-arm64-cross" },
];
const EMULATOR: Program = Program { name: EMULATORS[0], package: "qemu-user-static" };
/// Debian's package of a current compiler.
const DEBIAN_COMPILER: &str = "rustc-web";
/// That compiler.
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
    Active { rustc: OsString },
    /// Debian's, with a folder that has its standard library for the target.
    Debian { sysroot: PathBuf },
}

/// Folders that a program for boards is built in; nothing in the program tells which.
#[derive(Debug)]
pub struct Places {
    /// The workspace.
    pub source: PathBuf,
    /// What is built.
    pub target: PathBuf,
    /// Cargo's home folder, with the sources of other packages.
    pub crates: PathBuf,
}

impl Cross {
    /// Finds all tools; installs those that are missing where this process may.
    ///
    /// # Errors
    /// Says what to install when something is missing.
    pub fn find(paths: &Paths) -> Result<Cross> {
        let purpose = "building for AArch64";
        debian::ensure(&TOOLS, purpose)?;
        let found = EMULATORS.into_iter().find(|name| is_on_path(name));
        let emulator = match found {
            Some(emulator) => emulator,
            None => {
                debian::ensure(&[EMULATOR], purpose)?;
                EMULATOR.name
            }
        };
        let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let compiler = if has_target(&rustc, &paths.root) {
            Compiler::Active { rustc }
        } else {
            Compiler::Debian { sysroot: debian_sysroot(paths, &debian_version()?)? }
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
        let runner = format!("{} -cpu {processor} -L {C_LIBRARY}", self.emulator);
        command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", runner);
        let folder = match self.compiler {
            Compiler::Active { .. } => "target",
            Compiler::Debian { .. } => "target-debian",
        };
        command.env("CARGO_TARGET_DIR", package.join(folder));
        self.compile_with(&mut command, self.flags()?);
        Ok(command)
    }

    /// `cargo` for programs that boards get: whatever of the folders would go into a program is
    /// replaced by a fixed name, so that the same sources make the same bytes everywhere.
    ///
    /// # Errors
    /// When a folder's name cannot be handed to the compiler.
    pub fn cargo_in(&self, places: &Places) -> Result<Command> {
        let [source, target, crates] =
            [&places.source, &places.target, &places.crates].map(|place| text(place));
        let [source, target, crates] = [source?, target?, crates?];
        let mut flags = self.flags()?;
        for (folder, name) in [(source, "/spinesight"), (crates, "/cargo"), (target, "/target")] {
            flags.push(format!("--remap-path-prefix={folder}={name}"));
        }
        flags.extend(self.library_sources());
        let mut command = process::cargo_in(&places.source);
        self.compile_with(&mut command, flags);
        command.env("CARGO_TARGET_DIR", target).env("CARGO_HOME", crates);
        let flags_of_c =
            format!("-ffile-prefix-map={target}=/target -ffile-prefix-map={crates}=/cargo");
        command.env("CC_aarch64_unknown_linux_gnu", LINKER);
        command.env("AR_aarch64_unknown_linux_gnu", "aarch64-linux-gnu-ar");
        command.env("CFLAGS_aarch64_unknown_linux_gnu", flags_of_c);
        // The commit's time would be no better: what is built once serves later commits.
        command.env("SOURCE_DATE_EPOCH", "0");
        // The workspace's own setting holds, not this terminal's.
        command.env_remove("DEFMT_LOG");
        Ok(command)
    }

    /// A program of the board, run as on `processor`; arguments and environment come behind.
    pub fn emulated(&self, program: &Path, processor: &str) -> Command {
        let mut command = Command::new(self.emulator);
        command.args(["-cpu", processor, "-L", C_LIBRARY]).arg(program);
        // The inference engine would look at this machine's processor.
        let kind = processor.strip_prefix("cortex-").unwrap_or("generic");
        command.env("TRACT_CPU_AARCH64_KIND", kind);
        command
    }

    /// What the compiler says of itself: `rustc -vV`.
    ///
    /// # Errors
    /// When it does not run.
    pub fn compiler_version(&self) -> Result<String> {
        let rustc = match &self.compiler {
            Compiler::Active { rustc } => rustc.as_os_str(),
            Compiler::Debian { .. } => DEBIAN_RUSTC.as_ref(),
        };
        process::output(Command::new(rustc).arg("-vV")).context("the Rust compiler does not run")
    }

    /// Copyright and licence of Rust's standard library, where the compiler came with them.
    pub fn library_licence(&self) -> Option<PathBuf> {
        let file = match &self.compiler {
            Compiler::Active { rustc } => sysroot_of(rustc)?.join("share/doc/rust/COPYRIGHT"),
            Compiler::Debian { sysroot } => {
                sysroot.join("usr/share/doc").join(DEBIAN_LIBRARY).join("copyright")
            }
        };
        file.is_file().then_some(file)
    }

    /// Hands compiler, linker and flags to cargo.
    fn compile_with(&self, command: &mut Command, flags: Vec<String>) {
        command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER);
        if let Compiler::Debian { .. } = self.compiler {
            command.env("RUSTC", DEBIAN_RUSTC);
        }
        if !flags.is_empty() {
            // The encoded form allows spaces in paths.
            command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        }
    }

    fn flags(&self) -> Result<Vec<String>> {
        match &self.compiler {
            Compiler::Active { .. } => Ok(Vec::new()),
            Compiler::Debian { sysroot } => Ok(vec!["--sysroot".into(), text(sysroot)?.to_owned()]),
        }
    }

    /// Where rustup has the standard library's sources, they stand in programs by their place.
    fn library_sources(&self) -> Option<String> {
        let Compiler::Active { rustc } = &self.compiler else { return None };
        let sources = sysroot_of(rustc)?.join("lib/rustlib/src/rust");
        let version = process::output(Command::new(rustc).arg("-vV"))?;
        let commit = version.lines().find_map(|line| line.strip_prefix("commit-hash: "))?;
        Some(format!("--remap-path-prefix={}=/rustc/{commit}", sources.to_str()?))
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("the folder's name is no Unicode: {}", path.display()))
}

fn sysroot_of(rustc: &OsStr) -> Option<PathBuf> {
    process::output(Command::new(rustc).args(["--print", "sysroot"])).map(PathBuf::from)
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

/// The version of Debian's package of the compiler, which is installed where this process may.
fn debian_version() -> Result<String> {
    let version = || {
        let mut query = Command::new("dpkg-query");
        process::output(query.args(["--show", "--showformat=${Version}", DEBIAN_COMPILER]))
            .filter(|version| !version.is_empty())
    };
    if version().is_none() && debian::may_install() {
        eprintln!("installing a Rust compiler that builds for AArch64: {DEBIAN_COMPILER}");
        debian::install(&[DEBIAN_COMPILER])?;
    }
    let Some(version) = version() else {
        bail!(
            "no Rust compiler here builds for AArch64: run `rustup target add {TARGET}`, or on \
             Debian `apt-get install {DEBIAN_COMPILER}`"
        );
    };
    Ok(version)
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

    fn debian() -> Cross {
        Cross {
            compiler: Compiler::Debian { sysroot: "/the cache".into() },
            emulator: EMULATORS[0],
        }
    }

    fn variable(command: &Command, name: &str) -> String {
        let found = command.get_envs().find(|(key, _)| *key == name).and_then(|(_, value)| value);
        found.unwrap_or_default().to_string_lossy().into_owned()
    }

    #[test]
    fn programs_run_under_the_emulator_as_on_the_processor() {
        let command = debian().cargo(Path::new("/p"), "cortex-a72", &["test"]).unwrap();
        let runner = variable(&command, "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER");
        assert!(runner.starts_with("qemu-aarch64-static -cpu cortex-a72 "));
        assert_eq!(variable(&command, "CARGO_ENCODED_RUSTFLAGS"), "--sysroot\u{1f}/the cache");
        assert_eq!(variable(&command, "CARGO_TARGET_DIR"), "/p/target-debian");
    }

    #[test]
    fn a_boards_program_is_built_with_fixed_names_for_all_folders() {
        let places =
            Places { source: "/s s".into(), target: "/t".into(), crates: "/h/.cargo".into() };
        let command = debian().cargo_in(&places).unwrap();
        let flags = variable(&command, "CARGO_ENCODED_RUSTFLAGS");
        let flags: Vec<&str> = flags.split('\x1f').collect();
        let expected = [
            "--sysroot",
            "/the cache",
            "--remap-path-prefix=/s s=/spinesight",
            "--remap-path-prefix=/h/.cargo=/cargo",
            "--remap-path-prefix=/t=/target",
        ];
        assert_eq!(flags, expected);
        let flags = variable(&command, "CFLAGS_aarch64_unknown_linux_gnu");
        assert!(flags.contains("-ffile-prefix-map=/t=/target"), "{flags}");
        assert_eq!(variable(&command, "CARGO_HOME"), "/h/.cargo");
    }

    #[test]
    fn an_emulated_program_is_told_which_processor_it_has() {
        let command = debian().emulated(Path::new("/p"), "cortex-a76");
        assert_eq!(variable(&command, "TRACT_CPU_AARCH64_KIND"), "a76");
        let words: Vec<_> = command.get_args().collect();
        assert_eq!(words, ["-cpu", "cortex-a76", "-L", C_LIBRARY, "/p"]);
    }
}
