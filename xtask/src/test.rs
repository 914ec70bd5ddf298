//! `cargo xtask test`: every check of the repository, all failures collected.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Result, bail};

use crate::lint;
use crate::on_qemu;
use crate::paths::Paths;
use crate::peers;
use crate::process;
use crate::remote::machine::Machine;
use crate::remote::{self, Address};
use crate::report::Report;
use crate::setup::{self, Libtorch};
use crate::suites::{self, Suite};
use crate::tidy;

/// Command line of the tests.
#[derive(clap::Args)]
pub struct Arguments {
    /// Run only the tests whose path contains EXPR, and neither formatting nor tidiness
    #[arg(long, value_name = "EXPR")]
    filter: Option<String>,
    /// Run what there is for another machine, and no other tests: `qemu-aarch64` (emulated
    /// processors with and without dot products), `qemu-virt` (a whole emulated board, from source
    /// to update: parity, smoke, updates and power, of which --filter picks some), or a board of
    /// `xtask/boards` over SSH
    #[arg(long, value_name = "MACHINE", conflicts_with = "cargo")]
    on: Option<Machine>,
    /// With --on: only the tests of these packages [default: kernels, models, panel]
    #[arg(long, value_name = "PACKAGES", value_delimiter = ',', requires = "on")]
    packages: Vec<remote::test::Package>,
    #[command(flatten)]
    address: Address,
    #[command(flatten)]
    emulated: on_qemu::Options,
    /// Run these suites, and no other tests; they install what they need
    #[arg(long, value_name = "SUITES", value_delimiter = ',', conflicts_with_all = ["filter", "on", "cargo"])]
    with: Vec<Suite>,
    /// Passed to `cargo test`, for example `-- --package device` or `-- -- --nocapture`
    #[arg(last = true, value_name = "ARGS")]
    cargo: Vec<OsString>,
}

impl Arguments {
    /// Whether only some of the tests are asked for.
    fn selects(&self) -> bool {
        self.filter.is_some() || !self.cargo.is_empty()
    }

    /// Whether `cargo test` is told its packages by the user.
    fn names_packages(&self) -> bool {
        let options = self.cargo.iter().take_while(|argument| *argument != "--");
        options
            .map(|argument| argument.to_string_lossy())
            .any(|argument| argument.starts_with("-p") || argument.starts_with("--package"))
    }
}

/// Sets up what the tests need, runs them, and prints what passed and what failed.
///
/// # Errors
/// When the set-up or any check fails.
pub fn run(paths: &Paths, arguments: &Arguments) -> Result<()> {
    let filter = arguments.filter.as_deref();
    match &arguments.on {
        Some(Machine::QemuVirt) => return on_qemu::run(paths, &arguments.emulated, filter),
        Some(_) if filter.is_some() => bail!("with --on, --filter picks trials of qemu-virt alone"),
        Some(Machine::QemuAarch64) => return remote::test::emulated(paths, &arguments.packages),
        Some(Machine::Board(name)) => {
            return remote::test::on_board(paths, name, &arguments.address, &arguments.packages);
        }
        None => {}
    }
    if !arguments.with.is_empty() {
        return suites::run(paths, &arguments.with);
    }
    let libtorch = setup::ensure(paths)?;
    let device = process::build_binary(paths, "device", Some(&libtorch))?;
    let python = peers::ensure(paths, peers::TESTS)?;
    let mut report = Report::default();
    if !arguments.selects() {
        if lint::is_installed(paths, "fmt") {
            report.step("formatting", || lint::format(paths));
        } else {
            eprintln!("skipped: formatting (`rustup component add rustfmt` installs the check)");
        }
        report.step("tidiness", || tidy::run(paths));
    }
    if arguments.cargo.is_empty() {
        report.step("tests of xtask", || test_xtask(paths, arguments));
    }
    report.step("tests", || test_workspace(paths, arguments, &libtorch, &python, &device));
    if !arguments.selects() {
        report.step("log", || test_log(paths));
    }
    report.finish()
}

/// Tests of xtask, in the folder and profile it was built in, where its dependencies are.
fn test_xtask(paths: &Paths, arguments: &Arguments) -> Result<()> {
    let mut command = process::cargo(paths, &paths.own_target);
    command.args(["test", "--profile", "xtask", "--package", "xtask", "--features", "logs"]);
    process::run(command.args(&arguments.filter))
}

/// Whether xtask reads back what a program of the board logs.
fn test_log(paths: &Paths) -> Result<()> {
    let mut command = process::cargo(paths, &paths.own_target);
    command.args(["test", "--profile", "xtask", "--package", "xtask", "--features", "logs"]);
    // What the test itself builds goes where everything but xtask is.
    command.arg("--target-dir").arg(&paths.own_target).env("CARGO_TARGET_DIR", &paths.target);
    command.args(["--", "--ignored", "logs::"]);
    process::run(&mut command)
}

fn test_workspace(
    paths: &Paths,
    arguments: &Arguments,
    libtorch: &Libtorch,
    python: &Path,
    device: &Path,
) -> Result<()> {
    let mut command = process::cargo(paths, &paths.target);
    command.args(["test", "--no-fail-fast"]);
    if !arguments.names_packages() {
        command.args(process::SELECTION);
    }
    command.args(&arguments.filter).args(&arguments.cargo).env("SPINESIGHT_PEERS", python);
    command.env("SPINESIGHT_DEVICE", device);
    libtorch.apply(&mut command);
    process::run(&mut command)
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::*;

    #[test]
    fn packages_are_recognised_before_the_test_programs_arguments() {
        let check = |line: &[&str], expected: bool| {
            let cargo = line.iter().map(OsString::from).collect();
            let none = Arguments::augment_args(clap::Command::new("test"));
            let none = none.get_matches_from(["test"]);
            let arguments = Arguments { cargo, ..Arguments::from_arg_matches(&none).unwrap() };
            assert_eq!(arguments.names_packages(), expected, "{line:?}");
        };
        check(&[], false);
        check(&["-p", "device"], true);
        check(&["-pdevice"], true);
        check(&["--package=device"], true);
        check(&["--release", "--", "-p"], false);
    }
}
