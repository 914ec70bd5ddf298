//! `cargo xtask image`: the image of a board's card, made by any user from Debian's packages, the
//! board's program and its bundles.
//!
//! The card has two slots, of which one runs and the other takes the next update; see
//! [`card`] for the partitions. A slot is a FAT partition with the kernel ([`boot`]) and a root
//! file system ([`root`]) that cannot be written and is checked block by block ([`verity`]). Both
//! slots of a new card hold the same. Packages are unpacked, never run ([`packages`]); what their
//! scripts would do is done here, offline.

mod boot;
mod card;
mod modules;
mod packages;
mod root;
mod tools;
pub mod verity;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::board::Board;
use crate::cross::{Cross, Places};
use crate::debian;
use crate::dist::program::{self, Program};
use crate::dist::release::Release;
use crate::paths::Paths;
use crate::scratch::Scratch;

/// Command line of the image.
#[derive(clap::Args)]
pub struct Arguments {
    /// The board: a file of `xtask/boards` without its ending
    #[arg(long, value_name = "BOARD")]
    board: String,
    /// Folder for the image and its parts [default: `dist/BOARD`]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The board's program, with symbols [default: built as `cargo xtask dist` does]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Provisioning file for the card's first partition, consumed at the first start
    #[arg(long, value_name = "FILE")]
    provision: Option<PathBuf>,
    /// Certificate (PEM) of the authority whose updates the board takes [default: the development
    /// authority]
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,
    /// Public key (PEM) of whose model updates the board takes [default: the development key]
    #[arg(long, value_name = "FILE")]
    model_key: Option<PathBuf>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// What was made, and how large it is.
#[derive(Debug, Serialize)]
pub struct Made {
    /// The board's name.
    pub board: String,
    /// The card's image.
    pub card: PathBuf,
    /// A slot's boot partition.
    pub boot: PathBuf,
    /// A slot's root file system with its hash tree.
    pub root: PathBuf,
    /// `NAME=value` lines that are in the root file system too.
    pub release: PathBuf,
    /// Bytes of the card's image.
    pub card_bytes: u64,
    /// Bytes of the root file system with its hash tree.
    pub root_bytes: u64,
    /// Bytes of the kernel.
    pub kernel_bytes: u64,
    /// Bytes of the initial RAM disk.
    pub initrd_bytes: u64,
    /// Bytes of the board's program.
    pub program_bytes: u64,
    /// What it may be: of the root file system, in bytes.
    pub root_budget: u64,
    /// What it may be: of the program, in bytes.
    pub program_budget: u64,
}

impl Arguments {
    /// For an image of a board in a folder, with development keys.
    pub fn of(board: &str, out: &Path, program: &Path) -> Arguments {
        Arguments {
            board: board.to_owned(),
            out: Some(out.to_owned()),
            program: Some(program.to_owned()),
            provision: None,
            keyring: None,
            model_key: None,
            json: false,
        }
    }
}

/// Makes the image and prints what became of it.
///
/// # Errors
/// When a part is missing, a tool fails, or the result passes its budget.
pub fn run(paths: &Paths, arguments: &Arguments) -> Result<()> {
    let made = make(paths, arguments)?;
    if arguments.json {
        println!("{}", serde_json::to_string(&made)?);
    } else {
        print(&made);
    }
    check_budget(&made)
}

/// Makes the image.
///
/// # Errors
/// When a part is missing or a tool fails.
pub fn make(paths: &Paths, arguments: &Arguments) -> Result<Made> {
    let board = Board::find(paths, &arguments.board)?;
    let image = board.image()?;
    debian::ensure(&tools::NEEDED, "the image")?;
    let out = arguments.out.clone().unwrap_or_else(|| Path::new("dist").join(&board.name));
    fs::create_dir_all(&out).with_context(|| format!("cannot write in {}", out.display()))?;
    let scratch = Scratch::new(&out.join(".work"))?;
    let program = program(paths, arguments.program.as_deref(), &scratch.path("program"))?;
    let release = Release::read(&paths.root)?;

    eprintln!("1/4 packages");
    let packages = packages::ensure(paths, image)?;
    eprintln!("2/4 root file system");
    let keys = root::Keys::find(paths, arguments.keyring.clone(), arguments.model_key.clone())?;
    let tree = root::assemble(paths, &board, &packages, &program, &release, &keys, &scratch)?;
    let root = out.join("root.img");
    let verity = verity::pack(&tree, release.time, &root)?;
    eprintln!("3/4 kernel and initial RAM disk");
    let slot = boot::assemble(paths, image, &packages, &verity, release.time, &scratch)?;
    eprintln!("4/4 card");
    let card = card::assemble(
        paths,
        &card::Parts {
            image,
            slot: &slot,
            packages: &packages,
            root: &root,
            provision: arguments.provision.as_deref(),
            time: release.time,
        },
        &scratch,
        &out,
    )?;
    let release_file = out.join("release");
    fs::write(&release_file, release.text(&board, &program.build_id))?;
    let mib = |mib: u32| u64::from(mib) << 20;
    Ok(Made {
        card_bytes: size(&card.card)?,
        root_bytes: size(&root)?,
        kernel_bytes: size(&slot.kernel)?,
        initrd_bytes: size(&slot.initrd)?,
        program_bytes: program.size()?,
        root_budget: board.budget.root_mib.map_or(u64::MAX, mib),
        program_budget: mib(board.budget.binary_mib),
        board: board.name.clone(),
        card: card.card,
        boot: card.boot,
        root,
        release: release_file,
    })
}

fn program(paths: &Paths, given: Option<&Path>, folder: &Path) -> Result<Program> {
    match given {
        Some(given) => program::take(given, folder),
        None => program::build(paths, &Cross::find(paths)?, &Places::regular(paths)?, folder),
    }
}

fn size(file: &Path) -> Result<u64> {
    let data = fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(data.len())
}

#[expect(clippy::cast_precision_loss, reason = "sizes for people")]
fn print(made: &Made) {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!("{}", made.card.display());
    println!("  card      {:7.1} MiB", mib(made.card_bytes));
    println!("  root slot {:7.1} MiB of {:.0}", mib(made.root_bytes), mib(made.root_budget));
    println!("  program   {:7.1} MiB of {:.0}", mib(made.program_bytes), mib(made.program_budget));
    println!("  kernel    {:7.1} MiB", mib(made.kernel_bytes));
    println!("  initrd    {:7.1} MiB", mib(made.initrd_bytes));
}

fn check_budget(made: &Made) -> Result<()> {
    for (what, bytes, budget) in [
        ("root slot", made.root_bytes, made.root_budget),
        ("program", made.program_bytes, made.program_budget),
    ] {
        if bytes > budget {
            bail!(
                "the {what} has {bytes} bytes and may have {budget}: make it smaller, or change \
                 [budget] in xtask/boards/{}.toml",
                made.board
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_over_its_budget_is_an_error() {
        let made = |root_bytes, program_bytes| Made {
            board: "a".into(),
            card: PathBuf::new(),
            boot: PathBuf::new(),
            root: PathBuf::new(),
            release: PathBuf::new(),
            card_bytes: 0,
            root_bytes,
            kernel_bytes: 0,
            initrd_bytes: 0,
            program_bytes,
            root_budget: 200,
            program_budget: 20,
        };
        assert!(check_budget(&made(200, 20)).is_ok());
        let root = check_budget(&made(201, 20)).unwrap_err().to_string();
        assert!(root.contains("root slot has 201"), "{root}");
        let program = check_budget(&made(200, 21)).unwrap_err().to_string();
        assert!(program.contains("program has 21"), "{program}");
    }
}
