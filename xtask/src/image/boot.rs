//! What a slot is started with: kernel and initial RAM disk.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::board::Image;
use crate::image::modules;
use crate::image::packages::Packages;
use crate::image::verity::Verity;
use crate::paths::Paths;
use crate::process;
use crate::scratch::Scratch;

/// Files of a slot's boot partition.
#[derive(Debug)]
pub struct Boot {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initial RAM disk.
    pub initrd: PathBuf,
    /// What the boot loader tells the kernel of the root file system.
    pub environment: PathBuf,
}

/// What busybox is called as by the script `init`.
const APPLETS: [&str; 24] = [
    "cat",
    "chmod",
    "chroot",
    "cp",
    "grep",
    "insmod",
    "ls",
    "mkdir",
    "modprobe",
    "mount",
    "mv",
    "reboot",
    "rm",
    "sed",
    "sh",
    "sleep",
    "switch_root",
    "sync",
    "test",
    "touch",
    "tr",
    "umount",
    "true",
    "[",
];
/// What dmsetup is linked with.
const LIBRARIES: [&str; 7] = [
    "libc.so.6",
    "libdevmapper.so.1.02.1",
    "libm.so.6",
    "libpcre2-8.so.0",
    "libselinux.so.1",
    "libudev.so.1",
    "libpthread.so.0",
];

/// Makes them; every file has the given time, in seconds since 1970.
///
/// # Errors
/// When a part is missing in the packages.
pub fn assemble(
    paths: &Paths,
    image: &Image,
    packages: &Packages,
    verity: &Verity,
    time: u64,
    scratch: &Scratch,
) -> Result<Boot> {
    let folder = scratch.folder("boot")?;
    let version = &packages.kernel_version;
    let kernel = folder.join("Image");
    fs::copy(packages.parts.join(format!("boot/vmlinuz-{version}")), &kernel)
        .context("the kernel's package has no kernel")?;
    let environment = folder.join("slot.env");
    fs::write(&environment, verity.environment())?;
    let initrd = folder.join("initrd.img");
    let tree = scratch.folder("initrd")?;
    fill(paths, image, packages, &tree)?;
    set_times(&tree, time)?;
    pack(&tree, &initrd)?;
    Ok(Boot { kernel, initrd, environment })
}

fn fill(paths: &Paths, image: &Image, packages: &Packages, tree: &Path) -> Result<()> {
    for folder in ["bin", "dev", "etc", "lib", "proc", "root", "run", "sys"] {
        fs::create_dir(tree.join(folder))?;
    }
    let parts = &packages.parts;
    let copy = |from: &str, to: &str| {
        let from = parts.join(from);
        fs::copy(&from, tree.join(to)).with_context(|| format!("cannot copy {}", from.display()))
    };
    copy("usr/bin/busybox", "bin/busybox")?;
    for applet in APPLETS {
        symlink("busybox", tree.join("bin").join(applet))?;
    }
    copy("usr/sbin/dmsetup", "bin/dmsetup")?;
    copy("usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1", "lib/ld-linux-aarch64.so.1")?;
    for library in LIBRARIES {
        copy(&format!("usr/lib/aarch64-linux-gnu/{library}"), &format!("lib/{library}"))?;
    }
    let names: Vec<&str> =
        modules::START.into_iter().chain(image.modules.iter().map(String::as_str)).collect();
    modules::copy(parts, &packages.kernel_version, &names, tree)?;
    fs::write(tree.join("etc/modules"), names.join("\n") + "\n")?;
    let init = tree.join("init");
    fs::copy(paths.root.join("xtask/image/init"), &init)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Gives everything in a folder the same time, in seconds since 1970.
fn set_times(tree: &Path, time: u64) -> Result<()> {
    let mut find = Command::new("find");
    find.arg(tree).args([
        "-exec",
        "touch",
        "--no-dereference",
        &format!("--date=@{time}"),
        "{}",
        "+",
    ]);
    process::run(&mut find)
}

/// Packs a folder as the kernel wants it, in an order and with numbers that are always the same.
fn pack(tree: &Path, file: &Path) -> Result<()> {
    let script = "set -o pipefail; find . -print0 | LC_ALL=C sort -z | cpio --null --create \
                  --format=newc --owner=0:0 --reproducible --quiet | gzip -9 --no-name >\"$1\"";
    let mut shell = Command::new("bash");
    process::run(shell.current_dir(tree).args(["-c", script, "pack"]).arg(file))
}
