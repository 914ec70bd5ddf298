//! How much memory the program takes to start and to judge a picture.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::bench::child::peak_in;

/// How often the process is looked at; its peak is kept by the system, so nothing but the last
/// moment can be missed.
const PAUSE: Duration = Duration::from_millis(20);

/// Runs a command to its end, silently, and returns the most memory it had, in bytes.
///
/// Under an emulator this is the emulator's memory, the translated program included: more than the
/// program takes on a board.
///
/// # Errors
/// When the command fails, or the system does not tell.
pub fn peak(command: &mut Command) -> Result<u64> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("the program cannot be started")?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = None;
    let exit = loop {
        // A process that has ended and is not waited for has a status without memory.
        peak = fs::read_to_string(&status).ok().and_then(|text| peak_in(&text)).max(peak);
        if let Some(exit) = child.try_wait().context("cannot wait for the program")? {
            break exit;
        }
        thread::sleep(PAUSE);
    };
    if !exit.success() {
        bail!("the program fails on its own example ({exit}): run it by hand to see why");
    }
    peak.context("the system does not tell how much memory the program took")
}

/// The self-test of a bundle: loads its network and judges its example.
pub fn self_test(command: &mut Command, bundle: &Path) -> Result<u64> {
    peak(command.arg("selftest").arg("--bundle").arg(bundle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_program_has_a_peak_and_a_failing_one_is_an_error() {
        assert!(peak(Command::new("sleep").arg("0.1")).unwrap() > 0);
        assert!(peak(&mut Command::new("false")).is_err());
    }
}
