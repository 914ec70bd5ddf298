//! Whether an update can be cut off at any moment.
//!
//! One update is recorded, from its first byte to the new release's commitment, restart included.
//! Then boards are started on what power cuts at drawn points of it leave on the card (see
//! [`super::power`]), and a few on what is left when the emulator itself is killed in the midst of
//! an update. Each must come back by itself, in either slot, with its service running, its receiver
//! answering, every scan as it was and the audit trail in order.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use super::disk::{self, Partition};
use super::guest::Guest;
use super::lab::Lab;
use super::power::{Cut, Losses, cuts, draw};
use super::stored::Stored;
use super::write_log::WriteLog;

/// Machines at the same time.
const AT_ONCE: usize = 2;
/// For so many cuts one is made in addition by killing the emulator.
const CUTS_PER_KILL: usize = 25;
/// Where an update waits on the board.
const BUNDLE: &str = "/data/update.raucb";

/// An update as it was written to the card.
struct Recording {
    log: WriteLog,
    /// The entries from the update's first to the commitment.
    update: Range<usize>,
    /// What the update took until the restart.
    install: Duration,
    /// What the board kept before.
    stored: Stored,
}

/// Cuts the power so many times; tells what came of it.
///
/// # Errors
/// When a board does not come back whole; its card is then left in the work folder.
pub fn run(lab: &Lab, bundle: &Path, count: usize, seed: u64) -> Result<String> {
    let begun = Instant::now();
    eprintln!("recording an update");
    let recording = record(lab, bundle)?;
    let partitions = disk::partitions(&lab.base)?;
    let regions: Vec<_> = partitions.iter().map(|partition| partition.bytes.clone()).collect();
    let chosen = cuts(&recording.log, recording.update.clone(), &regions, count, seed);
    ensure!(!chosen.is_empty(), "the update wrote nothing");
    let kills = chosen.len().div_ceil(CUTS_PER_KILL);
    eprintln!(
        "the update made {} writes and flushes; {} power cuts and {kills} kills, seed {seed}",
        recording.update.len(),
        chosen.len()
    );
    let mut tally = Tally::default();
    let failures = try_all(lab, bundle, &recording, &partitions, &chosen, seed, &mut tally)?;
    let minutes = begun.elapsed().as_secs() / 60;
    let tried = chosen.len() + kills;
    if !failures.is_empty() {
        bail!("{} bricks of {tried}:\n{}", failures.len(), failures.join("\n"));
    }
    Ok(format!("{tried} power cuts, 0 bricks: {} ({minutes} min, seed {seed})", tally.words()))
}

/// What to try, in the order in which it is tried.
enum Trial {
    Cut(Cut),
    Kill(u64),
}

/// Tries everything; returns what failed.
fn try_all(
    lab: &Lab,
    bundle: &Path,
    recording: &Recording,
    partitions: &[Partition],
    chosen: &[Cut],
    seed: u64,
    tally: &mut Tally,
) -> Result<Vec<String>> {
    let mut trials = Vec::new();
    for (number, some) in (0..).zip(chosen.chunks(CUTS_PER_KILL)) {
        trials.push(Trial::Kill(draw(&[seed, 3, number])));
        trials.extend(some.iter().map(|cut| Trial::Cut(*cut)));
    }
    let bar = ProgressBar::new(trials.len() as u64);
    let style = "{elapsed_precise} [{wide_bar}] {pos}/{len}, {msg} (about {eta} left)";
    bar.set_style(ProgressStyle::with_template(style)?);
    bar.set_message("0 bricks");
    let next = AtomicUsize::new(0);
    let shared = Mutex::new((Vec::new(), tally));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((number, trial)) = {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    trials.get(number).map(|trial| (number, trial))
                } {
                    let result = try_one(lab, bundle, recording, number, trial);
                    let mut shared = shared.lock().unwrap_or_else(|held| held.into_inner());
                    let (failures, tally) = &mut *shared;
                    let line = match result {
                        Ok((slot, losses)) => {
                            let place = place_of(recording, partitions, trial);
                            tally.add(&place, &slot, losses);
                            format!("{}, {place}: back in slot {slot}", trial.name(number))
                        }
                        Err(error) => {
                            failures.push(format!("{}: {error:#}", trial.name(number)));
                            format!("{}: BRICK: {error:#}", trial.name(number))
                        }
                    };
                    bar.set_message(format!("{} bricks", failures.len()));
                    bar.inc(1);
                    // Without a terminal there is no bar to look at.
                    if bar.is_hidden() || line.contains("BRICK") {
                        let (done, all) = (bar.position(), trials.len());
                        bar.suspend(|| eprintln!("{done}/{all} {line}"));
                    }
                }
            });
        }
    });
    bar.finish();
    let (failures, _) = shared.into_inner().unwrap_or_else(|held| held.into_inner());
    Ok(failures)
}

impl Trial {
    fn name(&self, number: usize) -> String {
        match self {
            Trial::Cut(Cut { point, seed }) => {
                format!("trial {number}, cut after entry {point} with seed {seed}")
            }
            Trial::Kill(seed) => format!("trial {number}, kill with seed {seed}"),
        }
    }
}

/// Makes the card, starts the board and looks at it; returns the slot that came back.
fn try_one(
    lab: &Lab,
    bundle: &Path,
    recording: &Recording,
    number: usize,
    trial: &Trial,
) -> Result<(String, Losses)> {
    let card = lab.folder.join(format!("trial-{number}.img"));
    disk::copy(&lab.base, &card)?;
    let losses = match trial {
        Trial::Cut(cut) => {
            let file = File::options().write(true).open(&card).context("cannot open the card")?;
            cut.apply(&recording.log, &file)?
        }
        Trial::Kill(seed) => {
            kill(lab, bundle, &card, number, recording.install, *seed)?;
            Losses::default()
        }
    };
    let mut guest = lab.start(&card, &format!("trial-{number}"))?;
    let slot = guest.wait_for_service()?;
    lab.echo(&guest)?;
    recording.stored.check(&guest)?;
    guest.kill()?;
    fs::remove_file(&card).context("cannot remove the card")?;
    Ok((slot, losses))
}

/// Runs the update on a board and kills the emulator in the midst of it.
fn kill(
    lab: &Lab,
    bundle: &Path,
    card: &Path,
    number: usize,
    install: Duration,
    seed: u64,
) -> Result<()> {
    let mut guest = lab.start(card, &format!("trial-{number}-killed"))?;
    guest.wait_for_service()?;
    guest.put(bundle, BUNDLE)?;
    let host = guest.host();
    thread::scope(|scope| {
        let script = format!("rauc install {BUNDLE}; systemctl reboot");
        // Ends with the connection, which the kill cuts.
        scope.spawn(move || host.ask(&script, &[]));
        thread::sleep(install.mul_f64(draw(&[seed]) as f64 / u64::MAX as f64));
        guest.kill()
    })
}

/// Runs an update to its commitment and keeps every write.
fn record(lab: &Lab, bundle: &Path) -> Result<Recording> {
    let [card, log] = ["recorded.img", "recorded.log"].map(|name| lab.folder.join(name));
    disk::copy(&lab.base, &card)?;
    let console = lab.console("recorded");
    let mut guest = Guest::start(&lab.board_on(&card, Some(&log), &console))?;
    let before = guest.wait_for_service()?;
    let stored = Stored::on(&guest)?;
    ensure!(stored.scans() > 0, "the board has no scans that could be lost");
    guest.put(bundle, BUNDLE)?;
    guest.ask("sync")?;
    let first = WriteLog::open(&log)?.entries().len();
    let begun = Instant::now();
    guest.ask(&format!("rauc install {BUNDLE}"))?;
    let install = begun.elapsed();
    // The connection may end before the answer.
    let _ = guest.ask("systemctl reboot");
    lab.wait_for_commitment(&mut guest, other(&before))?;
    guest.ask("sync")?;
    guest.kill()?;
    let log = WriteLog::open(&log)?;
    let update = first..log.entries().len();
    fs::remove_file(&card).context("cannot remove the card")?;
    Ok(Recording { log, update, install, stored })
}

/// The slot that is not this one.
pub fn other(slot: &str) -> &'static str {
    if slot == "a" { "b" } else { "a" }
}

/// The part of the card whose write was the last before a cut.
fn place_of(recording: &Recording, partitions: &[Partition], trial: &Trial) -> String {
    let Trial::Cut(cut) = trial else { return "killed".to_owned() };
    let entries = &recording.log.entries()[..cut.point];
    let last = entries.iter().rev().find(|entry| entry.length > 0);
    let place = last.map_or(0, |entry| entry.offset);
    let part = partitions.iter().find(|partition| partition.bytes.contains(&place));
    part.map_or("outside", |partition| &partition.name).to_owned()
}

/// What came of the cuts.
#[derive(Default)]
struct Tally {
    /// Boards by the place of the cut and the slot that came back.
    boards: BTreeMap<(String, String), usize>,
    losses: Losses,
}

impl Tally {
    fn add(&mut self, place: &str, slot: &str, losses: Losses) {
        *self.boards.entry((place.to_owned(), slot.to_owned())).or_default() += 1;
        self.losses.kept += losses.kept;
        self.losses.dropped += losses.dropped;
        self.losses.torn += losses.torn;
    }

    fn words(&self) -> String {
        let boards = self
            .boards
            .iter()
            .map(|((place, slot), count)| format!("{count} at {place} came back in slot {slot}"));
        let Losses { kept, dropped, torn } = self.losses;
        format!(
            "{}; of the writes in the cache {kept} were kept, {dropped} dropped, {torn} torn",
            boards.collect::<Vec<_>>().join(", ")
        )
    }
}
