//! Where virtual boards are tried: the folder of their cards, the board that all begin with, what
//! stands around it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::disk;
use super::guest::{Guest, Start};
use crate::board::Board;
use crate::paths::Paths;
use crate::process;

/// Our AE title, as an X-ray unit.
pub const CALLER: &str = "XRAY1";
/// The board's.
pub const CALLED: &str = "SPINE1";
/// Where the state of updates is on a board.
pub const UPDATE_STATE: &str = "/var/lib/spinesight-update";

/// The place of all trials.
pub struct Lab {
    paths: Paths,
    /// What is tried.
    pub board: Board,
    /// Cards and consoles.
    pub folder: PathBuf,
    /// A card with scans on it and a release that has proven itself.
    pub base: PathBuf,
    /// Private key that boards let in.
    identity: PathBuf,
}

impl Lab {
    /// Prepares the folder; makes the key that boards let in.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn new(paths: &Paths, board: Board, folder: PathBuf) -> Result<Lab> {
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let identity = folder.join("identity");
        if !identity.is_file() {
            let mut command = Command::new("ssh-keygen");
            command.args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"]);
            process::run(command.arg(&identity))?;
        }
        let base = folder.join("base.img");
        Ok(Lab { paths: paths.clone(), board, folder, base, identity })
    }

    /// A new card of an image, provisioned for tests: our key, our AE titles, and an archive at a
    /// port of this machine.
    ///
    /// # Errors
    /// When the image is no card or the disk is full.
    pub fn new_card(&self, image: &Path, archive: u16) -> Result<PathBuf> {
        let card = self.folder.join("new.img");
        disk::copy(image, &card)?;
        let key = fs::read_to_string(self.identity.with_extension("pub"))
            .context("cannot read the key that boards let in")?;
        let file = self.folder.join("provision.toml");
        fs::write(&file, provision(archive, key.trim()))?;
        disk::put(&card, "loader", &file, "provision.toml")?;
        Ok(card)
    }

    /// Starts a board; its console is kept under a name.
    ///
    /// # Errors
    /// When the emulator does not start.
    pub fn start(&self, card: &Path, name: &str) -> Result<Guest> {
        Guest::start(&self.board_on(card, None, &self.console(name)))
    }

    /// How a board is started.
    pub fn board_on<'a>(
        &'a self,
        disk: &'a Path,
        log: Option<&'a Path>,
        console: &'a Path,
    ) -> Start<'a> {
        let Lab { paths, board, identity, .. } = self;
        Start { paths, board, disk, log, identity, console }
    }

    /// The file of a console's words.
    pub fn console(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.console"))
    }

    /// Whether a board's receiver answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn echo(&self, guest: &Guest) -> Result<()> {
        let mut command = Command::new("echoscu");
        command.args(["--log-level", "warn", "--timeout", "60", "--acse-timeout", "120"]);
        command.args(["-aet", CALLER, "-aec", CALLED, "127.0.0.1", &guest.dicom.to_string()]);
        process::run(&mut command)
    }

    /// Waits until a board, which may restart meanwhile, keeps the release in a slot.
    ///
    /// # Errors
    /// When it runs another slot, or does not come to a decision.
    pub fn wait_for_commitment(&self, guest: &mut Guest, slot: &str) -> Result<()> {
        let script = format!(
            "grep -q rauc.slot={slot} /proc/cmdline || exit 3; \
             if test -e {UPDATE_STATE}/committed-{slot}; then echo yes; fi"
        );
        guest.wait_for(&format!("commitment of slot {slot}"), |guest| {
            Ok((guest.ask(&script)? == "yes").then_some(()))
        })
    }
}

/// The file that a board consumes at its first start.
fn provision(archive: u16, key: &str) -> String {
    format!(
        "[board]\nstation = \"TEST\"\n\n[receive]\nae_title = \"{CALLED}\"\n\
         callers = [\"{CALLER}\"]\n\n[[destination]]\nname = \"archive\"\n\
         address = \"10.0.2.2:{archive}\"\nae_title = \"ARCHIVE\"\n\n\
         [first_boot]\nssh_keys = [\"{key}\"]\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_provisioning_file_is_toml() {
        let file: toml::Table = provision(4242, "ssh-ed25519 AAAA test").parse().unwrap();
        assert_eq!(file["destination"][0]["address"].as_str(), Some("10.0.2.2:4242"));
        assert_eq!(file["first_boot"]["ssh_keys"][0].as_str(), Some("ssh-ed25519 AAAA test"));
        assert_eq!(file["receive"]["callers"][0].as_str(), Some(CALLER));
    }
}
