//! An update of a board with an image of ours: into the idle slot, then a restart into it.
//!
//! The board decides for itself whether it keeps the new release (see `xtask/update/commit`); this
//! side only watches, and may be switched off meanwhile.

use std::path::Path;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::Target;
use super::outcome::{Ending, Outcome};
use super::state::State;
use crate::update::raucb::{self, Info};

/// Installs `$1` and removes it; the updater's own words are in the board's journal.
const INSTALL: &str = r#"rauc install "$1"; status=$?; rm -f "$1"
[ $status -eq 0 ] || journalctl --unit=rauc --lines=8 --output=cat --no-pager >&2
exit $status"#;
const RESTART: &str = "sync; systemctl reboot";

/// Updates a board and waits for its decision.
///
/// # Errors
/// When the file is no update for this board, the board cannot be reached, or refuses it; the
/// running release is then untouched.
pub fn deploy(target: &Target, bundle: &Path) -> Result<Outcome> {
    update(target, bundle, &raucb::info(bundle)?)
}

fn update(target: &Target, bundle: &Path, info: &Info) -> Result<Outcome> {
    check_board(target, info)?;
    let before = State::of(target.host)?;
    check_running(info, &before)?;
    let slot = before.idle_slot()?;
    let outcome = |result, reasons| Outcome {
        board: target.board.name.clone(),
        result,
        from: Some(before.release.version.to_string()),
        to: Some(info.version.clone()),
        slot: Some(slot.to_owned()),
        reasons,
    };
    if target.dry_run {
        let plan = format!("{} would be installed into slot {slot}", bundle.display());
        return Ok(outcome(Ending::Planned, vec![plan]));
    }
    let incoming = format!("{}/incoming.raucb", target.incoming);
    target.host.send(bundle, &incoming)?;
    eprintln!("installing into slot {slot}");
    target.host.run(INSTALL, &[&incoming]).context("the board refused the update")?;
    eprintln!("restarting; the board keeps the new release when it is well with it");
    // The connection may end before the answer.
    let _ = target.host.ask(RESTART, &[]);
    let (ending, reasons) = watch(target, &before, slot)?;
    Ok(outcome(ending, reasons))
}

/// Refuses an update for other boards than the one that is meant.
fn check_board(target: &Target, info: &Info) -> Result<()> {
    if info.compatible != target.board.compatible {
        bail!("the update is for {}, not for {}", info.compatible, target.board.compatible);
    }
    Ok(())
}

/// Refuses, before anything is sent, what the board would refuse.
fn check_running(info: &Info, running: &State) -> Result<()> {
    if info.compatible != running.release.compatible {
        bail!(
            "the update is for {}, and the board is {}",
            info.compatible,
            running.release.compatible
        );
    }
    let Ok(offered) = info.version.parse::<u64>() else {
        bail!("the update's version `{}` is no number", info.version);
    };
    if offered < running.release.version {
        bail!(
            "version {offered} is older than the running version {}, and boards never go back",
            running.release.version
        );
    }
    Ok(())
}

/// Looks at the board until it has decided or patience ends.
fn watch(target: &Target, before: &State, slot: &str) -> Result<(Ending, Vec<String>)> {
    let started = Instant::now();
    let last = loop {
        thread::sleep(target.pause);
        // A board that restarts does not answer.
        let now = State::of(target.host).ok();
        if let Some(decision) = now.as_ref().and_then(|now| decision(before, slot, now)) {
            return Ok(decision);
        }
        if started.elapsed() >= target.patience {
            break now;
        }
    };
    let minutes = target.patience.as_secs() / 60;
    match last {
        None => bail!("the board did not come back within {minutes} minutes"),
        Some(now) if now.boot == before.boot => {
            bail!("the board did not restart within {minutes} minutes")
        }
        Some(now) => Ok((Ending::Undecided, now.complaints())),
    }
}

/// What the board decided, once it has.
fn decision(before: &State, slot: &str, now: &State) -> Option<(Ending, Vec<String>)> {
    if now.boot == before.boot {
        return None;
    }
    if now.slot == slot {
        return now.is_committed(slot).then(|| (Ending::Kept, Vec::new()));
    }
    let mut reasons = now.failures(slot);
    if reasons.is_empty() {
        reasons.push("the new release did not start".to_owned());
    }
    Some((Ending::FellBack, reasons))
}

#[cfg(test)]
mod tests;
