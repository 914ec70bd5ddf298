//! `cargo xtask test --on qemu-virt`: the whole board, from source to update, in an emulator.
//!
//! Trials, in this order; `--filter` picks some by name:
//!
//! - [`parity`]: the board's program computes what this machine's does, bit for bit;
//! - [`smoke`]: a new card becomes a working board;
//! - [`updates`]: a good update is kept, six bad ones are not;
//! - [`power_cuts`]: an update can be cut off at any moment.
//!
//! The others begin with the card that `smoke` leaves in the work folder, `qemu-virt` in the cache,
//! so that a trial can be repeated alone. Cards and consoles of failed trials stay there too.

mod archive;
mod disk;
mod guest;
mod lab;
mod panel;
mod parity;
mod power;
mod power_cuts;
mod smoke;
mod stored;
mod updates;
mod write_log;
mod xray;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::board::Board;
use crate::cross::{Cross, Places};
use crate::debian;
use crate::dist;
use crate::image;
use crate::paths::Paths;
use crate::process;
use crate::report::Report;
use lab::Lab;
use updates::Updates;

/// The board.
const BOARD: &str = "qemu-virt";
/// The summary's file.
const SUMMARY: &str = "test-on-qemu-virt.md";

/// Options of the trials.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Options {
    /// With `--on qemu-virt`: cut the power at so many points of an update; 100 take an hour or two
    #[arg(long, value_name = "N", default_value_t = 2)]
    with_power_cuts: usize,
    /// With `--on qemu-virt`: what the points and the cache's losses are drawn from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// With `--on qemu-virt`: the board's program with its symbols [default: built now]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// With `--on qemu-virt`: folder that `cargo xtask image` has written [default: made now]
    #[arg(long, value_name = "DIR")]
    image: Option<PathBuf>,
    /// With `--on qemu-virt`: folder for the summary
    #[arg(long, value_name = "DIR", default_value = "dist")]
    out: PathBuf,
}

/// Runs the trials whose names contain `filter`; all failures are collected.
///
/// # Errors
/// When something cannot be installed or made, or a trial fails.
pub fn run(paths: &Paths, options: &Options, filter: Option<&str>) -> Result<()> {
    let is_wanted = |name: &str| filter.is_none_or(|filter| name.contains(filter));
    let wanted: Vec<&str> = ["parity", "smoke", "updates", "power"]
        .into_iter()
        .filter(|name| is_wanted(name))
        .collect();
    ensure!(!wanted.is_empty(), "the trials are parity, smoke, updates and power");
    let programs =
        [&guest::PROGRAMS[..], &disk::PROGRAMS, &xray::PROGRAMS, &updates::PROGRAMS].concat();
    debian::ensure(&programs, "the board in an emulator")?;
    let board = Board::find(paths, BOARD)?;
    let folder = paths.cache.join(BOARD);
    let _lock = process::lock(&folder.join("lock"), "testing on the emulated board")?;
    let lab = Lab::new(paths, board, folder)?;

    let program = program(paths, options, &lab)?;
    let mut report = Report::default();
    if wanted.contains(&"parity") {
        report.tell("parity", || parity::run(paths, &program));
    }
    if wanted != ["parity"] {
        let image = image_folder(paths, options, &lab, &program)?;
        on_card(paths, options, &lab, &image, &program, &wanted, &mut report)?;
    }
    summarise(&report, &options.out)?;
    report.finish()
}

/// The trials that need a card.
fn on_card(
    paths: &Paths,
    options: &Options,
    lab: &Lab,
    image: &Path,
    program: &Path,
    wanted: &[&str],
    report: &mut Report,
) -> Result<()> {
    if wanted.contains(&"smoke") || !lab.base.is_file() {
        report.tell("smoke", || smoke::run(paths, lab, &image.join("card.img"), program));
    }
    let with_updates = wanted.contains(&"updates");
    if !lab.base.is_file() || !with_updates && !wanted.contains(&"power") {
        return Ok(());
    }
    let updates = Updates::make(paths, lab, image)?;
    if with_updates {
        updates::run(lab, &updates, report);
    }
    if wanted.contains(&"power") && options.with_power_cuts > 0 {
        report.tell("power cuts", || {
            power_cuts::run(lab, &updates.good, options.with_power_cuts, options.seed)
        });
    }
    Ok(())
}

/// The board's program with its symbols.
fn program(paths: &Paths, options: &Options, lab: &Lab) -> Result<PathBuf> {
    if let Some(program) = &options.program {
        return Ok(program.clone());
    }
    let (cross, places) = (Cross::find(paths)?, Places::regular(paths)?);
    let built = dist::program::build(paths, &cross, &places, &lab.folder.join("program"))?;
    Ok(built.elf)
}

/// The folder with the card's image and its parts.
fn image_folder(paths: &Paths, options: &Options, lab: &Lab, program: &Path) -> Result<PathBuf> {
    if let Some(folder) = &options.image {
        return Ok(folder.clone());
    }
    let folder = lab.folder.join("image");
    image::make(paths, &image::Arguments::of(BOARD, &folder, program))?;
    Ok(folder)
}

/// Writes what became of every trial, for the README.
fn summarise(report: &Report, out: &Path) -> Result<()> {
    let file = out.join(SUMMARY);
    let describe = || format!("cannot write {}", file.display());
    fs::create_dir_all(out).with_context(describe)?;
    fs::write(&file, report.table()).with_context(describe)?;
    eprintln!("\nsummary: {}", file.display());
    Ok(())
}
