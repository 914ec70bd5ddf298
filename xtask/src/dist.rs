//! `cargo xtask dist`: what a board gets, in one archive that says what it is.
//!
//! The program is cross-built from the tracked files ([`source`], [`program`]) and packed with its
//! models, services and configuration ([`contents`], [`settings`], [`release`]), with what it is
//! made of ([`parts`], [`crates`], [`bundles`], [`sbom`], [`licences`]), in a form that is the same
//! for the same commit ([`archive`], [`reproducible`]).

mod archive;
mod bundles;
mod contents;
mod crates;
mod licences;
mod memory;
mod parts;
pub mod program;
pub mod release;
mod reproducible;
mod sbom;
pub mod settings;
mod source;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::board::Board;
use crate::cross::{Cross, Places, TARGET};
use crate::paths::Paths;
use crate::process;
use crate::scratch::Scratch;

use contents::Contents;
use program::Program;
use release::Release;

const MIB: f64 = (1_u64 << 20) as f64;

/// Command line of the distribution.
#[derive(clap::Args)]
pub struct Arguments {
    /// The board: a file of `xtask/boards` without its ending
    #[arg(long, value_name = "BOARD")]
    board: String,
    /// Folder for the archive and for the program with symbols, by which logs are decoded
    #[arg(long, value_name = "DIR", default_value = "dist")]
    out: PathBuf,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Build again from nothing in other folders and compare byte by byte
    #[arg(long)]
    check_reproducible: bool,
}

/// An archive that was made.
#[derive(Debug)]
pub struct Packed {
    /// The archive.
    pub archive: PathBuf,
    /// The folder it was packed from, with the same name inside the archive.
    pub folder: PathBuf,
    /// The program with symbols and debug data.
    pub elf: PathBuf,
    /// Bytes of the program without them.
    pub program_bytes: u64,
    /// The program's build id.
    pub build_id: String,
    /// Most memory of the program's self-test under the emulator, in bytes.
    pub memory_bytes: u64,
}

/// Makes a board's archive, and prints how large things are.
///
/// # Errors
/// When it does not build, passes a budget, or is not reproducible where that was asked for.
pub fn run(paths: &Paths, arguments: &Arguments) -> Result<()> {
    let board = Board::find(paths, &arguments.board)?;
    let cross = Cross::find(paths)?;
    let scratch = Scratch::new(&paths.cache.join("dist-work"))?;
    let places = Places::regular(paths)?;
    let packed = pack(paths, &cross, &board, &places, &scratch.folder("packed")?)?;
    if arguments.check_reproducible {
        reproducible::check(paths, &cross, &board, &packed)?;
    }
    let packed = keep(packed, &arguments.out)?;
    print(&board, &packed, arguments)
}

/// Makes a board's archive in `folder`.
///
/// # Errors
/// When it does not build, or passes a budget.
pub fn pack(
    paths: &Paths,
    cross: &Cross,
    board: &Board,
    places: &Places,
    folder: &Path,
) -> Result<Packed> {
    if board.triple != TARGET {
        bail!("{} is a {}, and only programs for {TARGET} are built", board.title, board.triple);
    }
    let release = Release::read(&paths.root)?;
    let bundles = bundles::of(&paths.root, board)?;
    let program = program::build(paths, cross, places, &folder.join("program"))?;
    program.check_size(board.budget.binary_mib)?;
    let parts = parts::find(cross, places)?;
    let contents = Contents {
        paths,
        cross,
        board,
        release: &release,
        program: &program,
        parts: &parts,
        bundles: &bundles,
    };
    let packed_from = contents.write(folder)?;
    let memory_bytes = try_out(cross, board, &packed_from)?;
    let archive = folder.join(format!("{}.tar.gz", release.name(board)));
    archive::pack(&packed_from, release.time, &archive)?;
    let program_bytes = program.size()?;
    let Program { elf, build_id, .. } = program;
    Ok(Packed { archive, folder: packed_from, elf, program_bytes, build_id, memory_bytes })
}

/// Lets the packed program check its configuration and test its model, and returns the memory that
/// took, in bytes.
fn try_out(cross: &Cross, board: &Board, folder: &Path) -> Result<u64> {
    let program = folder.join("bin/spinesight");
    let mut check = cross.emulated(&program, &board.cpu);
    check.arg("config").arg(folder.join("config/device.toml")).stdout(Stdio::null());
    process::run(&mut check)?;
    let judging = board.bundles.first().context("the board carries no bundle")?;
    let bundle = folder.join("bundles").join(judging);
    let memory = memory::self_test(&mut cross.emulated(&program, &board.cpu), &bundle)?;
    let budget = f64::from(board.budget.memory_mib);
    if memory as f64 / MIB > budget {
        bail!(
            "the program took {:.0} MiB under the emulator, and its budget is {budget} MiB",
            memory as f64 / MIB
        );
    }
    Ok(memory)
}

/// Moves what was made to where the user wants it.
fn keep(packed: Packed, out: &Path) -> Result<Packed> {
    let describe = || format!("cannot write in {}", out.display());
    fs::create_dir_all(out).with_context(describe)?;
    let copy = |file: &Path| -> Result<PathBuf> {
        let to = out.join(file.file_name().unwrap_or_default());
        fs::copy(file, &to).with_context(describe)?;
        Ok(to)
    };
    Ok(Packed { archive: copy(&packed.archive)?, elf: copy(&packed.elf)?, ..packed })
}

fn print(board: &Board, packed: &Packed, arguments: &Arguments) -> Result<()> {
    let Packed { archive, elf, program_bytes, build_id, memory_bytes, .. } = packed;
    let digest = archive::digest(archive)?;
    let archive_bytes = fs::metadata(archive)?.len();
    if arguments.json {
        let report = json!({
            "board": board.name,
            "archive": archive,
            "sha256": digest,
            "archive_bytes": archive_bytes,
            "elf": elf,
            "build_id": build_id,
            "program_bytes": program_bytes,
            "program_budget_bytes": u64::from(board.budget.binary_mib) << 20,
            "memory_bytes": memory_bytes,
            "memory_budget_bytes": u64::from(board.budget.memory_mib) << 20,
            "memory_measured": "self-test under the emulator",
            "reproduced": arguments.check_reproducible,
        });
        println!("{report}");
        return Ok(());
    }
    let mib = |bytes: u64| bytes as f64 / MIB;
    println!("{}", archive.display());
    println!("  SHA-256   {digest}");
    println!("  archive   {:.2} MiB", mib(archive_bytes));
    println!("  program   {:.2} MiB of at most {}", mib(*program_bytes), board.budget.binary_mib);
    println!(
        "  memory    {:.0} MiB of at most {}: its self-test, with the emulator's own",
        mib(*memory_bytes),
        board.budget.memory_mib
    );
    println!("  symbols   {}", elf.display());
    if arguments.check_reproducible {
        println!("  built again from nothing in other folders: the same bytes");
    }
    Ok(())
}
