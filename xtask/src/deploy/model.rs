//! A model alone: the board checks its signature, proves it on its golden cases, and only then lets
//! it judge.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::outcome::{Ending, Outcome};
use super::{Target, check_exists};
use crate::keys;
use crate::paths::Paths;
use crate::update::{self, model};

const INSTALL: &str = include_str!("../../update/model-install.sh");
/// Where the model that judges is; the file of the key `$1` must be there.
const JUDGING: &str = r#"fail() { echo "$1" >&2; exit 1; }
test -f "$1" || fail "the board trusts no model: put the public key into $1"
readlink "${MODELS:-/var/lib/spinesight-models}/current" || fail "no model judges on the board""#;
/// Where a vendor's system keeps the public key that models are signed for; put there by hand.
const VENDOR_KEY: &str = "/etc/spinesight/model-key.pem";

/// The signed archive: as it is, or of a folder, signed now.
///
/// # Errors
/// When it is missing, has no signature, or cannot be made.
pub fn signed(paths: &Paths, model: &Path, chosen: &keys::Release) -> Result<PathBuf> {
    if model.is_dir() {
        return model::make(&chosen.model_signer(paths)?, model, Path::new("dist"));
    }
    check_exists(model)?;
    check_exists(&model::signature_of(model)).context("the archive's signature is missing")?;
    Ok(model.to_path_buf())
}

/// Sends a signed archive and has the board install it.
///
/// # Errors
/// When the board cannot be reached, trusts no model key, or refuses the model; the model that
/// judged still does.
pub fn deploy(target: &Target, archive: &Path) -> Result<Outcome> {
    let key = if target.board.image.is_some() { update::MODEL_KEY } else { VENDOR_KEY };
    install(target, archive, key)
}

fn install(target: &Target, archive: &Path, key: &str) -> Result<Outcome> {
    let judging = || target.host.ask(JUDGING, &[key]).map(|path| path.trim().to_owned());
    let from = judging()?;
    let outcome = |result, to| Outcome {
        board: target.board.name.clone(),
        result,
        from: Some(from.clone()),
        to: Some(to),
        slot: None,
        reasons: Vec::new(),
    };
    if target.dry_run {
        let name = archive.file_stem().unwrap_or_default().to_string_lossy();
        return Ok(outcome(Ending::Planned, name.into_owned()));
    }
    let incoming = format!("{}/incoming-model.tar", target.incoming);
    target.host.send(&model::signature_of(archive), &format!("{incoming}.sig"))?;
    target.host.send(archive, &incoming)?;
    eprintln!("proving the model on the board");
    target.host.run(INSTALL, &[&incoming, key]).context("the board refused the model")?;
    Ok(outcome(Ending::Kept, judging()?))
}

#[cfg(test)]
mod tests;
