//! `cargo xtask deploy`: a release, or a model alone, onto a running board.
//!
//! [`slots`] updates boards with an image of ours, [`vendor`] those with their vendor's system,
//! [`model`] the model of both. All of them leave what runs in place until the new one has proven
//! itself on the board.

mod model;
mod outcome;
mod slots;
mod state;
mod vendor;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::board::Board;
use crate::keys;
use crate::paths::Paths;
use crate::ssh::Host;
use outcome::Outcome;

/// Command line of the deployment.
#[derive(clap::Args)]
pub struct Arguments {
    /// The board's kind: a file of xtask/boards without its ending
    #[arg(long, value_name = "BOARD")]
    board: String,
    /// An update from `cargo xtask bundle`, or an archive from `cargo xtask dist` for a board with
    /// its vendor's system
    #[arg(value_name = "FILE", required_unless_present = "model")]
    file: Option<PathBuf>,
    /// Send a model alone: a folder of models/zoo, which is signed first, or a signed archive
    #[arg(long, value_name = "DIR|FILE", conflicts_with = "file")]
    model: Option<PathBuf>,
    /// Where the board is [default: what its file says]
    #[arg(long, value_name = "USER@HOST[:PORT]")]
    to: Option<String>,
    /// Private key to log in with [default: the SSH client's choice]
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Key that signs the model [default: the development key]
    #[arg(long, value_name = "FILE", requires = "model")]
    key: Option<String>,
    /// Check everything that can be checked without changing the board
    #[arg(long)]
    dry_run: bool,
    /// Minutes to wait for the board to come back and decide
    #[arg(long, value_name = "MINUTES", default_value_t = 30)]
    patience: u32,
    /// Print one JSON object: board, result, from, to, slot, reasons
    #[arg(long)]
    json: bool,
}

/// What a deployment needs besides the file.
#[derive(Debug)]
struct Target<'a> {
    board: &'a Board,
    host: &'a Host,
    dry_run: bool,
    patience: Duration,
    /// Folder of the board where files wait.
    incoming: &'a str,
    /// Between two looks at a board that restarts.
    pause: Duration,
}

/// Deploys, and prints what became of it.
///
/// # Errors
/// When the board keeps what it ran, for whatever reason.
pub fn run(paths: &Paths, arguments: &Arguments) -> Result<()> {
    let outcome = match deploy(paths, arguments) {
        Err(error) if arguments.json => Outcome::failed(&arguments.board, &error),
        other => other?,
    };
    if arguments.json {
        println!("{}", serde_json::to_string(&outcome)?);
    } else {
        println!("{outcome}");
    }
    if !outcome.result.is_success() {
        bail!("nothing new runs on the board");
    }
    Ok(())
}

fn deploy(paths: &Paths, arguments: &Arguments) -> Result<Outcome> {
    let board = Board::find(paths, &arguments.board)?;
    let host = Host::of(paths, &board, arguments.to.as_deref(), arguments.identity.as_deref())?;
    let target = Target {
        board: &board,
        host: &host,
        dry_run: arguments.dry_run,
        patience: Duration::from_secs(60 * u64::from(arguments.patience)),
        incoming: "/var/lib/spinesight-update",
        pause: Duration::from_secs(5),
    };
    if let Some(model) = &arguments.model {
        let chosen = keys::Release::with_key(arguments.key.clone());
        return model::deploy(&target, &model::signed(paths, model, &chosen)?);
    }
    let Some(file) = &arguments.file else { bail!("name the file to deploy") };
    check_exists(file)?;
    if board.image.is_some() { slots::deploy(&target, file) } else { vendor::deploy(&target, file) }
}

fn check_exists(file: &Path) -> Result<()> {
    if !file.is_file() {
        bail!("there is no file {}", file.display());
    }
    Ok(())
}
