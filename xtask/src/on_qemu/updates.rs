//! Whether a board takes a good update and no other.
//!
//! One board gets six bad updates and then a good one. Each of the bad ones must leave it at the
//! release it runs: five are refused, and the sixth, whose signature and content are in order but
//! whose model's self-test fails, is left again by the board itself.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use toml::{Table, Value};

use super::disk;
use super::guest::Guest;
use super::lab::{Lab, UPDATE_STATE};
use super::power_cuts::other;
use super::stored::Stored;
use crate::debian::Program;
use crate::image;
use crate::keys::{self, Signer};
use crate::paths::Paths;
use crate::process;
use crate::report::Report;
use crate::update::raucb::{self, Content, Signature};

/// What changes a root file system, beside what makes one.
pub const PROGRAMS: [Program; 2] = [
    Program { name: "unsquashfs", package: "squashfs-tools" },
    Program { name: "mcopy", package: "mtools" },
];
/// Where an update waits on the board.
const PLACE: &str = "/data/update.raucb";

/// Updates to try.
pub struct Updates {
    /// A newer release that is in order.
    pub good: PathBuf,
    /// What is wrong, a word that the refusal must say, and the update.
    refused: Vec<(&'static str, &'static str, PathBuf)>,
    /// In order but for its model, which computes other numbers than its maker said.
    unwell: PathBuf,
}

impl Updates {
    /// Makes them from the folder that `cargo xtask image` has written.
    ///
    /// # Errors
    /// When a tool is missing or fails.
    pub fn make(paths: &Paths, lab: &Lab, image: &Path) -> Result<Updates> {
        let content = Content::of(&lab.board, image)?;
        let signer = keys::Release::default().signer(paths)?;
        let newer = Content { version: content.version + 1, ..content.clone() };
        let made = |name: &str, content: &Content, signer: &Signer| {
            let folder = lab.folder.join("updates").join(name);
            fs::create_dir_all(&folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
            raucb::make(content, Signature::of(signer), signer, &folder)
        };
        let good = made("good", &newer, &signer)?;
        let stranger = Signer::thrown_away(paths)?;
        let foreign = Content { compatible: "spinesight-other".to_owned(), ..newer.clone() };
        let older = Content { version: content.version - 1, ..content };
        let (boot, root) = with_failing_selftest(lab, image)?;
        let unwell = made("unwell", &Content { boot, root, ..newer.clone() }, &signer)?;
        let refused = vec![
            ("wrong signature", "signature", made("signature", &newer, &stranger)?),
            ("wrong compatible", "Compatible mismatch", made("compatible", &foreign, &signer)?),
            ("older version", "older", made("older", &older, &signer)?),
            ("truncated file", "", truncated(&good)?),
            ("flipped payload byte", "", flipped(&good)?),
        ];
        Ok(Updates { good, refused, unwell })
    }
}

/// Tries them all on one board, each as a line of the report.
pub fn run(lab: &Lab, updates: &Updates, report: &mut Report) {
    let card = lab.folder.join("updated.img");
    let begun = (|| {
        disk::copy(&lab.base, &card)?;
        let mut guest = lab.start(&card, "updates")?;
        let slot = guest.wait_for_service()?;
        let stored = Stored::on(&guest)?;
        anyhow::Ok((guest, slot, stored))
    })();
    let (mut guest, slot, stored) = match begun {
        Ok(begun) => begun,
        Err(error) => return report.step("updates", || Err(error)),
    };
    for (fault, word, file) in &updates.refused {
        report.tell(&format!("update with {fault}"), || refused(&mut guest, &slot, word, file));
    }
    report.tell("start after refused updates", || {
        restart(&mut guest)?;
        let now = guest.wait_for_service()?;
        ensure!(now == slot, "the board started slot {now}");
        stored.check(&guest)?;
        Ok(format!("slot {slot} again"))
    });
    report.tell("update with failing self-test", || unwell(&mut guest, &slot, &updates.unwell));
    report.tell("good update", || good(lab, &mut guest, &slot, &updates.good, &stored));
}

/// Installs a bad update, which must fail and change nothing about the next start.
fn refused(guest: &mut Guest, slot: &str, word: &str, update: &Path) -> Result<String> {
    guest.put(update, PLACE)?;
    let idle = other(slot);
    // Slots are written from their beginning; all of the root file system would take minutes.
    let parts = "/dev/disk/by-partlabel";
    let digest =
        format!("{{ cat {parts}/boot-{idle}; head -c 1M {parts}/root-{idle}; }} | sha256sum");
    let before = guest.ask(&digest)?;
    // RAUC gives its own reasons on standard output; what its handlers say is in the journal.
    let said = guest.ask(&format!(
        "{{ rauc install {PLACE} 2>&1 && echo INSTALLED; }} || \
         journalctl --unit=rauc --lines=12 --output=cat --no-pager"
    ))?;
    ensure!(!said.ends_with("INSTALLED"), "the board installed it");
    ensure!(said.contains(word), "refused for another reason: {said}");
    let next = next_slot(&guest.ask("fw_printenv")?)?;
    ensure!(next == slot, "slot {next} would start next");
    let touched = if guest.ask(&digest)? == before { "untouched" } else { "written" };
    // What is wrong with signature, name and version is known before anything is written.
    ensure!(word.is_empty() || touched == "untouched", "slot {idle} was {touched}");
    Ok(format!("refused, slot {idle} {touched}: {}", reason_in(&said).unwrap_or(&said)))
}

/// Why an update was refused: in our words, where our handler refused it, else in RAUC's.
fn reason_in(said: &str) -> Option<&str> {
    let behind = |mark: &str| said.lines().find_map(|line| line.split_once(mark)).map(|(_, it)| it);
    behind("update refused: ").or_else(|| behind("LastError: "))
}

/// Installs an update that starts but is not well; the board must go back by itself.
fn unwell(guest: &mut Guest, slot: &str, update: &Path) -> Result<String> {
    guest.put(update, PLACE)?;
    guest.ask(&format!("rauc install {PLACE}"))?;
    restart(guest)?;
    // The idle slot's release wrote this when it gave itself up; the installation removed older ones.
    let idle = other(slot);
    let script = format!(
        "grep -q rauc.slot={slot} /proc/cmdline && cat {UPDATE_STATE}/failed-{idle}.json || true"
    );
    let look = guest.wait_for("way back", |guest| {
        let look = guest.ask(&script)?;
        Ok((!look.is_empty()).then_some(look))
    })?;
    ensure!(look.contains("self-test"), "it went back for another reason: {look}");
    guest.wait_for_service()?;
    Ok(format!("tried in slot {idle}, left for slot {slot}"))
}

/// Installs a good update, which must be kept together with what the board stores.
fn good(
    lab: &Lab,
    guest: &mut Guest,
    slot: &str,
    update: &Path,
    stored: &Stored,
) -> Result<String> {
    guest.put(update, PLACE)?;
    guest.ask(&format!("rauc install {PLACE}"))?;
    restart(guest)?;
    lab.wait_for_commitment(guest, other(slot))?;
    stored.check(guest)?;
    Ok(format!("slot {} is kept", other(slot)))
}

/// Restarts the board and waits until it is gone.
fn restart(guest: &mut Guest) -> Result<()> {
    let boot = "cat /proc/sys/kernel/random/boot_id";
    let before = guest.ask(boot)?;
    // The connection may end before the answer.
    let _ = guest.ask("systemctl reboot");
    guest.wait_for("restart", |guest| Ok((guest.ask(boot)? != before).then_some(())))
}

/// The slot that U-Boot starts next, by its variables.
fn next_slot(variables: &str) -> Result<String> {
    let value = |name: &str| {
        let found = variables.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        found.with_context(|| format!("U-Boot has no {name}"))
    };
    for slot in value("BOOT_ORDER")?.split_whitespace() {
        if value(&format!("BOOT_{slot}_LEFT"))? != "0" {
            return Ok(slot.to_owned());
        }
    }
    bail!("no slot has attempts left")
}

fn truncated(update: &Path) -> Result<PathBuf> {
    let copy = update.with_extension("truncated");
    fs::copy(update, &copy)?;
    let file = File::options().write(true).open(&copy)?;
    file.set_len(file.metadata()?.len() / 2)?;
    Ok(copy)
}

fn flipped(update: &Path) -> Result<PathBuf> {
    let copy = update.with_extension("flipped");
    fs::copy(update, &copy)?;
    let file = File::options().read(true).write(true).open(&copy)?;
    let (mut byte, middle) = ([0], file.metadata()?.len() / 2);
    file.read_exact_at(&mut byte, middle)?;
    file.write_all_at(&[byte[0] ^ 1], middle)?;
    Ok(copy)
}

/// A slot like the image's, whose model says of itself that it computes other numbers than it does.
fn with_failing_selftest(lab: &Lab, image: &Path) -> Result<(PathBuf, PathBuf)> {
    let folder = lab.folder.join("unwell");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let tree = folder.join("tree");
    let mut unpack = Command::new("unsquashfs");
    unpack.args(["-quiet", "-no-progress", "-no-xattrs", "-dest"]).arg(&tree);
    process::run(unpack.arg(image.join("root.img")))?;
    let name = lab.board.bundles.first().context("the board carries no bundle")?;
    promise_other_numbers(&tree.join("usr/share/spinesight/bundles").join(name))?;
    let [boot, root, environment] =
        ["boot.img", "root.img", "slot.env"].map(|name| folder.join(name));
    let verity = image::verity::pack(&tree, 0, &root)?;
    fs::remove_dir_all(&tree)?;
    fs::copy(image.join("boot.img"), &boot)?;
    fs::write(&environment, verity.environment())?;
    let mut put = Command::new("mcopy");
    process::run(put.args(["-o", "-i"]).args([&boot, &environment]).arg("::"))?;
    Ok((boot, root))
}

/// Changes the numbers that a bundle's maker computed, and every digest above them.
fn promise_other_numbers(bundle: &Path) -> Result<()> {
    let [expected, card, seal] =
        ["golden/expected.toml", "bundle.toml", "bundle.sha256"].map(|name| bundle.join(name));
    let digest =
        |file: &Path| -> Result<String> { Ok(hex::encode(Sha256::digest(fs::read(file)?))) };
    let replace = |file: &Path, from: &str, to: &str| -> Result<()> {
        let text = fs::read_to_string(file)?;
        ensure!(text.contains(from), "{} has no {from}", file.display());
        Ok(fs::write(file, text.replacen(from, to, 1))?)
    };
    let (golden, whole) = (digest(&expected)?, digest(&card)?);
    let mut numbers: Table = fs::read_to_string(&expected)?.parse()?;
    let first = numbers.get_mut("logits").and_then(|logits| logits.get_mut(0));
    *first.with_context(|| format!("{} has no logits", expected.display()))? = Value::Float(99.0);
    fs::write(&expected, numbers.to_string())?;
    replace(&card, &golden, &digest(&expected)?)?;
    replace(&seal, &whole, &digest(&card)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_slot_is_the_first_with_attempts_left() {
        let next = |order: &str, a: u32, b: u32| {
            next_slot(&format!("BOOT_ORDER={order}\nBOOT_a_LEFT={a}\nBOOT_b_LEFT={b}\n")).ok()
        };
        assert_eq!(next("b a", 3, 1).as_deref(), Some("b"));
        assert_eq!(next("b a", 3, 0).as_deref(), Some("a"));
        assert_eq!(next("a", 0, 3), None);
        assert!(next_slot("BOOT_ORDER=a\n").is_err());
    }

    #[test]
    fn the_handlers_reason_comes_before_the_updaters() {
        let said = "100% Installing failed.\nLastError: Child process exited with code 1\n";
        assert_eq!(reason_in(said), Some("Child process exited with code 1"));
        let said = format!("{said}update refused: version 1 is older than 2\n");
        assert_eq!(reason_in(&said), Some("version 1 is older than 2"));
        assert_eq!(reason_in("what?"), None);
    }

    #[test]
    fn a_bundle_with_other_numbers_is_sealed_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let digest = |name: &str| hex::encode(Sha256::digest(fs::read(path(name)).unwrap()));
        fs::create_dir(path("golden")).unwrap();
        fs::write(path("golden/expected.toml"), "logits = [-0.25, 1.0]\n").unwrap();
        let card = format!("\"golden/expected.toml\" = \"{}\"\n", digest("golden/expected.toml"));
        fs::write(path("bundle.toml"), card).unwrap();
        fs::write(path("bundle.sha256"), format!("{}  bundle.toml\n", digest("bundle.toml")))
            .unwrap();
        promise_other_numbers(folder.path()).unwrap();
        let text = |name: &str| fs::read_to_string(path(name)).unwrap();
        assert_eq!(text("golden/expected.toml"), "logits = [99.0, 1.0]\n");
        assert!(text("bundle.toml").contains(&digest("golden/expected.toml")));
        assert!(text("bundle.sha256").starts_with(&digest("bundle.toml")));
    }

    #[test]
    fn damaged_copies_differ_as_they_should() {
        let folder = tempfile::tempdir().unwrap();
        let update = folder.path().join("x.raucb");
        fs::write(&update, [7; 100]).unwrap();
        assert_eq!(fs::read(truncated(&update).unwrap()).unwrap(), [7; 50]);
        let flipped = fs::read(flipped(&update).unwrap()).unwrap();
        assert_eq!(flipped.iter().filter(|byte| **byte != 7).count(), 1);
        assert_eq!(fs::read(&update).unwrap(), [7; 100]);
    }
}
