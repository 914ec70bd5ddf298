//! A release on a board with its vendor's system: an archive of `cargo xtask dist`, unpacked beside
//! the running release.

use std::path::Path;

use anyhow::{Context, Result};

use super::Target;
use super::outcome::{Ending, Outcome};
use super::state::reasons;
use crate::update::release::value;

const INSTALL: &str = include_str!("../../update/vendor.sh");
/// Needed on the board: root's rights, systemd, and a processor and C library that fit.
const FITS: &str = r#"fail() { echo "$1" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "the user is not root"
[ "$(uname -m)" = "$1" ] || fail "the processor is $(uname -m), not $1"
command -v systemctl >/dev/null || fail "the system has no systemd"
readlink /opt/spinesight/current || echo nothing"#;

/// Installs an archive and waits until the board is well with it, or has gone back.
///
/// # Errors
/// When the board cannot be reached, does not fit, or refuses the archive; what ran still does.
pub fn deploy(target: &Target, archive: &Path) -> Result<Outcome> {
    let triple = &target.board.triple;
    let processor = triple.split('-').next().unwrap_or_default();
    let from = target.host.ask(FITS, &[processor])?.trim().to_owned();
    if target.dry_run {
        return Ok(Outcome {
            board: target.board.name.clone(),
            result: Ending::Planned,
            from: Some(from),
            to: Some(archive.display().to_string()),
            slot: None,
            reasons: Vec::new(),
        });
    }
    install(target, archive)
}

fn install(target: &Target, archive: &Path) -> Result<Outcome> {
    let incoming = format!("{}/incoming.tar", target.incoming);
    target.host.send(archive, &incoming)?;
    eprintln!("proving the release on the board, then switching to it");
    let parameters = [incoming.as_str(), &target.board.compatible];
    let told = target.host.ask(INSTALL, &parameters).context("the board refused the release")?;
    let name = |key| value(&told, key).ok().filter(|name| !name.is_empty()).map(str::to_owned);
    let result = match value(&told, "RESULT")? {
        "kept" => Ending::Kept,
        _ => Ending::FellBack,
    };
    Ok(Outcome {
        board: target.board.name.clone(),
        result,
        from: name("FROM"),
        to: name("TO"),
        slot: None,
        reasons: reasons(value(&told, "HEALTH").unwrap_or_default()),
    })
}

#[cfg(test)]
mod tests;
