//! Whether a new card becomes a working board: it starts, takes X-rays from DCMTK, judges them,
//! lights its lamps, sends results to DCMTK, and logs what xtask can read.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::archive::Archive;
use super::guest::Guest;
use super::lab::{CALLED, CALLER, Lab};
use super::panel::{self, Lamps};
use super::stored::Stored;
use super::xray;
use crate::paths::{Paths, entries};
use crate::process;

/// X-rays that are sent.
const SCANS: usize = 3;
/// Objects made of each: picture, report, presentation state.
const OBJECTS: usize = 3;
const TRAIL: &str = "/var/lib/spinesight/audit";
const LOG: &str = "/var/lib/spinesight/log";

/// Tries a new card of the image, and keeps it as the one that other trials begin with; tells what
/// was seen. `elf` is the board's program with its symbols.
///
/// # Errors
/// When something does not happen.
pub fn run(paths: &Paths, lab: &Lab, image: &Path, elf: &Path) -> Result<String> {
    let archive = Archive::start(&lab.folder.join("archive"))?;
    let card = lab.new_card(image, archive.port)?;
    let mut guest = lab.start(&card, "smoke")?;
    let slot = guest.wait_for_service()?;
    ensure!(slot == "a", "a new card starts with slot a, not {slot}");
    system_is_up(&mut guest)?;
    lab.echo(&guest)?;
    let lamps = &lab.board.panel;
    let is_ready = |lamps: &Lamps| lamps.green && !lamps.red;
    guest.wait_for("green lamp", |guest| Ok(Some(panel::look(guest, lamps)?).filter(is_ready)))?;
    heart_beats(&mut guest, lab)?;

    let scans = send_scans(paths, lab, &guest)?;
    let expected = scans * OBJECTS;
    guest.wait_for("results in the archive", |_| {
        Ok((archive.objects()?.len() >= expected).then_some(()))
    })?;
    check_objects(&archive, expected)?;
    let verdicts = guest.ask(&format!("cat {TRAIL}/* | grep -o '\"verdict\":\"[a-z]*\"'"))?;
    let verdicts: Vec<_> = verdicts.lines().filter_map(|line| line.split('"').nth(3)).collect();
    ensure!(verdicts.len() == scans, "{} verdicts of {scans} scans", verdicts.len());
    ensure!(verdicts.contains(&"abnormal"), "no scan is abnormal: {}", verdicts.join(", "));
    let is_alarm = |lamps: &Lamps| lamps.red && !lamps.green;
    guest.wait_for("red lamp", |guest| Ok(Some(panel::look(guest, lamps)?).filter(is_alarm)))?;

    let kill = "systemctl kill --kill-whom=main --signal=KILL spinesight.service && sleep 0.5";
    let dead = panel::look_after(&guest, lamps, kill)?;
    let expected = Lamps { green: false, amber: false, red: true, heartbeat: None };
    ensure!(dead == expected, "a killed service shows {dead:?}");
    guest.wait_for_service()?;
    heart_beats(&mut guest, lab)?;
    let lines = read_log(paths, lab, &guest, elf)?;

    lab.wait_for_commitment(&mut guest, "a")?;
    ensure!(Stored::on(&guest)?.scans() == scans, "the board does not keep {scans} scans");
    guest.shut_down()?;
    fs::rename(&card, &lab.base).context("cannot keep the card")?;
    Ok(format!(
        "{scans} X-rays judged ({}), {} objects in the archive, lamps as they should be, {lines} \
         lines of log read",
        verdicts.join(", "),
        scans * OBJECTS
    ))
}

/// Waits until systemd has started everything, and tells what failed.
fn system_is_up(guest: &mut Guest) -> Result<()> {
    let script = "systemctl is-system-running; systemctl list-units --failed --plain --no-legend";
    let state = guest.wait_for("end of the system's start", |guest| {
        let state = guest.ask(&format!("{{ {script}; }} || true"))?;
        let is_done = !state.starts_with("starting") && !state.starts_with("initializing");
        Ok(is_done.then_some(state))
    })?;
    ensure!(state == "running", "the system is {state}");
    Ok(())
}

/// Waits until the heartbeat line has been seen at both levels.
fn heart_beats(guest: &mut Guest, lab: &Lab) -> Result<()> {
    let mut seen = (false, false);
    guest.wait_for("heartbeat", |guest| {
        match panel::look(guest, &lab.board.panel)?.heartbeat {
            Some(true) => seen.0 = true,
            Some(false) => seen.1 = true,
            None => {}
        }
        Ok((seen == (true, true)).then_some(()))
    })
}

/// Sends sample X-rays as an X-ray unit does; returns how many.
fn send_scans(paths: &Paths, lab: &Lab, guest: &Guest) -> Result<usize> {
    let folder = lab.folder.join("scans");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let samples = entries(&paths.root.join("models/samples"))?;
    let made = samples.iter().take(SCANS).zip(1..);
    let files: Vec<_> = made
        .map(|(sample, number)| xray::from_picture(sample, number, &folder))
        .collect::<Result<_>>()?;
    xray::send(&files, guest.dicom, CALLER, CALLED)?;
    Ok(files.len())
}

/// Whether DCMTK can read every object that came back.
fn check_objects(archive: &Archive, expected: usize) -> Result<()> {
    let objects = archive.objects()?;
    ensure!(objects.len() == expected, "{} objects instead of {expected}", objects.len());
    for object in objects {
        let mut command = Command::new("dcmdump");
        command.args(["--quiet", "--search", "SOPClassUID"]).arg(&object);
        let class = process::output(&mut command).unwrap_or_default();
        if !class.contains("SOPClassUID") {
            bail!("DCMTK cannot read {}", object.display());
        }
    }
    Ok(())
}

/// Reads the board's log with the program's symbols; returns how many lines it has.
fn read_log(paths: &Paths, lab: &Lab, guest: &Guest, elf: &Path) -> Result<usize> {
    let folder = lab.folder.join("log");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let names = guest.ask(&format!("cd {LOG} && ls *.defmt"))?;
    for name in names.lines() {
        fs::write(folder.join(name), guest.get(&format!("{LOG}/{name}"))?)?;
    }
    // This program may be built without the decoder; the task builds it.
    let mut command = process::cargo_in(&paths.root);
    command.args(["xtask", "logs", "--json", "--elf"]).arg(elf).arg(&folder);
    command.env("CARGO_TARGET_DIR", &paths.own_target);
    let lines = process::output(&mut command)
        .with_context(|| format!("{} does not read the log", process::line(&command)))?;
    ensure!(lines.contains("\"message\""), "the log says nothing:\n{lines}");
    Ok(lines.lines().count())
}
