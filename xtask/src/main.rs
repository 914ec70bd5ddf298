//! The project's tasks, as `cargo xtask <task>`: set up, show, test and check, with no script to
//! edit and no variable to set.
//!
//! One module per task: [`setup`], [`demo`], [`test`], [`fuzz`], [`bench`], [`dist`], [`image`],
//! [`flash`], [`keys`], [`update`] (`bundle`), [`deploy`], [`fleet`], [`logs`], [`lint`], [`tidy`],
//! [`launch`]. They share [`paths`] (where things are kept), [`target`] (the build folder),
//! [`cached`] (folders made once), [`process`] (how child programs run), [`peers`] (the Python
//! packages that tests and bench compare with) and [`board`] (what is known of each board).
//!
//! [`kernels`] and [`cross`] run tests on emulated ARM, [`remote`] and [`ssh`] on boards,
//! [`on_qemu`] in an emulated board.

mod bench;
mod board;
mod cached;
mod cross;
mod debian;
mod demo;
mod deploy;
mod dist;
mod flash;
mod fleet;
mod fuzz;
mod image;
mod kernels;
mod keys;
mod launch;
mod lint;
mod logs;
mod on_qemu;
mod paths;
mod peers;
mod process;
mod remote;
mod report;
mod scratch;
mod setup;
mod ssh;
mod suites;
mod target;
mod test;
mod tidy;
mod update;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use paths::Paths;

/// Tasks of the Spinesight workspace.
///
/// A first look needs only `cargo xtask demo`. Everything that is downloaded or built is kept
/// outside the clone, in the cache folder: $SPINESIGHT_CACHE, else $XDG_CACHE_HOME/spinesight,
/// else ~/.cache/spinesight.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Provide libtorch 2.11, which the training workstation needs
    ///
    /// Looks, in this order, for: the folder in $LIBTORCH; PyTorch 2.11 of the active Python; a
    /// copy in the cache folder. Where there is none, downloads about 530 MB from PyPI (or the
    /// index in $PIP_INDEX_URL), checks every file's digest, and keeps the 450 MB needed. An
    /// interrupted download continues where it stopped.
    Setup,
    /// Judge the sample X-rays with every model of the repository
    ///
    /// Builds the device program alone, without libtorch. The first build compiles the
    /// inference engine, which takes several minutes.
    Demo(demo::Arguments),
    /// Run every test: formatting, tidiness, unit tests, whole-system tests
    ///
    /// Sets up libtorch and a Python environment with the reference programs first, both in the
    /// cache folder. All failures are collected; the exit status is non-zero when there is one.
    Test(test::Arguments),
    /// Try everything that takes bytes from outside with inputs grown by libFuzzer
    ///
    /// Installs cargo-fuzz in the cache folder, where new inputs are kept too. The first build
    /// compiles the inference engine once more, which takes half an hour.
    Fuzz(fuzz::Arguments),
    /// Make the image of a board's card
    ///
    /// Assembled from Debian's packages for the board, the board's program and its bundles, as any
    /// user, with nothing of the board's run here. Fails when the result exceeds the budget in the
    /// board's file.
    Image(image::Arguments),
    /// Compare speed, memory and size with other runtimes on this machine
    ///
    /// Every contender runs the network of a bundle on one 224x224 picture at a time, in a process
    /// of its own; all take turns, so that changes of the machine's speed hit all alike. ONNX
    /// Runtime, OpenVINO and ncnn come from PyPI, in the cache folder; where one has no package
    /// for this machine, the table says so. Leave the machine alone meanwhile.
    Bench(bench::Arguments),
    /// Build the program for a board and pack it with its models, services and papers
    ///
    /// Cross-builds the tracked files (half an hour of processor time at first), checks size and
    /// memory against the board's budget, and makes an archive that is the same for the same
    /// commit: program, bundles, systemd units, configuration, bill of materials (CycloneDX),
    /// licences, digests. The program with symbols lies beside it; `logs` finds it there.
    Dist(dist::Arguments),
    /// Make the keys that updates are signed with
    ///
    /// Development keys are made by themselves when they are first needed, and kept in the cache
    /// folder. Release keys are made only with --out, or elsewhere, and named with --key.
    Keys(keys::Arguments),
    /// Make a signed update of a board, or of its model alone
    ///
    /// A board's update holds a slot's two partitions, from `cargo xtask image`, and is checked
    /// here as the board checks it. Its name says what it is for, which version, and whether it is
    /// signed for boards in development only, or not at all.
    Bundle(update::Arguments),
    /// Bring a release, or a model alone, onto a running board
    ///
    /// Over SSH. A board with an image of ours gets an update into its idle slot, restarts into
    /// it, and keeps it when it is well; else it goes back by itself. A board with its vendor's
    /// system gets an archive into a folder of its own beside the running one. The exit status is
    /// 0 only when the new one runs and has proven itself.
    Deploy(deploy::Arguments),
    /// Write an image to a card or a file, and read it back
    ///
    /// Refuses disks that are mounted, in use, the system's, not removable or too large, and asks
    /// for the disk's name. Until all of it is verified, the card does not boot: an interrupted or
    /// failed card is never half-good. The receipt is saved beside the image.
    Flash(flash::Arguments),
    /// Simulate staged updates of thousands of boards, and the rule that stops bad ones
    ///
    /// Good and bad updates go out in waves; the rule of xtask/fleet.md and two naive ones watch.
    /// Fails when the rule does not keep its promises. No board is touched.
    Fleet(fleet::Arguments),
    /// Print a board's log files
    ///
    /// A log holds numbers and values; the words are in the program that wrote it, which is found
    /// out by the build id in the log's name. The first call builds the decoder, which takes a
    /// minute.
    Logs(logs::Arguments),
    /// Check the formatting and run clippy, warnings being errors
    ///
    /// Separate from `test`, because clippy compiles every dependency once more.
    Lint,
    /// Check the rules of the repository that a program can check
    Tidy,
    /// Build and run the training workstation: `cargo xtask host --help`
    #[command(disable_help_flag = true)]
    Host {
        /// Passed to the host program as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        arguments: Vec<OsString>,
    },
    /// Build and run the board's program: `cargo xtask device --help`
    #[command(disable_help_flag = true)]
    Device {
        /// Passed to the device program as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        arguments: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            for cause in error.chain().skip(1) {
                eprintln!("  because: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    let paths = Paths::from_env()?;
    target::claim(&paths)?;
    match task {
        Task::Setup => setup::run(&paths),
        Task::Demo(arguments) => demo::run(&paths, &arguments),
        Task::Test(arguments) => test::run(&paths, &arguments),
        Task::Fuzz(arguments) => fuzz::run(&paths, &arguments),
        Task::Image(arguments) => image::run(&paths, &arguments),
        Task::Bench(arguments) => bench::run(&paths, &arguments),
        Task::Dist(arguments) => dist::run(&paths, &arguments),
        Task::Keys(arguments) => keys::run(&paths, &arguments),
        Task::Bundle(arguments) => update::run(&paths, &arguments),
        Task::Deploy(arguments) => deploy::run(&paths, &arguments),
        Task::Flash(arguments) => flash::run(&paths, &arguments),
        Task::Fleet(arguments) => fleet::run(&arguments),
        Task::Logs(arguments) => logs::run(&paths, &arguments),
        Task::Lint => lint::run(&paths),
        Task::Tidy => tidy::run(&paths),
        Task::Host { arguments } => launch::host(&paths, &arguments),
        Task::Device { arguments } => launch::device(&paths, &arguments),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_behind_a_program_name_belong_to_that_program() {
        for line in [["host", "--help"].as_slice(), &["host", "--", "--help"]] {
            let parsed = Arguments::try_parse_from(["xtask"].iter().chain(line)).unwrap();
            let Task::Host { arguments } = parsed.task else { panic!("not the host task") };
            assert_eq!(arguments, ["--help"]);
        }
    }
}
