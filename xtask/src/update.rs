//! `cargo xtask bundle`: one signed file that updates a board, or only its model.
//!
//! [`raucb`] makes and checks a board's bundle, [`model`] a model's; [`release`] says which release
//! a slot holds. What a board needs to take them is in `xtask/update`.

#[cfg(test)]
mod guest;
pub mod model;
pub mod raucb;
pub mod release;

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::board::Board;
use crate::keys::{self, Signer};
use crate::paths::Paths;
use raucb::{Content, Signature};

/// Where an image of ours keeps the public key that models are signed for.
pub const MODEL_KEY: &str = "/usr/lib/spinesight/model-key.pem";

/// Command line of the bundle maker.
#[derive(clap::Args)]
pub struct Arguments {
    /// The board the update is for
    #[arg(long, value_name = "BOARD", required_unless_present_any = ["model", "sign"])]
    board: Option<String>,
    /// Folder with a slot's boot.img, root.img and release, from `cargo xtask image`
    #[arg(long, value_name = "DIR", requires = "board")]
    image_dir: Option<PathBuf>,
    /// Bundle a model instead: a folder of models/zoo
    #[arg(long, value_name = "DIR", conflicts_with_all = ["board", "sign", "unsigned", "version"])]
    model: Option<PathBuf>,
    /// Sign a bundle that was made with --unsigned
    #[arg(long, value_name = "FILE", conflicts_with_all = ["board", "unsigned", "version"])]
    sign: Option<PathBuf>,
    #[command(flatten)]
    keys: keys::Release,
    /// Sign with a key that is thrown away: no board takes it before someone signs it with --sign
    #[arg(long, conflicts_with_all = ["key", "cert"])]
    unsigned: bool,
    /// Another version than the release's; boards refuse one lower than they run
    #[arg(long, value_name = "N")]
    version: Option<u64>,
    /// Where the file goes
    #[arg(long, value_name = "DIR", default_value = "dist")]
    out: PathBuf,
}

/// Makes a bundle, checks it as a board does, and prints its path.
///
/// # Errors
/// When an image or a key is missing, RAUC or OpenSSL fails, or the bundle does not verify.
pub fn run(paths: &Paths, arguments: &Arguments) -> Result<()> {
    let made = if let Some(model) = &arguments.model {
        model::make(&arguments.keys.model_signer(paths)?, model, &arguments.out)?
    } else if let Some(unsigned) = &arguments.sign {
        raucb::sign_again(unsigned, &arguments.keys.signer(paths)?, &arguments.out)?
    } else {
        let Some(name) = &arguments.board else { bail!("--board says which board it is for") };
        bundle(paths, &Board::find(paths, name)?, arguments)?
    };
    println!("{}", made.display());
    Ok(())
}

fn bundle(paths: &Paths, board: &Board, arguments: &Arguments) -> Result<PathBuf> {
    board.image()?;
    let Some(folder) = &arguments.image_dir else {
        bail!("--image-dir says where `cargo xtask image --board {}` put its files", board.name)
    };
    let mut content = Content::of(board, folder)?;
    content.version = arguments.version.unwrap_or(content.version);
    let (signature, signer) = if arguments.unsigned {
        (Signature::None, Signer::thrown_away(paths)?)
    } else {
        let signer = arguments.keys.signer(paths)?;
        (Signature::of(&signer), signer)
    };
    raucb::make(&content, signature, &signer, &arguments.out)
}
