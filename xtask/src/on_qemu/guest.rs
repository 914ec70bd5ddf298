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
use crate::process;

/// What starts a board and talks to it.
pub const PROGRAMS: [Program; 4] = [
    Program { name: "qemu-system-aarch64", package: "qemu-system-arm" },
    Program { name: BOOT_LOADER, package: "u-boot-qemu" },
    Program { name: "ssh", package: "openssh-client" },
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
    ssh: u16,
    /// Where its DICOM receiver is on this machine's loopback.
    pub dicom: u16,
    identity: PathBuf,
    console: PathBuf,
}

/// Where a virtual board's things are.
#[derive(Clone, Debug)]
pub struct Start<'a> {
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
        let mut command = emulator(start, ssh, dicom);
        command.stdin(Stdio::null()).stdout(console.try_clone()?).stderr(console);
        let machine = command
            .spawn()
            .with_context(|| format!("cannot start {}", process::line(&command)))?;
        let (identity, console) = (start.identity.to_owned(), start.console.to_owned());
        Ok(Guest { machine, ssh, dicom, identity, console })
    }

    /// Runs a shell script on the board as root; returns what it printed, trimmed.
    ///
    /// # Errors
    /// When the board cannot be reached or the script fails; with what it said.
    pub fn ask(&self, script: &str) -> Result<String> {
        let mut command = self.ssh();
        let output = command.arg(script).stdin(Stdio::null()).output().context("cannot run ssh")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if !output.status.success() {
            bail!("on the board, `{script}`: {} {}", text(&output.stdout), text(&output.stderr));
        }
        Ok(text(&output.stdout))
    }

    /// Copies a file onto the board.
    ///
    /// # Errors
    /// When the board cannot be reached or its disk is full.
    pub fn put(&self, file: &Path, place: &str) -> Result<()> {
        let content = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
        process::run(self.ssh().arg(format!("cat >{place}")).stdin(content))
    }

    /// Copies a file from the board.
    ///
    /// # Errors
    /// When the board cannot be reached or has no such file.
    pub fn get(&self, place: &str, file: &Path) -> Result<()> {
        let content = File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
        process::run(self.ssh().arg(format!("cat {place}")).stdout(content))
    }

    /// `ssh` to the board, for a command.
    pub fn ssh(&self) -> Command {
        let mut command = Command::new("ssh");
        command.args(["-p", &self.ssh.to_string(), "-i"]).arg(&self.identity);
        for option in [
            "BatchMode=yes",
            "ConnectTimeout=20",
            "IdentitiesOnly=yes",
            "LogLevel=ERROR",
            "ServerAliveInterval=30",
            // Every virtual board has keys of its own, and none lives long.
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
        ] {
            command.args(["-o", option]);
        }
        command.arg("root@127.0.0.1");
        command
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
        let script = "systemctl is-active --quiet spinesight.service && cat /proc/cmdline";
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
    let network = format!(
        "user,hostfwd=tcp:127.0.0.1:{ssh}-:22,hostfwd=tcp:127.0.0.1:{dicom}-:11112"
    );
    let mut command = Command::new("qemu-system-aarch64");
    command.args(["-machine", "virt", "-cpu", cpu]);
    command.args(["-smp", &cores.to_string(), "-m", &memory_mib.to_string()]);
    command.args(["-display", "none", "-monitor", "none", "-serial", "stdio"]);
    command.args(["-bios", BOOT_LOADER]);
    command.args(["-blockdev", &disk.to_string()]);
    command.args(["-device", &format!("virtio-blk-pci,drive={node},write-cache=on")]);
    command.args(["-nic", &network, "-device", "virtio-rng-pci"]);
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
        let paths = crate::paths::Paths::from_env().unwrap();
        let board = Board::find(&paths, "qemu-virt").unwrap();
        let place = Path::new("x");
        let start =
            Start { board: &board, disk: place, log: Some(place), identity: place, console: place };
        let line = process::line(&emulator(&start, 1, 2));
        assert_eq!(line.matches("hostfwd=tcp:").count(), 2);
        assert_eq!(line.matches("hostfwd=tcp:127.0.0.1:").count(), 2);
        assert!(line.contains("blklogwrites") && line.contains("-cpu cortex-a72"), "{line}");
    }
}
