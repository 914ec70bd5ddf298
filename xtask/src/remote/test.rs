//! `cargo xtask test --on MACHINE`: tests of programs that were compiled for AArch64.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use super::place::{Emulated, Place, RemoteFolder};
use super::{Address, archive, suite};
use crate::board::Board;
use crate::cross::{self, Cross};
use crate::kernels;
use crate::paths::Paths;
use crate::process;
use crate::report::Report;
use crate::target;

/// Processors by the emulator's names: the Raspberry Pi 4's, and one with every extension; and the
/// kernel that must be chosen on each.
const PROCESSORS: [(&str, &str); 2] = [("cortex-a72", "neon"), ("max", "sdot")];

/// A package with tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Package {
    /// The convolution kernels and the thread pool
    Kernels,
    /// The contract between workstation and board
    Models,
    /// Lamps, buzzer, button, display
    Panel,
    /// The board's library; half an hour of building at first, and emulated only, because its tests
    /// read files of the clone
    Device,
}

impl Package {
    /// What is tested unless the user says otherwise.
    const USUAL: [Package; 3] = [Package::Kernels, Package::Models, Package::Panel];

    fn name(self) -> &'static str {
        match self {
            Package::Kernels => kernels::NAME,
            Package::Models => "models",
            Package::Panel => "panel",
            Package::Device => "device",
        }
    }
}

/// Runs tests on every processor of the list; all failures are collected.
///
/// # Errors
/// When a tool is missing, a package does not build, a test fails, or another kernel is chosen than
/// should be.
pub fn emulated(paths: &Paths, packages: &[Package]) -> Result<()> {
    let cross = Cross::find(paths)?;
    let programs = Programs::build(paths, &cross, packages)?;
    let mut report = Report::default();
    for (processor, kernel) in PROCESSORS {
        let place = Emulated { cross: &cross, processor };
        programs.run_kernels(&place, kernel, &mut report);
    }
    // Nothing of theirs depends on the processor's extensions.
    let (processor, _) = PROCESSORS[0];
    programs.run_others(&Emulated { cross: &cross, processor }, &mut report);
    report.finish()
}

/// Runs tests on a board that is reached over SSH; all failures are collected.
///
/// # Errors
/// When no board answers, it is not the one, a tool is missing, a package does not build, a test
/// fails, or another kernel is chosen than should be.
pub fn on_board(paths: &Paths, name: &str, address: &Address, packages: &[Package]) -> Result<()> {
    let board = Board::find(paths, name)?;
    ensure!(
        board.triple == cross::TARGET,
        "tests are built for {}, but {} is {}",
        cross::TARGET,
        board.title,
        board.triple
    );
    ensure!(
        !packages.contains(&Package::Device),
        "the device's tests read files of the clone, which a board does not have: run them with \
         --on qemu-aarch64, or on the board with a clone and Rust there"
    );
    // First: building takes minutes.
    let host = address.host(paths, &board)?;
    let place = RemoteFolder::make(&board, &host, &paths.cache.join("test-on-board"))?;
    let cross = Cross::find(paths)?;
    let programs = Programs::build(paths, &cross, packages)?;
    let files = programs.all();
    eprintln!("sending test programs to {host}: {}", files.len());
    place.bring(&files)?;
    let mut report = Report::default();
    programs.run_kernels(&place, kernel_of(&board), &mut report);
    programs.run_others(&place, &mut report);
    report.finish()
}

/// The kernel that must be chosen on a board.
fn kernel_of(board: &Board) -> &'static str {
    if board.features.iter().any(|feature| feature == "dotprod") { "sdot" } else { "neon" }
}

/// Programs with tests, built for AArch64.
struct Programs {
    kernels: Option<Kernels>,
    /// Tests of packages of the workspace, by name.
    others: Vec<(String, PathBuf)>,
}

struct Kernels {
    /// Names the kernel that the processor gets.
    chooser: PathBuf,
    tests: Vec<(String, PathBuf)>,
}

impl Programs {
    fn build(paths: &Paths, cross: &Cross, packages: &[Package]) -> Result<Programs> {
        let packages = if packages.is_empty() { &Package::USUAL } else { packages };
        let folder = paths.cache.join("tests-aarch64");
        let _lock = process::lock(&folder.join("lock"), "building tests for AArch64")?;
        let wants_kernels = packages.contains(&Package::Kernels);
        let kernels = wants_kernels.then(|| kernels(paths, cross, &folder)).transpose()?;
        let others = packages.iter().filter(|package| **package != Package::Kernels);
        let others: Vec<_> = others.map(|package| package.name()).collect();
        let others = if others.is_empty() {
            Vec::new()
        } else {
            eprintln!("\n== building tests for AArch64: {}", others.join(", "));
            workspace_tests(paths, cross, &folder, &others)?
        };
        Ok(Programs { kernels, others })
    }

    fn all(&self) -> Vec<PathBuf> {
        let kernels = self.kernels.iter().flat_map(|kernels| {
            kernels.tests.iter().map(|(_, path)| path).chain([&kernels.chooser])
        });
        kernels.chain(self.others.iter().map(|(_, path)| path)).cloned().collect()
    }

    fn run_kernels(&self, place: &dyn Place, expected: &str, report: &mut Report) {
        let Some(kernels) = &self.kernels else { return };
        report.tell(&format!("choice of a kernel on {}", place.name()), || {
            chosen(place, &kernels.chooser, expected)
        });
        run(place, &kernels.tests, report);
    }

    fn run_others(&self, place: &dyn Place, report: &mut Report) {
        run(place, &self.others, report);
    }
}

fn run(place: &dyn Place, tests: &[(String, PathBuf)], report: &mut Report) {
    for (name, program) in tests {
        report.tell(&format!("{name} on {}", place.name()), || suite::run(place, program));
    }
}

/// Whether the program chooses the kernel it should.
fn chosen(place: &dyn Place, chooser: &Path, expected: &str) -> Result<String> {
    let mut command = place.command(chooser, &[])?;
    let chosen = process::output(command.stdin(Stdio::null()));
    let chosen = chosen.with_context(|| format!("no program runs on {}", place.name()))?;
    ensure!(chosen == expected, "the kernel must be {expected} there, not {chosen}");
    Ok(chosen)
}

fn kernels(paths: &Paths, cross: &Cross, folder: &Path) -> Result<Kernels> {
    eprintln!("\n== building the kernels' tests for AArch64");
    let package = kernels::Package::write(paths, cross)?;
    let cargo = |arguments: &[&str]| package.cargo(arguments);
    let tests = archive::make(paths, &folder.join(kernels::NAME), &[kernels::NAME], cargo)?;
    Ok(Kernels { chooser: package.chooser()?, tests })
}

fn workspace_tests(
    paths: &Paths,
    cross: &Cross,
    folder: &Path,
    packages: &[&str],
) -> Result<Vec<(String, PathBuf)>> {
    let target = folder.join("target");
    target::claim_folder(paths, &target)?;
    let cargo = |arguments: &[&str]| {
        let mut command = cross.cargo(&paths.root, "max", arguments)?;
        command.env("CARGO_TARGET_DIR", &target);
        Ok(command)
    };
    archive::make(paths, &folder.join("workspace"), packages, cargo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boards_features_choose_the_kernel() {
        let paths = Paths::from_env().unwrap();
        let kernel = |name: &str| kernel_of(&Board::find(&paths, name).unwrap());
        assert_eq!((kernel("rpi4"), kernel("rpi5")), ("neon", "sdot"));
    }

    #[test]
    fn a_board_is_not_asked_for_what_it_cannot_run() {
        let paths = Paths::from_env().unwrap();
        let run = |name: &str, packages: &[Package]| {
            on_board(&paths, name, &Address::default(), packages).unwrap_err().to_string()
        };
        assert!(run("rpi4", &[Package::Device]).contains("--on qemu-aarch64"));
        assert!(run("toaster", &[]).contains("there is no board `toaster`"));
    }
}
