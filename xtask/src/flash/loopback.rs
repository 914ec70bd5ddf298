//! Tests with real disks: files that Linux shows as such. They need root and a kernel with
//! loopback disks; elsewhere they say that they did nothing.
//!
//! `cargo test --profile xtask --package xtask -- --ignored loopback --nocapture`

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::disk::{self, Disk};
use super::target::{Opened, Target};
use super::write::tests::image;
use super::write::{EDGE, write};
use crate::process;

const SIZE: u64 = 16 << 20;
const LENGTH: usize = 13 << 20;

/// A loopback disk, gone when dropped.
struct Loop {
    path: String,
    backing: PathBuf,
}

impl Loop {
    /// Shows a file of zeros in `folder` as a disk; `None`, with a word, where that is impossible.
    fn attach(folder: &Path) -> Option<Loop> {
        let backing = folder.join("backing");
        File::create(&backing).unwrap().set_len(SIZE).unwrap();
        let mut losetup = Command::new("losetup");
        let found = process::output(losetup.args(["--find", "--show"]).arg(&backing));
        if found.is_none() {
            eprintln!("SKIPPED: no loopback disk can be made here (root and the kernel's `loop`)");
        }
        Some(Loop { path: found?, backing })
    }

    fn disk(&self) -> Disk {
        let disks = disk::all().unwrap();
        disks.into_iter().find(|disk| disk.path == Path::new(&self.path)).unwrap()
    }

    fn start(&self) -> Vec<u8> {
        let mut start = vec![1; EDGE as usize];
        File::open(&self.backing).unwrap().read_exact_at(&mut start, 0).unwrap();
        start
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = process::run(Command::new("losetup").arg("--detach").arg(&self.path));
    }
}

fn flash(target: &mut dyn Target) -> Result<String> {
    write(&mut image(LENGTH).as_slice(), LENGTH as u64, None, target, &mut |_, _| ())
}

#[test]
#[ignore = "needs root"]
fn loopback_disk_holds_the_image_and_is_held_alone() {
    let folder = tempfile::tempdir().unwrap();
    let Some(looped) = Loop::attach(folder.path()) else { return };
    let disk = looped.disk();
    assert_eq!((disk.size, disk.refusals.len()), (SIZE, 0));
    let mut target = Opened::disk(&disk).unwrap();
    let error = Opened::disk(&disk).unwrap_err().to_string();
    assert!(error.contains("is in use"), "{error}");
    flash(&mut target).unwrap();
    drop(target);
    assert!(fs::read(&looped.backing).unwrap()[..LENGTH] == image(LENGTH));
    let other = Disk { number: "0:0".into(), ..disk };
    assert!(Opened::disk(&other).unwrap_err().to_string().contains("start again"));
}

#[test]
#[ignore = "needs root"]
fn loopback_disk_that_is_mounted_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let Some(looped) = Loop::attach(folder.path()) else { return };
    process::run(Command::new("mke2fs").args(["-q", &looped.path])).unwrap();
    let mount = folder.path().join("mount");
    fs::create_dir(&mount).unwrap();
    process::run(Command::new("mount").arg(&looped.path).arg(&mount)).unwrap();
    let disk = looped.disk();
    let opened = Opened::disk(&disk).map_err(|error| error.to_string());
    process::run(Command::new("umount").arg(&mount)).unwrap();
    assert!(disk.refusals[0].contains("is mounted at"), "{:?}", disk.refusals);
    assert!(opened.unwrap_err().contains("is in use"), "the kernel has the last word");
}

#[test]
#[ignore = "needs root"]
fn loopback_disk_with_a_write_error_is_left_unbootable() {
    let folder = tempfile::tempdir().unwrap();
    // Its file is larger than the file system it is on, so that writes fail at some point.
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=6m", "none"]).arg(folder.path());
    if process::output(&mut mount).is_none() {
        eprintln!("SKIPPED: nothing can be mounted here");
        return;
    }
    let outcome = Loop::attach(folder.path()).map(|looped| {
        let outcome = flash(&mut Opened::disk(&looped.disk()).unwrap());
        (format!("{:#}", outcome.unwrap_err()), looped.start())
    });
    process::run(Command::new("umount").arg(folder.path())).unwrap();
    let Some((error, start)) = outcome else { return };
    assert!(error.contains("marked unbootable: do not use it"), "{error}");
    assert!(error.contains("writing failed at byte"), "{error}");
    assert!(start == vec![0; EDGE as usize]);
}

/// A disk that loses a bit behind the writer's back, once the image's body is on it.
struct Rotting<'a> {
    disk: Opened,
    backing: &'a Path,
}

impl Target for Rotting<'_> {
    fn size(&self) -> u64 {
        self.disk.size()
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.disk.write_at(offset, bytes)
    }

    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.disk.read_at(offset, bytes)
    }

    fn sync(&mut self) -> Result<()> {
        self.disk.sync()?;
        let backing = OpenOptions::new().read(true).write(true).open(self.backing)?;
        let (mut byte, place) = ([0], 7_000_000);
        backing.read_exact_at(&mut byte, place)?;
        backing.write_all_at(&[byte[0] ^ 1], place)?;
        Ok(())
    }
}

#[test]
#[ignore = "needs root"]
fn loopback_disk_with_a_wrong_byte_is_left_unbootable() {
    let folder = tempfile::tempdir().unwrap();
    let Some(looped) = Loop::attach(folder.path()) else { return };
    let disk = Opened::disk(&looped.disk()).unwrap();
    let outcome = flash(&mut Rotting { disk, backing: &looped.backing });
    let error = format!("{:#}", outcome.unwrap_err());
    assert!(error.contains("bytes 5242880 to 9437184 read back wrong"), "{error}");
    assert!(looped.start() == vec![0; EDGE as usize]);
}
