//! A running virtual board: started on a disk, reached over SSH and DICOM, stopped with or without
//! warning.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::write_log::recorded;
use crate::board::Board;
use crate::debian::Program;
use crate::paths::Paths;
use crate::process;
use crate::ssh::Host;

/// What starts a board and talks to it.
pub const PROGRAMS: [Program; 3] = [
    Program { name: "qemu-system-aarch64", package: "qemu-system-arm" },
    Program { name: BOOT_LOADER, package: "u-boot-qemu" },
    Program { name: "ssh-keygen", package: "openssh-client" },
];
const BOOT_LOADER: &str = "/usr/lib/u-boot/qemu_arm64/u-boot.bin";
/// How long anything in an emulated machine may take before it is taken for hung: a start takes a
/// minute here, several when the machine underneath is busy, and a slot that fails is tried thrice.
const PATIENCE: Duration = Duration::from_secs(20 * 60);
/// Between looks at a machine.
const PAUSE: Duration = Duration::from_secs(1);

/// A virtual board with its disk; killed when dropped.
pub struct Guest {
    machine: Child,
    host: Host,
    /// Where its DICOM receiver is on this machine's loopback.
    pub dicom: u16,
    console: PathBuf,
}

/// Where a virtual board's things are.
#[derive(Clone, Debug)]
pub struct Start<'a> {
    /// Where host keys are kept.
    pub paths: &'a Paths,
    /// Which board it is.
    pub board: &'a Board,
    /// Its card; written to.
    pub disk: &'a Path,
    /// Where its writes are recorded.
    pub log: Option<&'a Path>,
    /// Private key of a user that it lets in.
    pub identity: &'a Path,
    /// Where its console's words go.
    pub console: &'a Path,
}

impl Guest {
    /// Switches a board on.
    ///
    /// # Errors
    /// When the emulator cannot be started.
    pub fn start(start: &Start) -> Result<Guest> {
        let [ssh, dicom] = free_ports()?;
        let console = File::create(start.console)
            .with_context(|| format!("cannot write {}", start.console.display()))?;
        if let Some(log) = start.log {
            File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        }
        let to = format!("root@127.0.0.1:{ssh}");
        let host = Host::of(start.paths, start.board, Some(&to), Some(start.identity))?;
        let mut command = emulator(start, ssh, dicom);
        command.stdin(Stdio::null()).stdout(console.try_clone()?).stderr(console);
        let machine =
            command.spawn().with_context(|| format!("cannot start {}", process::line(&command)))?;
        Ok(Guest { machine, host, dicom, console: start.console.to_owned() })
    }

    /// Runs a shell script on the board as root; returns what it printed, trimmed.
    ///
    /// # Errors
    /// When the board cannot be reached or the script fails; with what it said.
    pub fn ask(&self, script: &str) -> Result<String> {
        Ok(self.host.ask(script, &[])?.trim().to_owned())
    }

    /// Copies a file onto the board.
    ///
    /// # Errors
    /// When the board cannot be reached or its disk is full.
    pub fn put(&self, file: &Path, place: &str) -> Result<()> {
        self.host.send(file, place)
    }

    /// A file of the board.
    ///
    /// # Errors
    /// When the board cannot be reached or has no such file.
    pub fn get(&self, place: &str) -> Result<Vec<u8>> {
        let digits = self.host.ask("od -An -v -tx1 \"$1\" | tr -d ' \n'", &[place])?;
        hex::decode(digits.trim()).with_context(|| format!("{place} arrived damaged"))
    }

    /// How the board is reached.
    pub fn host(&self) -> Host {
        self.host.clone()
    }

    /// Looks until there is something to see.
    ///
    /// # Errors
    /// When the machine ends or patience does; with the end of what its console said.
    pub fn wait_for<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut(&Guest) -> Result<Option<T>>,
    ) -> Result<T> {
        let begun = Instant::now();
        let mut last = String::new();
        while begun.elapsed() < PATIENCE {
            match look(self) {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => {}
                Err(error) => last = format!("{error:#}"),
            }
            if let Some(status) = self.machine.try_wait()? {
                bail!("waiting for {what}: the machine ended ({status}):\n{}", self.last_words());
            }
            thread::sleep(PAUSE);
        }
        bail!("no {what} after {} minutes: {last}\n{}", PATIENCE.as_secs() / 60, self.last_words())
    }

    /// Waits for the service, which begins when its model is loaded; returns the running slot.
    ///
    /// # Errors
    /// When it does not come.
    pub fn wait_for_service(&mut self) -> Result<String> {
        // The board looks by itself, because every login takes it seconds.
        let script = "left=60; until systemctl is-active --quiet spinesight.service; do \
                      left=$((left - 1)); [ $left -gt 0 ] || exit 1; sleep 1; done; \
                      cat /proc/cmdline";
        let line = self.wait_for("service", |guest| guest.ask(script).map(Some))?;
        slot_in(&line).with_context(|| format!("the kernel's command line names no slot: {line}"))
    }

    /// Shuts the board down in an orderly way and waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn shut_down(mut self) -> Result<()> {
        // The connection may end before the answer.
        let _ = self.ask("systemctl poweroff");
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(status) = self.machine.try_wait()? {
                ensure!(status.success(), "the emulator ended with {status}");
                return Ok(());
            }
            thread::sleep(PAUSE);
        }
        bail!("the board does not shut down:\n{}", self.last_words())
    }

    /// Kills the emulator where it stands.
    ///
    /// # Errors
    /// When it ended before.
    pub fn kill(mut self) -> Result<()> {
        ensure!(self.machine.try_wait()?.is_none(), "the machine ended by itself");
        self.machine.kill().context("cannot kill the emulator")?;
        self.machine.wait().context("cannot wait for the emulator")?;
        Ok(())
    }

    /// The end of what the console said.
    fn last_words(&self) -> String {
        let bytes = fs::read(&self.console).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.machine.kill();
        let _ = self.machine.wait();
    }
}

/// The emulator's command line. A disk's cache is the guest's to flush, as on a card.
fn emulator(start: &Start, ssh: u16, dicom: u16) -> Command {
    let Board { cpu, cores, memory_mib, .. } = start.board;
    let disk = match start.log {
        Some(log) => recorded(start.disk, log),
        None => serde_json::json!({
            "driver": "file",
            "node-name": "plain",
            "discard": "unmap",
            "filename": start.disk,
        }),
    };
    let node = disk["node-name"].as_str().unwrap_or_default();
    let network =
        format!("user,id=net,hostfwd=tcp:127.0.0.1:{ssh}-:22,hostfwd=tcp:127.0.0.1:{dicom}-:11112");
    let mut command = Command::new("qemu-system-aarch64");
    command.args(["-machine", "virt,acpi=off", "-cpu", cpu]);
    command.args(["-smp", &cores.to_string(), "-m", &memory_mib.to_string()]);
    command.args(["-display", "none", "-monitor", "none", "-serial", "stdio"]);
    command.args(["-bios", BOOT_LOADER]);
    command.args(["-blockdev", &disk.to_string()]);
    command.args(["-device", &format!("virtio-blk-pci,drive={node},write-cache=on")]);
    // Without the network card's own boot program, which is in another package.
    command.args(["-netdev", &network, "-device", "virtio-net-pci,netdev=net,romfile="]);
    command.args(["-device", "virtio-rng-pci"]);
    command
}

/// Ports of loopback that nobody listens at just now.
fn free_ports<const COUNT: usize>() -> Result<[u16; COUNT]> {
    let mut held = Vec::new();
    let mut ports = [0; COUNT];
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on loopback")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// The slot on a kernel's command line.
fn slot_in(line: &str) -> Option<String> {
    line.split_whitespace().find_map(|word| word.strip_prefix("rauc.slot=")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_is_on_the_kernels_command_line() {
        assert_eq!(slot_in("quiet rauc.slot=b panic=10").as_deref(), Some("b"));
        assert_eq!(slot_in("quiet"), None);
    }

    #[test]
    fn ports_differ() {
        let [one, two] = free_ports().unwrap();
        assert_ne!(one, two);
    }

    #[test]
    fn boards_listen_on_loopback_alone() {
        let paths = Paths::from_env().unwrap();
        let board = Board::find(&paths, "qemu-virt").unwrap();
        let place = Path::new("x");
        let start = Start {
            paths: &paths,
            board: &board,
            disk: place,
            log: Some(place),
            identity: place,
            console: place,
        };
        let line = process::line(&emulator(&start, 1, 2));
        assert_eq!(line.matches("hostfwd=tcp:").count(), 2);
        assert_eq!(line.matches("hostfwd=tcp:127.0.0.1:").count(), 2);
        assert!(line.contains("blklogwrites") && line.contains("-cpu cortex-a72"), "{line}");
    }
}
